//! `metrics.jsonl` of a run that is resumed.

#![no_main]

#[path = "../../bdh-callbacks/tests/support/parsers.rs"]
mod parsers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| parsers::jsonl(bytes));
