//! Error for saved state that does not fit this run.

/// Error for saved parameters or states that do not fit this run; the text lists all differences.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Mismatch(String);

impl Mismatch {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Fails if the list has a difference.
    pub(crate) fn check(differences: &[String]) -> Result<(), Self> {
        if differences.is_empty() {
            return Ok(());
        }
        Err(Self(differences.join("; ")))
    }
}
