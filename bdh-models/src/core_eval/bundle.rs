//! Items of CORE, read from a directory.

use super::error::CoreError;
use super::item::Item;
use super::python_random::PythonRandom;
use super::tasks::{CoreTask, TASKS};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Largest file that is read, in bytes. The largest file of a task has about 30 MB.
const FILE_LIMIT: u64 = 256 << 20;

/// Seed of the order of items. Source: nanochat.
const ORDER_SEED: u64 = 1337;

/// Seed of the few-shot examples of the first item; each next item adds 1. Source: nanochat.
const SHOTS_SEED: u64 = 1234;

/// Tasks of a directory, with their items.
#[derive(Debug, Clone)]
pub struct Bundle {
    tasks: Vec<TaskItems>,
    missing: Vec<&'static str>,
}

/// Task with its items, in the order of evaluation.
#[derive(Debug, Clone)]
pub struct TaskItems {
    task: &'static CoreTask,
    items: Vec<Item>,
}

impl Bundle {
    /// Reads nanochat's `eval_bundle`, or a directory with the folders of its `eval_data`.
    ///
    /// The list of tasks is [`TASKS`]: other files, and the bundle's own list, are ignored. At most `max_per_task`
    /// items of each task are kept, in nanochat's order. Few-shot examples come from the kept items.
    ///
    /// # Errors
    ///
    /// [`CoreError::NoTasks`] if the directory has no task; [`CoreError::Unreadable`], [`CoreError::TooLarge`] or
    /// [`CoreError::Line`] for a wrong file; [`CoreError::TooFew`] if a task has too few items for its few-shot
    /// examples. A missing task is not an error: see [`missing`](Self::missing).
    pub fn open(dir: &Path, max_per_task: usize) -> Result<Self, CoreError> {
        let (mut tasks, mut missing) = (Vec::new(), Vec::new());
        for task in &TASKS {
            let places = [dir.join("eval_data").join(task.file), dir.join(task.file)];
            match places.into_iter().find(|path| path.exists()) {
                Some(path) => tasks.push(TaskItems::open(task, &path, max_per_task)?),
                None => missing.push(task.label),
            }
        }
        if tasks.is_empty() {
            return Err(CoreError::NoTasks {
                dir: dir.to_owned(),
            });
        }
        Ok(Self { tasks, missing })
    }

    /// Returns the tasks of the directory, in the order of [`TASKS`].
    #[must_use]
    pub fn tasks(&self) -> &[TaskItems] {
        &self.tasks
    }

    /// Returns the names of the tasks that the directory lacks.
    #[must_use]
    pub fn missing(&self) -> &[&'static str] {
        &self.missing
    }
}

impl TaskItems {
    /// Reads a task's file, shuffles the items like nanochat, and keeps the first `max_per_task`.
    fn open(task: &'static CoreTask, path: &Path, max_per_task: usize) -> Result<Self, CoreError> {
        let mut items = Vec::new();
        for (index, line) in read(path)?.lines().enumerate() {
            let item = Item::parse(task.kind, line).map_err(|source| CoreError::Line {
                path: path.to_owned(),
                line: index + 1,
                source,
            })?;
            items.push(item);
        }
        PythonRandom::new(ORDER_SEED).shuffle(&mut items);
        items.truncate(max_per_task);
        if items.len() <= task.shots {
            return Err(CoreError::TooFew {
                task: task.label,
                items: items.len(),
                shots: task.shots,
            });
        }
        Ok(Self { task, items })
    }

    /// Returns the task.
    #[must_use]
    pub fn task(&self) -> &'static CoreTask {
        self.task
    }

    /// Returns the items. There are more than the task has few-shot examples.
    #[must_use]
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// Returns the few-shot examples of an item, the same ones that nanochat draws.
    #[must_use]
    pub fn shots(&self, item: usize) -> Vec<&Item> {
        let mut random = PythonRandom::new(SHOTS_SEED + item as u64);
        let mut shots = Vec::with_capacity(self.task.shots);
        for other in random.sample(self.items.len() - 1, self.task.shots) {
            let is_behind = other >= item; // the sample leaves the item itself out
            shots.push(&self.items[other + usize::from(is_behind)]);
        }
        shots
    }
}

/// Reads a text file of at most [`FILE_LIMIT`] bytes.
fn read(path: &Path) -> Result<String, CoreError> {
    let failed = |source| CoreError::Unreadable {
        path: path.to_owned(),
        source,
    };
    if !path.is_file() {
        return Err(failed(io::Error::other("it is not a file")));
    }
    let mut text = String::new();
    let file = File::open(path).map_err(failed)?;
    file.take(FILE_LIMIT + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if text.len() as u64 > FILE_LIMIT {
        return Err(CoreError::TooLarge {
            path: path.to_owned(),
            limit: FILE_LIMIT,
        });
    }
    Ok(text)
}
