//! One run, as its directory tells it.

use super::lines;
use bdh::{Jsonl, files, run_dir};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// Longest line of a `metrics.jsonl` that is read, in bytes. One with histograms of a large model has some megabytes.
const MAX_LINE: u64 = 256 << 20;

/// The values of one key with their steps, which increase.
pub type Series = Vec<(u64, f64)>;

/// What a run was, what it recorded, how it ended.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Run {
    /// What it is called where it stands: the path of its directory below the one that was searched.
    pub name: String,
    /// Its directory.
    pub dir: PathBuf,
    /// Each setting of its configuration by its dotted path, such as `user.args.depth`.
    pub config: BTreeMap<String, Value>,
    /// The values that a sweep has chosen for it; empty outside of a sweep.
    pub chosen: BTreeMap<String, Value>,
    /// When it began, in seconds since 1970; 0 if that is not known.
    pub started_at: f64,
    /// The steps that it was to take.
    pub steps: u64,
    /// The steps that it took.
    pub last_step: u64,
    /// The tokens that it saw.
    pub tokens: u64,
    /// How long it trained, in seconds.
    pub seconds: f64,
    /// How it ended.
    pub status: RunStatus,
    /// What it recorded, key by key: of those that were asked for, the ones that it has.
    pub series: BTreeMap<String, Series>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RunStatus {
    /// It ran to its end.
    Completed,
    /// It ran to its end, and its last value is no finite number.
    Diverged,
    /// It was asked to stop.
    Stopped,
    /// It failed, and why.
    Failed(String),
    /// It is under way.
    Running,
    /// Its process is gone, and it has not said how it ended.
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
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// What is read of `run.json`.
#[derive(Deserialize)]
struct RunFile {
    steps: u64,
    #[serde(default)]
    config: Value,
    status: String,
    #[serde(default)]
    outcome: Value,
    #[serde(default)]
    started_at: f64,
}

impl Run {
    /// A run of which nothing is known yet, for readers of other logs.
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

    /// Adds a setting; what is below an object gets a dotted path each.
    pub fn configure(&mut self, key: &str, value: &Value) {
        flatten(key, value, &mut self.config);
    }

    /// Reads a run directory; `keys` are those of its records that are wanted, the first of them the metric.
    ///
    /// # Errors
    ///
    /// If there is no `run.json`, or it describes no run. A run that recorded nothing has no series.
    pub fn read(dir: impl AsRef<Path>, keys: &[&str]) -> Result<Self, RunError> {
        let dir = dir.as_ref();
        let path = dir.join(run_dir::FILE);
        let text = files::read(dir, run_dir::FILE, files::MAX_JSON).map_err(|source| {
            RunError::Unreadable {
                path: path.clone(),
                source,
            }
        })?;
        let file: RunFile =
            serde_json::from_slice(&text).map_err(|source| RunError::NoRun { path, source })?;
        let mut run = Self::new(dir.file_name().unwrap_or_default().to_string_lossy());
        (run.dir, run.steps, run.started_at) = (dir.to_owned(), file.steps, file.started_at);
        run.configure("", &file.config);
        run.read_records(keys)?;
        run.status = run.status_of(&file, keys.first().copied());
        Ok(run)
    }

    fn read_records(&mut self, keys: &[&str]) -> Result<(), RunError> {
        let unreadable = |source| RunError::Unreadable {
            path: self.dir.join(Jsonl::FILE),
            source,
        };
        let file = match files::open(&self.dir, Jsonl::FILE) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            file => file.map_err(unreadable)?,
        };
        let mut series: Vec<Series> = vec![Series::new(); keys.len()];
        let (mut file, mut text) = (BufReader::with_capacity(1 << 20, file), Vec::new());
        loop {
            text.clear();
            // Of a file without ends of lines no more is held than a line may have.
            let read = file.by_ref().take(MAX_LINE).read_until(b'\n', &mut text);
            if read.map_err(unreadable)? == 0 {
                break;
            }
            let Some(line) = lines::read(&text, keys) else {
                continue;
            };
            let Some(step) = line.step else { continue };
            (self.last_step, self.tokens, self.seconds) = (step, line.tokens, line.elapsed);
            for (place, value) in line.values {
                series[place].push((step, value));
            }
        }
        let named = keys.iter().map(ToString::to_string).zip(series);
        self.series = named.filter(|(_, series)| !series.is_empty()).collect();
        Ok(())
    }

    fn status_of(&self, file: &RunFile, metric: Option<&str>) -> RunStatus {
        let diverged = metric
            .and_then(|key| self.last(key))
            .is_some_and(|last| !last.is_finite());
        match file.status.as_str() {
            "completed" if diverged => RunStatus::Diverged,
            "completed" => RunStatus::Completed,
            "stopped" => RunStatus::Stopped,
            "failed" => {
                let why = &file.outcome["failed"];
                RunStatus::Failed(why.as_str().map_or_else(|| why.to_string(), str::to_owned))
            }
            _ if run_dir::is_in_use(&self.dir) => RunStatus::Running,
            _ => RunStatus::Died,
        }
    }

    /// What was recorded under a key; empty if nothing was.
    #[must_use]
    pub fn series(&self, key: &str) -> &[(u64, f64)] {
        self.series.get(key).map_or(&[], Vec::as_slice)
    }

    /// The last value of a key.
    #[must_use]
    pub fn last(&self, key: &str) -> Option<f64> {
        self.series(key).last().map(|(_, value)| *value)
    }

    /// The value of a key at a step, or the last one before it.
    #[must_use]
    pub fn at(&self, key: &str, step: u64) -> Option<f64> {
        let series = self.series(key);
        let after = series.partition_point(|(recorded, _)| *recorded <= step);
        after.checked_sub(1).map(|last| series[last].1)
    }
}

/// Objects become dotted paths; lists stay as they are.
fn flatten(path: &str, value: &Value, into: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(entries) => {
            for (name, value) in entries {
                let below = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                flatten(&below, value, into);
            }
        }
        value => drop(into.insert(path.to_owned(), value.clone())),
    }
}
