//! An entry of it, with its checksum right.

#![no_main]

#[path = "../../bdh-callbacks/tests/support/parsers.rs"]
mod parsers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| parsers::wandb_entry(bytes));
