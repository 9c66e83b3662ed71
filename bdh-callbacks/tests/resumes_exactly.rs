//! A run with every callback of this crate, interrupted and resumed, is the undisturbed run to the bit.

#[path = "../../bdh/tests/support/tiny.rs"]
mod tiny;

use bdh::testing::resume_exact;
use bdh::{Attach, Callback, every, registered_callbacks, start};
use bdh_callbacks as _;

/// Keys of what is measured: time, memory, load.
const MEASURED: [&str; 5] = ["throughput/*", "memory/*", "system/*", "profile/*", "time/*"];

/// Each with its defaults, often enough for a short run.
fn all() -> impl Iterator<Item = Box<dyn Callback>> {
    let entries = registered_callbacks().into_iter();
    entries.filter_map(|entry| {
        let callback = entry.default()?;
        let has_cadence = callback.cadence() != bdh::Cadence::EVERY_STEP;
        let often = if has_cadence { every(2) } else { every(1) };
        Some(Box::new(callback.every(often)) as _)
    })
}

fn run(accumulation: usize) -> tiny::Builder {
    tiny::run_with(0.2, 12)
        .grad_accum_steps(accumulation)
        .clip_grad_norm(0.5)
        .seed(5)
        .eval(start() | every(4))
        .callbacks(all())
}

#[test]
fn a_run_with_every_callback_dropout_and_accumulation() {
    let _alone = tiny::alone();
    resume_exact([1, 4, 7, 11], &MEASURED, || run(2));
}

#[test]
fn a_run_that_is_stopped_in_the_middle_of_an_epoch() {
    let _alone = tiny::alone();
    resume_exact([2, 5], &MEASURED, || run(1));
}
