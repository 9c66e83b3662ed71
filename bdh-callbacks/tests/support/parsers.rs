//! One function for each parser of files that others may have changed.
//!
//! For any bytes a parser returns a value or an error, and never panics. A value is the same after writing and reading it
//! again. Files outside the run stay unchanged. The property tests (`parsers.rs`) and the fuzz targets (`fuzz/`) call these
//! functions.

#![allow(dead_code, reason = "each target takes what it needs")]

#[path = "../../../bdh/tests/support/manifest.rs"]
mod manifests;

use bdh::burn::tensor::TensorData;
use bdh::checkpoint::{Checkpoint, State};
use bdh::sink::Feedback;
use bdh::{Cadence, Clock, Jsonl, Outcome, Record, RunInfo, Sink};
use bdh_callbacks::wandb::{Mode, read_run, repair};
use bdh_callbacks::{TensorBoard, Wandb};
use bdh_forecast::Forecast;
use bdh_sweep::runs::{Keys, Table, read_all, to_forecast};
use bdh_sweep::{Goal, Progress, Sweep, TrialStore};
use manifests::{seal, sha256};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// Step at which runs are resumed here.
pub(crate) const STEP: u64 = 5;

// ── Text ─────────────────────────────────────────────────────────────────────────────────────────────

pub(crate) fn cadence(bytes: &[u8]) {
    let Some(cadence) = text(bytes).and_then(|text| text.parse::<Cadence>().ok()) else {
        return;
    };
    let written = cadence.to_string();
    assert_eq!(written.parse(), Ok(cadence.clone()), "{written}");
    let per_step = Clock {
        step: 1,
        tokens: u64::MAX / 3,
        samples: 4,
        ..Clock::default()
    };
    let _ = cadence.check(&per_step, 20);
    let _ = cadence.firings(&per_step, 20).count();
}

pub(crate) fn callbacks_toml(bytes: &[u8]) {
    if let Some(text) = text(bytes) {
        let _ = bdh::registry::from_toml(text).map_err(|error| error.to_string());
    }
}

pub(crate) fn callbacks_yaml(bytes: &[u8]) {
    if let Some(text) = text(bytes) {
        let _ = bdh::registry::from_yaml(text).map_err(|error| error.to_string());
    }
}

/// Parses a sweep file, and draws trials from it.
pub(crate) fn sweep(bytes: &[u8]) {
    let Some(sweep) = text(bytes).and_then(|text| text.parse::<Sweep>().ok()) else {
        return;
    };
    let space = sweep.space();
    let _ = space.random(7, 3);
    if let Ok(mut grid) = space.grid() {
        let _ = (grid.next(), grid.nth(1_000_000));
    }
    if let Some(hyperband) = sweep.early_terminate {
        let run = Progress {
            history: vec![1.0; 30],
            is_running: true,
        };
        let _ = hyperband.ends(&[run], Goal::Minimize);
    }
}

/// Parses the records of a finished run, as `compare` and `forecast` do.
pub(crate) fn run_records(bytes: &[u8]) {
    compared(
        br#"{"steps":4,"status":"completed","config":{"user":{"lr":1}}}"#,
        bytes,
    );
}

/// Parses the `run.json` of a run, as `compare` and `forecast` do.
pub(crate) fn run_file(bytes: &[u8]) {
    compared(
        bytes,
        b"{\"val_bpb\":3.0,\"step\":2}\n{\"val_bpb\":2.0,\"step\":4}\n",
    );
}

fn compared(run: &[u8], records: &[u8]) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for name in ["a", "b"] {
        fs::create_dir(dir.path().join(name)).expect("a folder");
        fs::write(dir.path().join(name).join("run.json"), run).expect("a file");
        fs::write(dir.path().join(name).join(Jsonl::FILE), records).expect("a file");
    }
    let keys = Keys::new("val_bpb");
    let found = read_all([dir.path()], &keys);
    let table = Table::of(&found.runs, &keys);
    let _ = (
        table.to_string(),
        table.csv(),
        table.html("runs", &found.runs, &keys),
    );
    if let Ok(forecast) = Forecast::of(to_forecast(&found.runs, &keys)) {
        let _ = forecast.report().to_string();
    }
}

/// Parses a trial's file in the folder of a sweep.
pub(crate) fn trial(bytes: &[u8]) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    fs::create_dir(dir.path().join("trials")).expect("a folder");
    fs::write(dir.path().join("trials/0001.json"), bytes).expect("a file");
    let _ = TrialStore::read(dir.path());
    let _ = read_all([dir.path()], &Keys::new("val_bpb"));
}

pub(crate) fn record(bytes: &[u8]) {
    let line = serde_json::from_slice::<Json>(bytes).ok();
    let Some(record) = line.and_then(|line| Record::from_json(&line)) else {
        return;
    };
    let written = record.to_json();
    let again = Record::from_json(&written).expect("a value that was written");
    assert_eq!(again.to_json(), written);
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

// ── Checkpoints ──────────────────────────────────────────────────────────────────────────────────────

/// Returns a small checkpoint with everything that a checkpoint can contain.
pub(crate) fn a_checkpoint() -> Checkpoint {
    let tensor = TensorData::new(vec![1.0_f32, f32::NAN, -0.0, 4.0], [2, 2]);
    let flags = TensorData::new(vec![true, false], [2]);
    let tensors = BTreeMap::from([("weight".to_owned(), tensor), ("mask".to_owned(), flags)]);
    Checkpoint {
        model: tensors.clone(),
        optimizer: BTreeMap::new(),
        copies: BTreeMap::from([("ema".to_owned(), tensors)]),
        state: State {
            clock: Clock {
                step: STEP,
                tokens: 40,
                ..Clock::default()
            },
            pending_evals: None,
            seed: 7,
            data: json!({ "row": 10 }),
            optimizer: BTreeMap::from([("weight.time".to_owned(), json!(5))]),
            callbacks: BTreeMap::from([("spikes".to_owned(), json!([1.5, null]))]),
            interventions: BTreeMap::new(),
            saved_as: BTreeMap::from([("step_5".to_owned(), false)]),
            record: json!({ "train/loss": 0.5, "step": STEP }),
            config: json!({ "trainer": { "steps": 9 } }),
        },
    }
}

/// Returns the bytes of one file of [`a_checkpoint`].
pub(crate) fn a_file_of_it(name: &str) -> Vec<u8> {
    let dir = written();
    fs::read(dir.path().join("step_5").join(name)).expect("a file")
}

/// Returns a folder with one checkpoint.
fn written() -> TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    a_checkpoint()
        .write(&dir.path().join("step_5"), false)
        .expect("written");
    dir
}

pub(crate) fn manifest(bytes: &[u8]) {
    let dir = written();
    let path = dir.path().join("step_5");
    let read = |bytes: &[u8]| {
        fs::write(path.join("manifest.json"), bytes).expect("a file");
        let _ = bdh::checkpoint::latest(dir.path());
        if let Ok(read) = Checkpoint::read(&path) {
            assert_eq!(read.state, a_checkpoint().state);
        }
    };
    read(bytes);
    // An attacker can compute a valid checksum.
    if let Ok(mut manifest @ Json::Object(_)) = serde_json::from_slice(bytes) {
        seal(&mut manifest);
        read(manifest.to_string().as_bytes());
    }
}

pub(crate) fn state(bytes: &[u8]) {
    check_checkpoint("state.json", bytes);
}

pub(crate) fn tensors(bytes: &[u8]) {
    check_checkpoint("model.safetensors", bytes);
}

/// Reads a checkpoint with a foreign file and a manifest that fits it.
fn check_checkpoint(name: &str, bytes: &[u8]) {
    let dir = written();
    let path = dir.path().join("step_5");
    replace(&path, name, bytes);
    let Ok(read) = Checkpoint::read(&path) else {
        return;
    };
    let copy = dir.path().join("copy");
    read.write(&copy, false).expect("a value that was read");
    let again = Checkpoint::read(&copy).expect("a value that was written");
    let bits = |checkpoint: &Checkpoint| -> Vec<(String, Vec<usize>, Vec<u8>)> {
        let tensors = checkpoint.model.iter();
        tensors
            .map(|(name, data)| {
                (
                    name.clone(),
                    data.shape().to_vec(),
                    data.as_bytes().to_vec(),
                )
            })
            .collect()
    };
    assert_eq!(bits(&again), bits(&read));
    assert_eq!(again.state, read.state);
}

/// Replaces a file of a checkpoint, and its size and checksum in the manifest.
pub(crate) fn replace(checkpoint: &Path, name: &str, bytes: &[u8]) {
    let path = checkpoint.join("manifest.json");
    let manifest = fs::read(&path).expect("a manifest");
    let mut manifest: Json = serde_json::from_slice(&manifest).expect("JSON");
    manifest["files"][name] = json!({ "bytes": bytes.len(), "sha256": sha256(bytes) });
    seal(&mut manifest);
    fs::write(path, manifest.to_string()).expect("a file");
    fs::write(checkpoint.join(name), bytes).expect("a file");
}

// ── Files that sinks read ─────────────────────────────────────────────────────────────────────────────

/// Returns a run in `dir` that is resumed at [`STEP`].
pub(crate) fn resumed_run(dir: &Path) -> RunInfo {
    RunInfo {
        name: "run".to_owned(),
        dir: Some(dir.to_owned()),
        steps: 9,
        length: 9.into(),
        seed: 7,
        config: json!({}),
        eval_sets: vec!["val".to_owned()],
        resumed_at: Some(STEP),
        resumed_record: None,
        notes: Vec::new(),
        started_at: 1_700_000_000.25,
        feedback: Feedback::default(),
    }
}

/// Opens a sink for a resumed run whose file `name` contains `bytes`. Returns the file's bytes afterwards.
fn resume(mut sink: impl Sink, name: &str, bytes: &[u8], more: impl Fn(&Path)) -> Option<Vec<u8>> {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let dir = scratch.path().join("run");
    let path = dir.join(name);
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    fs::write(&path, bytes).expect("a file");
    more(&dir);
    if sink.open(&resumed_run(&dir)).is_ok() {
        let clock = Clock {
            step: STEP + 1,
            ..Clock::default()
        };
        let values = vec![("train/loss".to_owned(), bdh::Value::Scalar(0.5))];
        let _ = sink.write(&Record { clock, values });
        let _ = sink.close(&Outcome::Completed);
    }
    let beside = fs::read_dir(scratch.path()).expect("a folder").count();
    assert_eq!(
        beside, 1,
        "something was written outside of the run directory"
    );
    fs::read(path).ok()
}

pub(crate) fn jsonl(bytes: &[u8]) {
    let left = resume(Jsonl::default(), Jsonl::FILE, bytes, |_| {}).expect("metrics.jsonl");
    // The last line is new. The one before may be new too: the record of the resumed step, from the checkpoint.
    let mut ends = left
        .iter()
        .enumerate()
        .rev()
        .filter(|(_, byte)| **byte == b'\n')
        .skip(2);
    let kept = ends.next().map_or(0, |(end, _)| end + 1);
    assert!(bytes.starts_with(&left[..kept]), "only the end is cut");
}

pub(crate) fn events(bytes: &[u8]) {
    let name = "events.out.tfevents.0000000001.bdh.1.0";
    let left = resume(TensorBoard::default(), name, bytes, |_| {}).expect("the old file");
    assert!(bytes.starts_with(&left), "only the end is cut");
}

/// Parses an event with a valid frame, after a valid event.
pub(crate) fn event(message: &[u8]) {
    let length = (message.len() as u64).to_le_bytes();
    let first = an_event_file();
    let first = &first[..16 + usize::from(first[0])]; // the version, by which a writer recognizes its own file
    events(
        &[
            first,
            &length,
            &masked_crc(&length),
            message,
            &masked_crc(message),
        ]
        .concat(),
    );
}

/// Returns the checksum of `TFRecord`.
pub(crate) fn masked_crc(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
        .to_le_bytes()
}

/// Parses an entry of a W&B log with a valid chunk, after valid entries.
pub(crate) fn wandb_entry(message: &[u8]) {
    let log = a_wandb_log();
    let Ok(length) = u16::try_from(message.len()) else {
        return;
    };
    if log.len() + 7 + message.len() > 32 << 10 {
        return; // it would need more than one chunk
    }
    let mut crc = crc32fast::Hasher::new();
    crc.update(&[1]);
    crc.update(message);
    let crc = crc.finalize().to_le_bytes();
    wandb_log(&[&log, &crc[..], &length.to_le_bytes(), &[1], message].concat());
}

/// Path of the log of the W&B run `x`.
pub(crate) const LOG: &str = "wandb/offline-run-1-x/run-x.wandb";

fn offline() -> Wandb {
    Wandb::from_env().mode(Mode::Offline).project("p")
}

/// Writes the pointer of a run directory to its log.
fn point(dir: &Path) {
    fs::create_dir_all(dir.join("wandb/offline-run-1-x/files")).expect("a folder");
    let pointer = json!({ "run_id": "x", "folder": "wandb/offline-run-1-x" });
    fs::write(dir.join("wandb.json"), pointer.to_string()).expect("a file");
}

pub(crate) fn wandb_log(bytes: &[u8]) {
    resume(offline(), LOG, bytes, point);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let log = dir.path().join("run-x.wandb");
    fs::write(&log, bytes).expect("a file");
    let _ = read_run(&log, &["val_bpb", "train/loss"]);
    if let Ok(found) = repair(&log) {
        let again = repair(&log).expect("a log");
        assert_eq!(
            (again.kept, again.damaged),
            (found.kept, 0),
            "a repaired log is intact"
        );
    }
}

pub(crate) fn wandb_pointer(bytes: &[u8]) {
    resume(offline(), "wandb.json", bytes, |dir| {
        fs::create_dir_all(dir).expect("a folder");
    });
}

pub(crate) fn wandb_note(bytes: &[u8]) {
    let log = a_wandb_log();
    resume(offline(), &format!("{LOG}.uploaded"), bytes, |dir| {
        point(dir);
        fs::write(dir.join(LOG), &log).expect("a log");
    });
}

pub(crate) fn tensorboard_note(bytes: &[u8]) {
    let elsewhere = tempfile::tempdir().expect("a temporary directory");
    resume(
        TensorBoard::at(elsewhere.path()),
        "tensorboard.json",
        bytes,
        |_| {},
    );
}

// ── Valid files ────────────────────────────────────────────────────────────────────────

/// Writes a run of eight steps to a sink. Returns the file for which `find` is true.
fn written_by(mut sink: impl Sink, find: impl Fn(&Path) -> bool) -> Vec<u8> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    sink.open(&RunInfo {
        resumed_at: None,
        ..resumed_run(dir.path())
    })
    .expect("an open sink");
    for step in 1..=8 {
        let clock = Clock {
            step,
            ..Clock::default()
        };
        let values = vec![(
            "train/loss".to_owned(),
            bdh::Value::Scalar(1.0 / step as f64),
        )];
        sink.write(&Record { clock, values }).expect("a record");
    }
    sink.close(&Outcome::Completed).expect("a closed sink");
    let mut folders = vec![dir.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if find(&path) {
                return fs::read(path).expect("a file");
            }
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            }
        }
    }
    panic!("the sink has written no such file")
}

pub(crate) fn an_event_file() -> Vec<u8> {
    written_by(TensorBoard::default(), |path| {
        path.to_string_lossy().contains("tfevents")
    })
}

pub(crate) fn a_wandb_log() -> Vec<u8> {
    written_by(offline(), |path| {
        path.extension().is_some_and(|end| end == "wandb") && path.is_file()
    })
}

pub(crate) fn a_metrics_file() -> Vec<u8> {
    written_by(Jsonl::default(), |path| path.ends_with(Jsonl::FILE))
}
