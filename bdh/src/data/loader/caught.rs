//! Panics of datasets and batchers, as errors.

use crate::failure::{BoxError, panic_text};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Calls code of the user, and returns its panic as the error `<name> panicked: …`.
///
/// The values it borrows may be half changed after a panic; the run ends with the error, so nothing reads them again.
pub(super) fn caught<R>(name: &str, call: impl FnOnce() -> R) -> Result<R, BoxError> {
    catch_unwind(AssertUnwindSafe(call))
        .map_err(|panic| format!("{name} panicked: {}", panic_text(&*panic)).into())
}
