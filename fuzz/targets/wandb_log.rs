//! W&B log of a resumed run, and its repair.

#![no_main]

#[path = "../../bdh-callbacks/tests/support/parsers.rs"]
mod parsers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| parsers::wandb_log(bytes));
