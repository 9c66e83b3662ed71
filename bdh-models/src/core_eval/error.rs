//! What can go wrong when a model is to be evaluated on CORE.

use bdh::BoxError;
use std::io;
use std::path::PathBuf;

/// Why there is no score.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CoreError {
    /// The directory has none of the tasks.
    #[error(
        "`{}` has none of CORE's tasks: give nanochat's `eval_bundle`, or a directory with files such as \
         `world_knowledge/arc_easy.jsonl`", dir.display()
    )]
    NoTasks {
        /// The directory.
        dir: PathBuf,
    },
    /// A file is there and cannot be read.
    #[error("`{}` cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// A file is larger than any task's.
    #[error("`{}` is larger than {limit} bytes: no task of CORE is", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The largest size that is read.
        limit: u64,
    },
    /// A line of a file is no item of its task.
    #[error("`{}`, line {line}: {what}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Which field is wrong, and how.
        what: String,
    },
    /// There are not enough items to show some and ask another.
    #[error(
        "task {task} has {items} items, and shows {shots} others with each: it needs {} or more", shots + 1
    )]
    TooFew {
        /// The task.
        task: &'static str,
        /// The items it has, or may have.
        items: usize,
        /// The items it shows.
        shots: usize,
    },
    /// The ids of a context are not the first ids of the context with its continuation.
    #[error(
        "item {item} of {task}: the tokens of its context change when its continuation follows"
    )]
    Tokens {
        /// The task.
        task: &'static str,
        /// The item, from 0 in the order of evaluation.
        item: usize,
    },
    /// The model's losses are NaN.
    #[error("item {item} of {task}: the model's loss is not a number; it may have diverged")]
    NotANumber {
        /// The task.
        task: &'static str,
        /// The item, from 0 in the order of evaluation.
        item: usize,
    },
    /// The model could not score texts.
    #[error("the model cannot score texts: {0}")]
    Model(#[source] BoxError),
}
