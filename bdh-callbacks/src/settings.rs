//! Settings that cannot work, refused in a sentence.

use bdh::{BoxError, Cadence, Clock};
use std::fmt::Display;
use std::ops::RangeBounds;

/// Refuses a value outside of a range; NaN is outside of each. `expected` ends the sentence.
pub(crate) fn within<T: PartialOrd + Display + Copy>(
    field: &str,
    value: T,
    range: impl RangeBounds<T>,
    expected: &str,
) -> Result<(), BoxError> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(format!("`{field}` is {value}; {expected}").into())
}

/// The files that a callback leaves, one for each step but step 0 on which `cadence` is due, for the plan.
pub(crate) fn files(cadence: &Cadence, steps: u64, name: impl Fn(u64) -> String) -> Vec<String> {
    if steps > 10_000_000 {
        return Vec::new(); // nor does the plan list the steps of such a run
    }
    let one_step = Clock {
        step: 1,
        ..Clock::default()
    };
    let firings = cadence.firings(&one_step, steps).filter(|step| *step > 0);
    firings.map(name).collect()
}
