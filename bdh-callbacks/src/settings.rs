//! Settings that cannot work, refused in a sentence.

use bdh::BoxError;
use std::fmt::Display;
use std::ops::RangeBounds;

/// Refuses a value outside of a range; NaN is outside of each. `expected` ends the sentence.
pub(crate) fn within<T: PartialOrd + Display>(
    field: &str,
    value: T,
    range: impl RangeBounds<T>,
    expected: &str,
) -> Result<(), BoxError> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(format!("`{field}` is {value}, {expected}").into())
}
