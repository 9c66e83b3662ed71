//! Where records go, beside `metrics.jsonl`.

mod console;

pub use console::Console;
