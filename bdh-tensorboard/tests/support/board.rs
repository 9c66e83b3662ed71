//! A TensorBoard server, and runs for it to show.

#![allow(dead_code, reason = "each test takes what it needs")]

use crate::judges::Judge;
use bdh::sink::Feedback;
use bdh::{Clock, Outcome, Record, RunInfo, Sink, Value};
use bdh_tensorboard::TensorBoard;
use serde_json::Value as Json;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Reader of the event files.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Loader {
    /// Data server in Rust.
    Fast,
    /// Older reader in Python.
    Slow,
}

pub(crate) const LOADERS: [Loader; 2] = [Loader::Fast, Loader::Slow];

/// Path of the script, from the directory of `judges.rs`, so that tests of other crates find it.
const HTTP: &str = "../../../bdh-tensorboard/tests/judges/tensorboard_http.py";

/// TensorBoard server that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Board<'j> {
    judge: &'j Judge,
    process: Child,
    url: String,
}

impl<'j> Board<'j> {
    pub(crate) fn start(judge: &'j Judge, runs: &Path, loader: Loader) -> Self {
        let fast = matches!(loader, Loader::Fast);
        let mut process = Command::new(judge.bin("tensorboard"))
            .args([
                "--host",
                "127.0.0.1",
                "--port",
                "0",
                "--reload_interval",
                "1",
            ])
            .arg(format!("--load_fast={fast}"))
            .arg("--logdir")
            .arg(runs)
            .env("NO_PROXY", "127.0.0.1,localhost")
            .env("no_proxy", "127.0.0.1,localhost")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("TensorBoard starts");
        let errors = process.stderr.take().expect("its standard error");
        let mut lines = BufReader::new(errors).lines().map_while(Result::ok);
        let address = |line: String| {
            let (_, url) = line.split_once(" at http://")?;
            url.split_whitespace()
                .next()
                .map(|url| format!("http://{url}"))
        };
        let url = lines
            .find_map(address)
            .expect("TensorBoard prints its address");
        std::thread::spawn(move || lines.for_each(drop)); // a full pipe would block TensorBoard
        Self {
            judge,
            process,
            url,
        }
    }

    /// Returns everything that is shown, after waiting for `runs` runs that reach `last_step`.
    pub(crate) fn shows(&self, runs: usize, last_step: u64) -> Json {
        let args = [self.url.clone(), runs.to_string(), last_step.to_string()];
        self.judge.json(HTTP, args)
    }
}

impl Drop for Board<'_> {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Returns the values that `EventAccumulator` reads from each path.
pub(crate) fn accumulated(judge: &Judge, paths: &[&Path]) -> Vec<Json> {
    let read = judge.json("tensorboard_accumulator.py", paths);
    read.as_array().expect("a list").clone()
}

/// Returns a run that writes into `dir`.
pub(crate) fn run(dir: &Path, user: &Json) -> RunInfo {
    RunInfo {
        name: "run".to_owned(),
        dir: Some(dir.to_owned()),
        steps: 10,
        length: 10.into(),
        seed: 7,
        config: serde_json::json!({ "user": user }),
        eval_sets: vec!["val".to_owned()],
        resumed_at: None,
        resumed_record: None,
        notes: Vec::new(),
        started_at: 1_700_000_000.5,
        feedback: Feedback::default(),
    }
}

pub(crate) fn record<K: Into<String>>(
    step: u64,
    values: impl IntoIterator<Item = (K, Value)>,
) -> Record {
    let values = values
        .into_iter()
        .map(|(key, value)| (key.into(), value))
        .collect();
    Record {
        clock: Clock {
            step,
            ..Clock::default()
        },
        values,
    }
}

/// Writes a whole run.
pub(crate) fn write(mut sink: TensorBoard, run: &RunInfo, records: &[Record], end: &Outcome) {
    sink.open(run).expect("a directory");
    for record in records {
        sink.write(record).expect("space");
    }
    sink.close(end).expect("space");
}

/// Returns the points of a scalar as steps and values.
pub(crate) fn points(shown: &Json, run: &str, tag: &str) -> Vec<(u64, f64)> {
    let points = shown["scalars"][run][tag]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let step_and_value = |point: &Json| Some((point[0].as_u64()?, point[1].as_f64()?));
    points
        .iter()
        .map(|point| step_and_value(point).expect("a point"))
        .collect()
}
