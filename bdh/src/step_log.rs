//! The log of one step: values, notices and requests of hooks, until the trainer records the step.

use crate::checkpoint::CheckpointRequest;
use crate::deferred::{self, Deferred, DeferredHistogram};
use crate::device_read::DeviceError;
use crate::names::{is_plain_name, prefixed, prefixed_file};
use crate::outcome::Warning;
use crate::record::{Logged, Value};
use serde::{Deserialize, Serialize};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::PathBuf;

/// Values, notices and requests of the hooks of one step.
///
/// Hooks get shared references only, so the queues are cells.
#[derive(Default)]
pub(crate) struct StepLog {
    logged: RefCell<Vec<(String, Logged)>>,
    /// Numbers to read with the next device read.
    awaited: RefCell<Vec<Deferred>>,
    notices: RefCell<Vec<Notice>>,
    pub(crate) requests: RefCell<Requests>,
    /// The best checkpoint, once a callback has reported it at the end of the run.
    pub(crate) best_checkpoint: RefCell<Option<PathBuf>>,
    /// Failures of callbacks that have not been sent to the sinks yet.
    pub(crate) warnings: RefCell<Vec<Warning>>,
    /// Device reads that callbacks made by themselves; each stalls the device.
    pub(crate) reads: Cell<u64>,
    /// Device reads for what was logged.
    shared_reads: Cell<u64>,
    /// Name of the callback being called; requests are attributed to it.
    pub(crate) caller: RefCell<String>,
    /// Prefixes of that callback, the outermost first.
    prefixes: RefCell<Vec<String>>,
}

/// A line for people, and the numbers in it.
struct Notice {
    values: Vec<Deferred>,
    text: Box<dyn FnOnce() -> String>,
}

/// Requests made during a step; acted on after every callback has been called.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Requests {
    /// The callback that asked to stop, and its reason.
    pub(crate) stop: Option<(String, String)>,
    pub(crate) evaluate: bool,
    /// Requests for checkpoints, each with the name of the callback that asked.
    pub(crate) checkpoints: Vec<(String, CheckpointRequest)>,
}

impl Requests {
    /// Reads the requests of a step whose evals a resume makes.
    pub(crate) fn of_saved(saved: &serde_json::Value) -> Self {
        let mut requests = Self::deserialize(saved).unwrap_or_default();
        // The names come from a checkpoint, and a crafted one must not write outside of the folder.
        requests
            .checkpoints
            .retain(|(_, request)| is_plain_name(&request.name));
        requests
    }

    pub(crate) fn ask_for_checkpoint(&mut self, by: String, request: CheckpointRequest) {
        for (_, known) in &mut self.checkpoints {
            if known.name == request.name {
                known.pinned |= request.pinned;
                return;
            }
        }
        self.checkpoints.push((by, request));
    }
}

/// The contents of a step's log, with all numbers read.
pub(crate) struct Flushed {
    pub(crate) values: Vec<(String, Value)>,
    /// Notices, to be made one by one after the record is sent: each runs code of a callback, which may panic.
    pub(crate) notices: Vec<Box<dyn FnOnce() -> String>>,
}

/// Removes a prefix when dropped, also when the callback panics.
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

    /// Puts values before all values that were logged so far.
    pub(crate) fn log_first(&self, values: Vec<(String, Logged)>) {
        self.logged.borrow_mut().splice(0..0, values);
    }

    /// Adds a notice, made when its numbers have been read.
    pub(crate) fn notice(&self, values: Vec<Deferred>, text: impl FnOnce() -> String + 'static) {
        self.notices.borrow_mut().push(Notice {
            values,
            text: Box::new(text),
        });
    }

    /// Adds a number to the next device read.
    pub(crate) fn read_along(&self, value: &Deferred) {
        if value.value().is_none() {
            self.awaited.borrow_mut().push(value.clone());
        }
    }

    /// Returns the number of values logged so far.
    pub(crate) fn len(&self) -> usize {
        self.logged.borrow().len()
    }

    /// Returns the value logged last under a key.
    pub(crate) fn last(&self, is_key: impl Fn(&str) -> bool) -> Option<Logged> {
        let logged = self.logged.borrow();
        let (_, value) = logged.iter().rev().find(|(key, _)| is_key(key))?;
        Some(value.clone())
    }

    /// Lends the logged values, to remove keys that a callback may not record.
    pub(crate) fn with_logged<R>(&self, change: impl FnOnce(&mut Vec<(String, Logged)>) -> R) -> R {
        change(&mut self.logged.borrow_mut())
    }

    /// Calls a callback under a prefix, which is put into its files and the keys that it logs.
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

    /// Returns the name of a file under the prefixes of the callback being called.
    pub(crate) fn prefixed_file(&self, name: &str) -> String {
        let prefixes = self.prefixes.borrow();
        let mut file = name.to_owned();
        for prefix in prefixes.iter().rev() {
            file = prefixed_file(&file, prefix); // the inner prefix first
        }
        file
    }

    /// Reads the numbers of all values and notices that are still on the device, in one device read.
    ///
    /// # Errors
    ///
    /// If the device failed.
    pub(crate) fn read(&self) -> Result<(), DeviceError> {
        let (logged, notices) = (self.logged.borrow(), self.notices.borrow());
        let DeferredValues {
            mut values,
            histograms,
        } = DeferredValues::of(&logged);
        values.extend(notices.iter().flat_map(|notice| &notice.values));
        let awaited = self.awaited.borrow();
        let was_needed =
            deferred::fetch_all(values.into_iter(), histograms.iter(), awaited.iter())?;
        drop(awaited);
        if was_needed {
            self.awaited.take();
        }
        self.count(was_needed);
        Ok(())
    }

    /// Returns the values logged so far, read but left in the log.
    ///
    /// Numbers that callbacks wait for are read as well, since they may be part of their state.
    ///
    /// # Errors
    ///
    /// If the device failed.
    pub(crate) fn so_far(&self) -> Result<Vec<(String, Value)>, DeviceError> {
        self.read_all()?;
        Ok(resolve(self.logged.borrow().clone()))
    }

    /// Reads the numbers of all values and notices, and those that wait for the next device read, in one device read.
    ///
    /// # Errors
    ///
    /// If the device failed.
    pub(crate) fn read_all(&self) -> Result<(), DeviceError> {
        self.read()?;
        let awaited = self.awaited.take(); // empty if something else was read
        self.count(deferred::fetch(awaited.iter())?);
        Ok(())
    }

    /// Empties the log: values and notices, read together.
    ///
    /// # Errors
    ///
    /// If the device failed; the log is then unchanged.
    pub(crate) fn flush(&self) -> Result<Flushed, DeviceError> {
        self.read()?;
        let values = resolve(self.logged.take());
        let notices = self.notices.take().into_iter();
        let notices = notices.map(|notice| notice.text).collect();
        Ok(Flushed { values, notices })
    }

    /// Returns the number of device reads made for logged values.
    pub(crate) fn shared_reads(&self) -> u64 {
        self.shared_reads.get()
    }

    fn count(&self, was_needed: bool) {
        self.shared_reads
            .set(self.shared_reads.get() + u64::from(was_needed));
    }
}

/// Numbers and histograms among the logged values that may still be on the device.
struct DeferredValues<'a> {
    values: Vec<&'a Deferred>,
    histograms: Vec<DeferredHistogram>,
}

impl<'a> DeferredValues<'a> {
    fn of(logged: &'a [(String, Logged)]) -> Self {
        let (mut values, mut histograms) = (Vec::new(), Vec::new());
        for (_, logged) in logged {
            match logged {
                Logged::Deferred(value) => values.push(value),
                Logged::Histogram(value) => histograms.push(value.clone()),
                Logged::Picture(picture) => histograms.extend(picture.histograms()),
                Logged::Ready(_) => {}
            }
        }
        Self { values, histograms }
    }
}

/// Returns the values that were logged, after they were read: a key that was logged twice keeps its first place and its
/// last value.
fn resolve(logged: Vec<(String, Logged)>) -> Vec<(String, Value)> {
    let mut first_places = Vec::with_capacity(logged.len());
    let mut seen: HashMap<&str, usize> = HashMap::with_capacity(logged.len());
    for (place, (key, _)) in logged.iter().enumerate() {
        first_places.push(*seen.entry(key).or_insert(place));
    }
    let mut values: Vec<Option<(String, Value)>> = Vec::new();
    values.resize_with(logged.len(), || None);
    for ((key, logged), place) in logged.into_iter().zip(first_places) {
        values[place] = Some((key, resolved(logged)));
    }
    values.into_iter().flatten().collect()
}

fn resolved(logged: Logged) -> Value {
    match logged {
        Logged::Ready(value) => value,
        Logged::Deferred(value) => Value::Scalar(value.value().unwrap_or(f64::NAN)),
        Logged::Histogram(value) => Value::Histogram(value.value().unwrap_or_default()),
        Logged::Picture(picture) => {
            picture.begin(); // drawn on another thread while training continues
            Value::Picture(picture)
        }
    }
}
