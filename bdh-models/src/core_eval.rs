//! CORE: 22 tasks that tell what a language model can do, as nanochat evaluates them.
//!
//! ```text
//! directory ──Bundle::open──> items ──Evaluator──> TaskScore ──Report──> CORE, or CORE-18 where four are missing
//!              (strict)         │        ↑
//!             few-shot examples └ prompts, ids, which of them are judged; the model's scores of those ids
//! ```
//!
//! | file               | what it has                                                          |
//! |--------------------|----------------------------------------------------------------------|
//! | `tasks.rs`         | the 22 tasks: files, shots, baselines, delimiters                    |
//! | `bundle.rs`        | reads a directory with their items; `item.rs`: one line of a file    |
//! | `python_random.rs` | CPython's `random`, which decides the order and the few-shot examples |
//! | `prompt.rs`        | items as texts and ids                                               |
//! | `evaluate.rs`      | batches through a model, and who is right                            |
//! | `report.rs`        | accuracies, centered accuracies, standard errors                     |
//! | `callback.rs`      | the same during training                                             |
//! | `from_bpb.rs`      | what CORE to expect of a validation loss                             |
//!
//! A task's accuracy is centered so that chance is 0 and perfection 1, and CORE is the mean over the tasks.
//! Source: Li et al., 2024, *DataComp-LM* (arXiv:2406.11794); karpathy/nanochat, `nanochat/core_eval.py`.

mod bundle;
mod callback;
mod error;
mod evaluate;
mod from_bpb;
mod item;
mod prompt;
mod python_random;
mod report;
mod tasks;

pub use bundle::{Bundle, TaskItems};
pub use callback::CoreMetric;
pub use error::CoreError;
pub use evaluate::Evaluator;
pub use from_bpb::{CoreFromBpb, NoForecast, core_from_bpb};
pub use item::Item;
pub use prompt::{Row, render, rows};
pub use python_random::PythonRandom;
pub use report::{Report, TaskScore};
pub use tasks::{CoreTask, Kind, TASKS};
