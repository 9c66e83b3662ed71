//! Runs of programs that are killed with SIGKILL in the middle and started again.
#![allow(dead_code, reason = "each test uses its part of it")]

use crate::program::{Name, Place};
use bdh::checkpoint::{self, Checkpoint};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

/// Records, checkpoints and the last state of a run, without elapsed times.
pub(crate) struct End {
    records: Vec<Value>,
    /// Names of the complete checkpoints.
    checkpoints: Vec<String>,
    /// Files of tensors in the last checkpoint, by name.
    tensors: BTreeMap<String, Vec<u8>>,
    state: Value,
}

impl End {
    /// Reads the end of a run in a directory of a place.
    pub(crate) fn of<P: Name>(place: &Place<P>, run: &str) -> Self {
        let folder = place.at(run).join("checkpoints");
        let last = checkpoint::latest(&folder).expect("the last checkpoint");
        let state = Checkpoint::read(&last).expect("a whole checkpoint").state;
        let mut state = serde_json::to_value(state).expect("JSON");
        forget_time(&mut state);
        let mut records = place.metrics(run);
        records.iter_mut().for_each(forget_time);
        Self {
            records,
            checkpoints: checkpoint::list(&folder)
                .iter()
                .map(|path| name(path))
                .collect(),
            tensors: tensors(&last),
            state,
        }
    }

    /// Returns the last recorded value of a key.
    pub(crate) fn last(&self, key: &str) -> Option<f64> {
        let mut values = self.records.iter().rev().map(|record| &record[key]);
        values.find_map(Value::as_f64)
    }

    /// Checks that two runs ended equal, to the bit.
    pub(crate) fn assert_same(&self, expected: &Self, how: &str) {
        for (record, expected) in self.records.iter().zip(&expected.records) {
            assert_eq!(record, expected, "{how}");
        }
        let (count, wanted) = (self.records.len(), expected.records.len());
        assert_eq!(count, wanted, "{how}: the number of records");
        assert_eq!(self.checkpoints, expected.checkpoints, "{how}");
        assert!(self.tensors.keys().eq(expected.tensors.keys()), "{how}");
        for (name, bytes) in &self.tensors {
            assert!(*bytes == expected.tensors[name], "{how}: `{name}` differs");
        }
        assert_eq!(self.state, expected.state, "{how}");
    }
}

fn name(path: &Path) -> String {
    let name = path.file_name().expect("a name");
    name.to_string_lossy().into_owned()
}

fn tensors(checkpoint: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut tensors = BTreeMap::new();
    for entry in fs::read_dir(checkpoint).expect("a checkpoint") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|end| end == "safetensors") {
            tensors.insert(name(&path), fs::read(&path).expect("a file"));
        }
    }
    assert!(
        tensors.len() >= 2,
        "model and optimizer: {:?}",
        tensors.keys()
    );
    tensors
}

/// Removes elapsed times.
fn forget_time(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("elapsed");
            fields.values_mut().for_each(forget_time);
        }
        Value::Array(items) => items.iter_mut().for_each(forget_time),
        _ => {}
    }
}

/// Starts a program and kills it once its run has `count` records.
pub(crate) fn kill_at<P: Name>(place: &Place<P>, words: &str, run: &str, count: usize) {
    let mut command = place.command(words);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut program = command.spawn().expect("the program starts");
    let began = Instant::now();
    while num_records(place, run) < count {
        let ended = program.try_wait().expect("a process");
        assert!(ended.is_none(), "it ended before record {count}: {ended:?}");
        let is_late = began.elapsed() > Duration::from_mins(2);
        assert!(!is_late, "{count} records: not within two minutes");
        thread::sleep(Duration::from_millis(1));
    }
    program.kill().expect("a signal"); // SIGKILL, on Unix
    program.wait().expect("it is dead");
    let left = num_records(place, run);
    assert!(left >= count, "records are lost");
}

/// Returns the number of whole records of a run.
fn num_records<P: Name>(place: &Place<P>, run: &str) -> usize {
    let bytes = fs::read(place.at(run).join("metrics.jsonl")).unwrap_or_default();
    bytes.split(|byte| *byte == b'\n').count() - 1 // what follows the last line's end is no whole record
}
