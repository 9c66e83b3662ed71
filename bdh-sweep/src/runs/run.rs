//! One run, as read from its directory.

use super::lines;
use bdh::{Jsonl, files, run_dir};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// Longest line of a `metrics.jsonl` that is read, in bytes. A line with histograms of a large model has some
/// megabytes.
const MAX_LINE: u64 = 256 << 20;

/// Values of one key with their steps, which increase.
pub type Series = Vec<(u64, f64)>;

/// A recorded run: its settings, its records, its end.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Run {
    /// Name: the path of the run directory below the searched folder.
    pub name: String,
    /// Run directory.
    pub dir: PathBuf,
    /// Configuration, by dotted paths such as `user.args.depth`.
    pub config: BTreeMap<String, Value>,
    /// Values that a sweep has chosen for this run; empty outside of a sweep.
    pub chosen: BTreeMap<String, Value>,
    /// Start time in seconds since 1970; 0 if unknown.
    pub started_at: f64,
    /// Planned number of steps. For a run that is limited by time it is the number that the run took, and 0 before the
    /// run is completed.
    pub steps: u64,
    /// Last recorded step.
    pub last_step: u64,
    /// Number of tokens trained on.
    pub tokens: u64,
    /// Training time in seconds.
    pub seconds: f64,
    /// Status.
    pub status: RunStatus,
    /// Recorded values of the requested keys; a key without values is absent.
    pub series: BTreeMap<String, Series>,
}

/// Status of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RunStatus {
    /// Finished.
    Completed,
    /// Finished, with a last value that is not finite.
    Diverged,
    /// Stopped on request.
    Stopped,
    /// Failed, for this reason.
    Failed(String),
    /// In progress.
    Running,
    /// Dead: the process is gone and has not recorded an end.
    Died,
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Completed => "completed",
            Self::Diverged => "diverged",
            Self::Stopped => "stopped",
            Self::Failed(_) => "failed",
            Self::Running => "running",
            Self::Died => "died",
        })
    }
}

/// A run directory that cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A file cannot be read.
    #[error("`{}` cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// `run.json` does not describe a run.
    #[error("`{}` does not describe a run: {source}", path.display())]
    NoRun {
        /// The file.
        path: PathBuf,
        /// The error in the file.
        source: serde_json::Error,
    },
}

/// The keys of `run.json` that are read.
#[derive(Deserialize)]
struct RunFile {
    /// Number of steps; 0 if the run is limited by time.
    steps: u64,
    #[serde(default)]
    config: Value,
    status: String,
    #[serde(default)]
    outcome: Value,
    #[serde(default)]
    started_at: f64,
}

impl RunFile {
    /// Returns the reason of a failure.
    fn failure(&self) -> String {
        match &self.outcome["failed"] {
            Value::String(why) => why.clone(),
            why => why.to_string(),
        }
    }
}

impl Run {
    /// Creates an empty run, for readers of other logs.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            dir: PathBuf::new(),
            config: BTreeMap::new(),
            chosen: BTreeMap::new(),
            started_at: 0.0,
            steps: 0,
            last_step: 0,
            tokens: 0,
            seconds: 0.0,
            status: RunStatus::Completed,
            series: BTreeMap::new(),
        }
    }

    /// Adds a setting; entries of an object get dotted paths.
    pub fn configure(&mut self, key: &str, value: &Value) {
        flatten(key, value, &mut self.config);
    }

    /// Reads a run directory, with the records of `keys`, the first of them the metric.
    ///
    /// A run without records has no series.
    ///
    /// # Errors
    ///
    /// If `run.json` is missing or does not describe a run, or a file cannot be read.
    pub fn read(dir: impl AsRef<Path>, keys: &[&str]) -> Result<Self, RunError> {
        let dir = dir.as_ref();
        let file = read_run_file(dir)?;
        let mut run = Self::new(dir.file_name().unwrap_or_default().to_string_lossy());
        (run.dir, run.steps, run.started_at) = (dir.to_owned(), file.steps, file.started_at);
        run.configure("", &file.config);
        run.read_records(keys)
            .map_err(|source| RunError::Unreadable {
                path: dir.join(Jsonl::FILE),
                source,
            })?;
        run.status = run.status_of(&file, keys.first().copied());
        if run.steps == 0 && file.status == "completed" {
            run.steps = run.last_step; // limited by time, so not known before
        }
        Ok(run)
    }

    fn read_records(&mut self, keys: &[&str]) -> io::Result<()> {
        let Some(file) = open_records(&self.dir)? else {
            return Ok(());
        };
        let mut series = vec![Series::new(); keys.len()];
        // A buffer of 1 MiB: files have up to gigabytes, and several are read at once.
        let mut reader = BufReader::with_capacity(1 << 20, file);
        let mut text = Vec::new();
        while read_line(&mut reader, &mut text)? > 0 {
            // An incomplete line is the last one of a run that died.
            if let Some(line) = lines::read(&text, keys) {
                self.add_line(line, &mut series);
            }
        }
        for (key, series) in keys.iter().zip(series) {
            if !series.is_empty() {
                self.series.insert((*key).to_owned(), series);
            }
        }
        Ok(())
    }

    fn add_line(&mut self, line: lines::Line, series: &mut [Series]) {
        let Some(step) = line.step else { return };
        (self.last_step, self.tokens, self.seconds) = (step, line.tokens, line.elapsed);
        for (index, value) in line.values {
            series[index].push((step, value));
        }
    }

    fn status_of(&self, file: &RunFile, metric: Option<&str>) -> RunStatus {
        match file.status.as_str() {
            "completed" => match metric.and_then(|key| self.last(key)) {
                Some(last) if !last.is_finite() => RunStatus::Diverged,
                _ => RunStatus::Completed,
            },
            "stopped" => RunStatus::Stopped,
            "failed" => RunStatus::Failed(file.failure()),
            _ if run_dir::is_in_use(&self.dir) => RunStatus::Running,
            _ => RunStatus::Died,
        }
    }

    /// Returns the recorded values of a key; empty if there are none.
    #[must_use]
    pub fn series(&self, key: &str) -> &[(u64, f64)] {
        self.series.get(key).map_or(&[], Vec::as_slice)
    }

    /// Returns the last value of a key.
    #[must_use]
    pub fn last(&self, key: &str) -> Option<f64> {
        self.series(key).last().map(|(_, value)| *value)
    }

    /// Returns the value of a key at a step, or the last one before it.
    #[must_use]
    pub fn at(&self, key: &str, step: u64) -> Option<f64> {
        let series = self.series(key);
        let after = series.partition_point(|(recorded, _)| *recorded <= step);
        series[..after].last().map(|(_, value)| *value)
    }
}

fn read_run_file(dir: &Path) -> Result<RunFile, RunError> {
    let path = dir.join(run_dir::FILE);
    let text = match files::read(dir, run_dir::FILE, files::MAX_JSON) {
        Ok(text) => text,
        Err(source) => return Err(RunError::Unreadable { path, source }),
    };
    serde_json::from_slice(&text).map_err(|source| RunError::NoRun { path, source })
}

/// Opens the records of a run; `None` if it has none.
fn open_records(dir: &Path) -> io::Result<Option<File>> {
    match files::open(dir, Jsonl::FILE) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads a line into `text` and returns its length; 0 at the end.
///
/// In a file without line ends, at most [`MAX_LINE`] bytes are held in memory.
fn read_line(reader: &mut BufReader<File>, text: &mut Vec<u8>) -> io::Result<usize> {
    text.clear();
    reader.by_ref().take(MAX_LINE).read_until(b'\n', text)
}

/// Collects the entries of objects under dotted paths; lists stay as they are.
fn flatten(path: &str, value: &Value, into: &mut BTreeMap<String, Value>) {
    let Value::Object(entries) = value else {
        into.insert(path.to_owned(), value.clone());
        return;
    };
    for (name, value) in entries {
        if path.is_empty() {
            flatten(name, value, into);
        } else {
            flatten(&format!("{path}.{name}"), value, into);
        }
    }
}
