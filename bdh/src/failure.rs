//! Errors and panics of unknown types, and their texts.

/// An error of somebody else's making, with its cause.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What every hook returns: an error is treated by the callback's [`OnError`](crate::OnError).
pub type HookResult = Result<(), BoxError>;

/// Gives an error and all its causes as one sentence.
///
/// A cause that the text before it contains is not repeated: our own errors contain their cause, others leave it to the
/// program that prints them.
///
/// # Examples
///
/// ```
/// let missing = std::io::Error::other(bdh::BoxError::from("the disk is full"));
/// assert_eq!(bdh::with_causes(&missing), "the disk is full");
///
/// #[derive(Debug, thiserror::Error)]
/// #[error("`run.json` cannot be written")]
/// struct Unwritten(#[source] std::io::Error);
///
/// assert_eq!(bdh::with_causes(&Unwritten(missing)), "`run.json` cannot be written: the disk is full");
/// ```
#[must_use]
pub fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    for cause in std::iter::successors(error.source(), |cause| cause.source()) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// What a panic said, where it said something.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}
