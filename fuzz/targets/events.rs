//! TensorBoard event files of a resumed run.

#![no_main]

#[path = "../../bdh-callbacks/tests/support/parsers.rs"]
mod parsers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| parsers::events(bytes));
