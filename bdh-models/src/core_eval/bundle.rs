//! The items of CORE, from a directory.

use super::error::CoreError;
use super::item::Item;
use super::python_random::PythonRandom;
use super::tasks::{CoreTask, TASKS};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// More than any task's file has; the largest is of some 30 MB.
const FILE_LIMIT: u64 = 256 << 20;

/// What the order of every task's items is drawn from.
const ORDER_SEED: u64 = 1337;

/// The tasks that a directory has, with their items.
#[derive(Debug, Clone)]
pub struct Bundle {
    tasks: Vec<TaskItems>,
    missing: Vec<&'static str>,
}

/// A task with its items, in the order of evaluation.
#[derive(Debug, Clone)]
pub struct TaskItems {
    task: &'static CoreTask,
    items: Vec<Item>,
}

impl Bundle {
    /// Reads nanochat's `eval_bundle`, or a directory with the folders of its `eval_data`. What is no task of CORE is
    /// not looked at, nor is the bundle's own list of tasks: [`TASKS`] is that list.
    ///
    /// Of each task's items, in nanochat's order, it keeps `max_per_task` at most; few-shot examples are taken from
    /// those too.
    ///
    /// # Errors
    ///
    /// [`CoreError::NoTasks`] if there is none; [`CoreError::Line`] and its like if the file of one is not as it should
    /// be; [`CoreError::TooFew`] if a task has too few items left to show some. A file that is missing is no error:
    /// see [`missing`](Self::missing).
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

    /// The tasks that there are, in the order of [`TASKS`].
    #[must_use]
    pub fn tasks(&self) -> &[TaskItems] {
        &self.tasks
    }

    /// The names of those that there are not.
    #[must_use]
    pub fn missing(&self) -> &[&'static str] {
        &self.missing
    }
}

impl TaskItems {
    /// Takes the first `max_per_task` items of a task's file, after nanochat's shuffle.
    fn open(task: &'static CoreTask, path: &Path, max_per_task: usize) -> Result<Self, CoreError> {
        let text = read(path)?;
        let parse = |(line, text)| {
            Item::parse(task.kind, text).map_err(|what| CoreError::Line {
                path: path.to_owned(),
                line: line + 1,
                what,
            })
        };
        let mut items: Vec<_> = text
            .lines()
            .enumerate()
            .map(parse)
            .collect::<Result<_, _>>()?;
        PythonRandom::new(ORDER_SEED).shuffle(&mut items);
        items.truncate(max_per_task);
        if items.len() <= task.shots {
            let (task, items, shots) = (task.label, items.len(), task.shots);
            return Err(CoreError::TooFew { task, items, shots });
        }
        Ok(Self { task, items })
    }

    /// The task.
    #[must_use]
    pub fn task(&self) -> &'static CoreTask {
        self.task
    }

    /// Its items; more than it shows.
    #[must_use]
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// The items that are shown before one, drawn as nanochat draws them.
    #[must_use]
    pub fn shots(&self, item: usize) -> Vec<&Item> {
        let mut random = PythonRandom::new(1234 + item as u64);
        let others = random
            .sample(self.items.len() - 1, self.task.shots)
            .into_iter();
        others
            .map(|other| &self.items[other + usize::from(other >= item)])
            .collect()
    }
}

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
