//! Errors and panics of unknown types, and their texts.

/// An error of any type, with its causes.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The result of a hook. An error is handled by the callback's [`ErrorPolicy`](crate::ErrorPolicy).
pub type HookResult = Result<(), BoxError>;

/// Returns an error and all its causes as one sentence.
///
/// A cause is not repeated if the text before it contains it: errors of this library contain their causes, while others
/// leave printing the causes to the program.
///
/// # Examples
///
/// ```
/// let missing = std::io::Error::other(bdh::BoxError::from("the disk is full"));
/// assert_eq!(bdh::error::with_causes(&missing), "the disk is full");
///
/// #[derive(Debug, thiserror::Error)]
/// #[error("`run.json` cannot be written")]
/// struct Unwritten(#[source] std::io::Error);
///
/// assert_eq!(bdh::error::with_causes(&Unwritten(missing)), "`run.json` cannot be written: the disk is full");
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

/// Returns the message of a panic.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        return (*text).to_owned();
    }
    match panic.downcast_ref::<String>() {
        Some(text) => text.clone(),
        None => "no message".to_owned(),
    }
}
