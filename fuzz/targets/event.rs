//! An event in them, with its checksums right.

#![no_main]

#[path = "../../bdh-callbacks/tests/support/parsers.rs"]
mod parsers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| parsers::event(bytes));
