//! Checks of settings, names of metrics, and the files that a cadence announces.

use bdh::{BoxError, Cadence, Clock};
use std::fmt::Display;
use std::ops::RangeBounds;

/// Above this many steps no files are listed, as the plan lists no steps of such a run.
const MAX_LISTED_STEPS: u64 = 10_000_000;

/// Returns an error for a value outside a range, with `expected` as the advice. NaN is outside every range.
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

/// Returns the key of a metric of an eval set. The metric's name may begin with the set's already.
pub(crate) fn key_of(metric: &str, set: &str) -> String {
    let rest = metric.strip_prefix(set).unwrap_or_default();
    if rest.starts_with('/') {
        metric.to_owned()
    } else {
        format!("{set}/{metric}")
    }
}

/// Lists, for the plan, the files of a callback that writes one on each due step except step 0.
pub(crate) fn files(cadence: &Cadence, steps: u64, name: impl Fn(u64) -> String) -> Vec<String> {
    if steps > MAX_LISTED_STEPS {
        return Vec::new();
    }
    let one_step = Clock {
        step: 1,
        ..Clock::default()
    };
    let due = cadence.firings(&one_step, steps);
    due.filter(|step| *step > 0).map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_has_the_set_once() {
        let keys = ["loss", "val/loss", "validity"].map(|metric| key_of(metric, "val"));
        assert_eq!(keys, ["val/loss", "val/loss", "val/validity"]);
    }
}
