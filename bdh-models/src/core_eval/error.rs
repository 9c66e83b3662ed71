//! Errors of an evaluation on CORE.

use super::item::ItemError;
use bdh::BoxError;
use std::io;
use std::path::PathBuf;

/// Error of an evaluation on CORE.
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
    /// A file exists but cannot be read.
    #[error("`{}` cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
    /// A file is larger than any task's file.
    #[error("`{}` is larger than {limit} bytes, the limit for a task of CORE", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Largest size that is read, in bytes.
        limit: u64,
    },
    /// A line of a file is not an item of its task.
    #[error("`{}`, line {line}: {source}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// The wrong field.
        source: ItemError,
    },
    /// A task has too few items for its few-shot examples.
    #[error(
        "task {task} has {items} items and {shots} few-shot examples: it needs {} items or more", shots + 1
    )]
    TooFew {
        /// The task.
        task: &'static str,
        /// Number of items that are left.
        items: usize,
        /// Number of few-shot examples.
        shots: usize,
    },
    /// The tokenizer changes the ids of a context when a continuation follows.
    #[error(
        "item {item} of {task}: the tokens of the context change when the continuation is appended"
    )]
    Tokens {
        /// The task.
        task: &'static str,
        /// Number of the item, from 0 in the order of evaluation.
        item: usize,
    },
    /// A loss of the model is NaN.
    #[error("item {item} of {task}: the model's loss is NaN; the training may have diverged")]
    NotANumber {
        /// The task.
        task: &'static str,
        /// Number of the item, from 0 in the order of evaluation.
        item: usize,
    },
    /// The model could not score texts.
    #[error("the model cannot score texts: {0}")]
    Model(#[source] BoxError),
}
