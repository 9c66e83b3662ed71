//! Errors as the end of a program shows them.

use super::BoxError;
use crate::failure::with_causes;
use std::fmt;

/// The result of `main`: an error is printed as a sentence with its causes, where `Box<dyn Error>` prints a `Debug`.
///
/// # Examples
///
/// ```
/// fn main() -> bdh::Result {
///     let device = bdh::device("cpu")?;
///     Ok(())
/// }
/// ```
pub type Result<T = (), E = Report> = std::result::Result<T, E>;

/// Any error, for printing: `{}` and `{:?}` both give its text with all causes.
pub struct Report(BoxError);

impl<E: Into<BoxError>> From<E> for Report {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&with_causes(&*self.0))
    }
}

/// The text: `main` prints an error by its `Debug`.
impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cadence::CadenceError;
    use crate::error::{ConfigError, TrainError};
    use std::io;

    fn refused() -> ConfigError {
        ConfigError::Cadence {
            whose: "eval".to_owned(),
            source: CadenceError::EmptyList,
        }
    }

    #[test]
    fn an_error_of_main_is_a_sentence_with_each_cause_once() {
        let report: Report = TrainError::from(refused()).into();
        let expected = "the trainer is not configured correctly: the cadence of eval cannot work: \
                        cadence `at` has an empty list; use `never`, or a list such as `at 250,500 steps`";
        assert_eq!(
            (report.to_string(), format!("{report:?}")),
            (expected.into(), expected.into())
        );
    }

    #[test]
    fn every_error_with_a_cause_shows_it_in_its_own_text() {
        let cause = || -> BoxError { "the cause".into() };
        let disk = || io::Error::other("the cause");
        let saved = || crate::error::CheckpointError::Io {
            path: "a/b".into(),
            source: disk(),
        };
        let errors: [BoxError; 10] = [
            ConfigError::Callback {
                name: "a".into(),
                source: cause(),
            }
            .into(),
            ConfigError::Syntax(cause()).into(),
            ConfigError::EvalData {
                set: "val".into(),
                batch: 0,
                source: cause(),
            }
            .into(),
            ConfigError::RunDir {
                path: "a".into(),
                source: disk(),
            }
            .into(),
            ConfigError::Resume(saved()).into(),
            TrainError::Callback {
                callback: "a".into(),
                hook: "on_step",
                step: 1,
                source: cause(),
            }
            .into(),
            TrainError::Data {
                step: 1,
                source: cause(),
            }
            .into(),
            TrainError::Unsaved {
                step: 1,
                source: saved(),
            }
            .into(),
            TrainError::Replay(saved()).into(),
            saved().into(),
        ];
        for error in errors {
            assert!(error.to_string().ends_with(": the cause"), "{error}");
            assert_eq!(
                with_causes(&*error),
                error.to_string(),
                "a cause is told once"
            );
        }
    }
}
