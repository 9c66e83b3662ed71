//! Errors of an evaluation on HellaSwag.

use bdh::BoxError;
use std::io;
use std::path::PathBuf;

/// Error of an evaluation on HellaSwag.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HellaSwagError {
    /// The file cannot be read.
    #[error("cannot read `{}` ({source}): give the file hellaswag_val.jsonl", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
    /// A line is no question with its answer.
    #[error(
        "`{}`, line {line}: {why}; a line has `ctx`, `endings` and the number of the right ending as `label`, which \
         the file of the test split lacks",
        path.display()
    )]
    Line {
        /// The file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// The wrong field, as a clause.
        why: String,
    },
    /// The file has no line.
    #[error("`{}` has no question: give the file hellaswag_val.jsonl", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A loss of the model is NaN.
    #[error(
        "question {item} of HellaSwag: the model's loss is NaN; the training may have diverged"
    )]
    NotANumber {
        /// Number of the question, from 0.
        item: usize,
    },
    /// The model could not score texts.
    #[error("the model cannot score texts: {0}")]
    Model(#[source] BoxError),
}
