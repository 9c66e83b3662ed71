//! The log of one step: what hooks record, say and ask for, until the trainer records the step.

use crate::checkpoint::CheckpointRequest;
use crate::deferred::{self, Deferred};
use crate::names::{prefixed, prefixed_file};
use crate::outcome::Problem;
use crate::record::{Logged, Value};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;

/// Everything that the hooks of a step leave behind. Hooks see it shared, so its queues are cells.
#[derive(Default)]
pub(crate) struct StepLog {
    logged: RefCell<Vec<(String, Logged)>>,
    /// Numbers to read with the next device read, whenever that is.
    awaited: RefCell<Vec<Deferred>>,
    said: RefCell<Vec<Line>>,
    pub(crate) requests: RefCell<Requests>,
    /// Failures of callbacks that no sink has been told of yet.
    pub(crate) problems: RefCell<Vec<Problem>>,
    /// Device reads that callbacks made by themselves; each stalls the device.
    pub(crate) reads: Cell<u64>,
    /// Device reads for what was logged.
    shared_reads: Cell<u64>,
    /// Name of the callback being called; requests are attributed to it.
    pub(crate) caller: RefCell<String>,
    /// Prefixes of that callback, the outermost first.
    prefixes: RefCell<Vec<String>>,
}

/// A line for a person, and the numbers in it.
struct Line {
    values: Vec<Deferred>,
    text: Box<dyn FnOnce() -> String>,
}

/// Requests made during a step; acted on after every callback has been called.
#[derive(Default)]
pub(crate) struct Requests {
    /// The callback that asked to stop, and its reason.
    pub(crate) stop: Option<(String, String)>,
    pub(crate) evaluate: bool,
    /// Each with the name of the callback that asked.
    pub(crate) checkpoints: Vec<(String, CheckpointRequest)>,
}

impl Requests {
    pub(crate) fn ask_for_checkpoint(&mut self, by: String, request: CheckpointRequest) {
        match self
            .checkpoints
            .iter_mut()
            .find(|(_, known)| known.name == request.name)
        {
            Some((_, known)) => known.pinned |= request.pinned,
            None => self.checkpoints.push((by, request)),
        }
    }
}

/// The contents of a step's log, with all numbers read.
pub(crate) struct Flushed {
    pub(crate) values: Vec<(String, Value)>,
    /// Made one by one, after the record is sent: each runs code of a callback, which may panic.
    pub(crate) lines: Vec<Box<dyn FnOnce() -> String>>,
}

/// Takes a prefix away again, also when the callback panics.
struct Prefixed<'a>(&'a StepLog);

impl Drop for Prefixed<'_> {
    fn drop(&mut self) {
        self.0.prefixes.borrow_mut().pop();
    }
}

impl StepLog {
    /// Adds a value under a key.
    pub(crate) fn log(&self, key: String, value: Logged) {
        self.logged.borrow_mut().push((key, value));
    }

    /// Puts values before all that was logged so far.
    pub(crate) fn log_first(&self, values: Vec<(String, Logged)>) {
        self.logged.borrow_mut().splice(0..0, values);
    }

    /// Adds a line for a person, made when its numbers have been read.
    pub(crate) fn say(&self, values: Vec<Deferred>, text: impl FnOnce() -> String + 'static) {
        self.said.borrow_mut().push(Line {
            values,
            text: Box::new(text),
        });
    }

    /// Has a number read with the next device read.
    pub(crate) fn read_along(&self, value: &Deferred) {
        if value.value().is_none() {
            self.awaited.borrow_mut().push(value.clone());
        }
    }

    /// The number of values logged so far.
    pub(crate) fn len(&self) -> usize {
        self.logged.borrow().len()
    }

    /// The value logged last under a key.
    pub(crate) fn last(&self, is_key: impl Fn(&str) -> bool) -> Option<Logged> {
        let logged = self.logged.borrow();
        logged
            .iter()
            .rev()
            .find(|(key, _)| is_key(key))
            .map(|(_, value)| value.clone())
    }

    /// Lends all that was logged, to take out keys that a callback may not record.
    pub(crate) fn with_logged<R>(&self, change: impl FnOnce(&mut Vec<(String, Logged)>) -> R) -> R {
        change(&mut self.logged.borrow_mut())
    }

    /// Calls a callback under a prefix, which its files and the keys that it logs get.
    pub(crate) fn under_prefix<R>(&self, prefix: Option<&str>, call: impl FnOnce() -> R) -> R {
        let Some(prefix) = prefix else { return call() };
        let from = self.len();
        self.prefixes.borrow_mut().push(prefix.to_owned());
        let prefixes = Prefixed(self);
        let result = call();
        drop(prefixes);
        for (key, _) in self.logged.borrow_mut().iter_mut().skip(from) {
            *key = prefixed(key, prefix);
        }
        result
    }

    /// The name of a file under the prefixes of the callback being called.
    pub(crate) fn prefixed_file(&self, name: &str) -> String {
        let prefixes = self.prefixes.borrow();
        let inner_first = prefixes.iter().rev();
        inner_first.fold(name.to_owned(), |name, prefix| prefixed_file(&name, prefix))
    }

    /// Reads, in one device read, all that was logged or said and is still on the device.
    ///
    /// # Errors
    ///
    /// The device's, if it failed.
    pub(crate) fn read(&self) -> Result<(), String> {
        let (logged, said) = (self.logged.borrow(), self.said.borrow());
        let mut values: Vec<&Deferred> = Vec::new();
        let mut histograms = Vec::new();
        for (_, logged) in logged.iter() {
            match logged {
                Logged::Deferred(value) => values.push(value),
                Logged::Histogram(value) => histograms.push(value.clone()),
                Logged::Picture(picture) => histograms.extend(picture.histograms()),
                Logged::Ready(_) => {}
            }
        }
        values.extend(said.iter().flat_map(|line| &line.values));
        let awaited = self.awaited.borrow();
        let was_needed = deferred::read_all(values.into_iter(), histograms.iter(), awaited.iter())?;
        drop(awaited);
        if was_needed {
            self.awaited.take();
        }
        self.count(was_needed);
        Ok(())
    }

    /// The values as they stand, read but left in the log; numbers that callbacks wait for are read as well, since they
    /// may be part of their state.
    ///
    /// # Errors
    ///
    /// The device's, if it failed.
    pub(crate) fn so_far(&self) -> Result<Vec<(String, Value)>, String> {
        self.read()?;
        let awaited = self.awaited.take();
        self.count(deferred::read(awaited.iter())?);
        Ok(resolve(self.logged.borrow().clone()))
    }

    /// Empties the log: values and lines, read together.
    ///
    /// # Errors
    ///
    /// The device's, if it failed; the log is then as it was.
    pub(crate) fn flush(&self) -> Result<Flushed, String> {
        self.read()?;
        let values = resolve(self.logged.take());
        let lines = self.said.take().into_iter().map(|line| line.text).collect();
        Ok(Flushed { values, lines })
    }

    /// Device reads that were made for logged values.
    pub(crate) fn shared_reads(&self) -> u64 {
        self.shared_reads.get()
    }

    fn count(&self, was_needed: bool) {
        self.shared_reads
            .set(self.shared_reads.get() + u64::from(was_needed));
    }
}

/// The values of what was logged and read: a key logged twice keeps its first place and its last value.
fn resolve(logged: Vec<(String, Logged)>) -> Vec<(String, Value)> {
    let mut places = HashMap::with_capacity(logged.len());
    let first = |(index, (key, _))| *places.entry(key).or_insert(index);
    let logged_at: Vec<usize> = logged
        .iter()
        .map(|(key, value)| (key.as_str(), value))
        .enumerate()
        .map(first)
        .collect();

    let mut values: Vec<Option<(String, Value)>> = Vec::new();
    values.resize_with(logged.len(), || None);
    for ((key, logged), place) in logged.into_iter().zip(logged_at) {
        let value = match logged {
            Logged::Ready(value) => value,
            Logged::Deferred(value) => Value::Scalar(value.value().unwrap_or(f64::NAN)),
            Logged::Histogram(value) => Value::Histogram(value.value().unwrap_or_default()),
            Logged::Picture(picture) => {
                picture.begin();
                Value::Picture(picture)
            }
        };
        values[place] = Some((key, value));
    }
    values.into_iter().flatten().collect()
}
