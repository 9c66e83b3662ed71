//! Summary of a finished run for scripts and agents: `key=value` lines.
//!
//! | key | value | present |
//! |---|---|---|
//! | `val_bpb` | validation loss in bits per byte, after the last step | if it was evaluated there |
//! | `core_metric` | CORE on all 22 tasks, after the last step | if it was evaluated there |
//! | `training_seconds` | time of the steps, also of those before a resume | always |
//! | `total_seconds` | time of this process, with loading, evals and checkpoints | always |
//! | `peak_memory_mb` | most memory in MiB: of the device if its allocator reports it, otherwise of the process | if known |
//! | `tokens` | tokens trained on | always |
//! | `num_steps` | completed updates | always |
//! | `num_params` | parameters of the model | always |
//! | `mfu` | percent of the device's peak, over all of `training_seconds` | if the peak is known |
//! | `run_dir` | directory of the run | always |
//!
//! Grammar: a line is a key, `=` and a value. A key consists of the letters `a` to `z` and `_`, and is there at most once.
//! The value is the rest of the line, without quotes, so the path in `run_dir` may have spaces; a line break in it is
//! written as `\n`. Numbers are decimal, or `NaN`, `inf` or `-inf`. Lines keep the order of the table.

mod memory;

pub use memory::{host_peak, peak_memory};

use bdh::lines::printable;
use bdh::{ConfigError, Record, TrainResult, number, run_dir};
use serde_json::{Map, Value, json};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Summary of a finished run; prints as `key=value` lines.
///
/// # Examples
///
/// ```
/// use bdh_examples::summary::Summary;
/// use std::time::Duration;
///
/// let summary = Summary {
///     val_bpb: Some(4.070_303),
///     training_seconds: Duration::from_millis(3_250),
///     num_steps: 40,
///     run_dir: "runs/d2 again".into(),
///     ..Summary::default()
/// };
/// let text = summary.to_string();
/// assert!(text.starts_with("val_bpb=4.070303\ntraining_seconds=3.250\n"));
/// assert!(text.ends_with("\nrun_dir=runs/d2 again"));
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Summary {
    /// Validation loss in bits per byte, if it was evaluated after the last step.
    pub val_bpb: Option<f64>,
    /// CORE on all tasks, if it was evaluated after the last step.
    pub core_metric: Option<f64>,
    /// Time of the steps, also of those before a resume.
    pub training_seconds: Duration,
    /// Time of this process.
    pub total_seconds: Duration,
    /// Most memory in MiB.
    pub peak_memory_mb: Option<f64>,
    /// Tokens trained on.
    pub tokens: u64,
    /// Completed updates.
    pub num_steps: u64,
    /// Parameters of the model.
    pub num_params: u64,
    /// Percent of the peak of all devices, over all steps.
    pub mfu: Option<f64>,
    /// Directory of the run.
    pub run_dir: PathBuf,
}

impl Summary {
    /// Creates the summary of a run from its result. The other values are those of [`Summary::default`].
    #[must_use]
    pub fn of<M>(result: &TrainResult<M>, run_dir: &Path) -> Self {
        let Some(last) = &result.last else {
            return Self {
                run_dir: run_dir.to_owned(),
                ..Self::default()
            };
        };
        Self::of_record(last, run_dir)
    }

    fn of_record(last: &Record, run_dir: &Path) -> Self {
        Self {
            val_bpb: last.scalar("val/bpb"),
            core_metric: last.scalar("core_metric"),
            training_seconds: last.clock.elapsed,
            tokens: last.clock.tokens,
            num_steps: last.clock.step,
            run_dir: run_dir.to_owned(),
            ..Self::default()
        }
    }

    /// Sets the MFU from the cost of a token and the peak of all devices, in operations and operations per second.
    #[must_use]
    pub fn utilization(mut self, flops_per_token: f64, peak_flops: Option<f64>) -> Self {
        let seconds = self.training_seconds.as_secs_f64();
        if let Some(peak) = peak_flops
            && seconds > 0.0
        {
            self.mfu = Some(100.0 * flops_per_token * self.tokens as f64 / (seconds * peak));
        }
        self
    }

    /// Returns the summary as JSON, with numbers, under the same keys as the lines.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut json = Map::new();
        for (key, value) in self.entries() {
            json.insert(key.to_owned(), value.json());
        }
        json.insert("run_dir".to_owned(), json!(self.run_dir.to_string_lossy()));
        Value::Object(json)
    }

    /// Writes the summary to the run's `run.json`, under the key `summary`.
    ///
    /// # Errors
    ///
    /// Those of [`run_dir::write_summary`].
    pub fn save(&self) -> Result<(), ConfigError> {
        run_dir::write_summary(&self.run_dir, &self.to_json())
    }

    /// Returns the keys with a known value, in order, without the path.
    fn entries(&self) -> Vec<(&'static str, Entry)> {
        let seconds = |time: Duration| Entry::Number(time.as_secs_f64(), 3);
        let known = [
            ("val_bpb", self.val_bpb.map(|bpb| Entry::Number(bpb, 6))),
            (
                "core_metric",
                self.core_metric.map(|core| Entry::Number(core, 6)),
            ),
            ("training_seconds", Some(seconds(self.training_seconds))),
            ("total_seconds", Some(seconds(self.total_seconds))),
            (
                "peak_memory_mb",
                self.peak_memory_mb.map(|peak| Entry::Number(peak, 1)),
            ),
            ("tokens", Some(Entry::Count(self.tokens))),
            ("num_steps", Some(Entry::Count(self.num_steps))),
            ("num_params", Some(Entry::Count(self.num_params))),
            ("mfu", self.mfu.map(|mfu| Entry::Number(mfu, 2))),
        ];
        let mut entries = Vec::new();
        for (key, value) in known {
            entries.extend(value.map(|value| (key, value)));
        }
        entries
    }

    /// Returns the path on one line: control characters are escaped.
    fn path(&self) -> String {
        printable(&self.run_dir.to_string_lossy()).replace('\n', "\\n")
    }
}

/// Value of a key.
#[derive(Debug, Clone, Copy)]
enum Entry {
    Count(u64),
    /// Number, and the decimals of its text.
    Number(f64, usize),
}

impl Entry {
    fn json(self) -> Value {
        match self {
            Self::Count(count) => json!(count),
            Self::Number(value, _) => number::to_json(value),
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Count(count) => count.fmt(f),
            Self::Number(value, decimals) => write!(f, "{value:.decimals$}"),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (key, value) in self.entries() {
            writeln!(f, "{key}={value}")?;
        }
        write!(f, "run_dir={}", self.path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bdh::Clock;

    /// Parses lines by the documented grammar.
    fn parse(text: &str) -> Vec<(&str, &str)> {
        let mut entries = Vec::new();
        for line in text.lines() {
            let (key, value) = line.split_once('=').expect("key=value");
            let is_key =
                !key.is_empty() && key.bytes().all(|b| b == b'_' || b.is_ascii_lowercase());
            assert!(is_key, "{line}");
            entries.push((key, value));
        }
        entries
    }

    fn full() -> Summary {
        let last = Record {
            clock: Clock {
                tokens: 256,
                elapsed: Duration::from_millis(75),
                ..Clock::default()
            }
            .after(40),
            values: [
                ("train/loss", 5.9),
                ("val/bpb", 4.070_303),
                ("core_metric", 0.25),
            ]
            .map(|(key, value)| (key.to_owned(), bdh::Value::Scalar(value)))
            .into(),
        };
        Summary {
            total_seconds: Duration::from_millis(4_500),
            peak_memory_mb: Some(512.5),
            num_params: 196_662,
            ..Summary::of_record(&last, Path::new("runs/a b=c"))
        }
        .utilization(885_024.0, Some(1e10))
    }

    #[test]
    fn lines_have_the_documented_keys_in_order() {
        let text = full().to_string();
        assert_eq!(
            parse(&text),
            [
                ("val_bpb", "4.070303"),
                ("core_metric", "0.250000"),
                ("training_seconds", "3.000"),
                ("total_seconds", "4.500"),
                ("peak_memory_mb", "512.5"),
                ("tokens", "10240"),
                ("num_steps", "40"),
                ("num_params", "196662"),
                ("mfu", "30.21"),
                ("run_dir", "runs/a b=c"),
            ]
        );
        let docs = include_str!("summary.rs");
        let keys = docs.lines().filter_map(|line| line.strip_prefix("//! | `"));
        let documented: Vec<_> = keys.filter_map(|row| row.split('`').next()).collect();
        let printed: Vec<_> = parse(&text).into_iter().map(|(key, _)| key).collect();
        assert_eq!(documented, printed);
    }

    #[test]
    fn unknown_values_have_no_line() {
        let summary = Summary {
            run_dir: "runs/a".into(),
            ..Summary::default()
        };
        let text = summary.utilization(1e6, Some(1e12)).to_string();
        let keys: Vec<_> = parse(&text).into_iter().map(|(key, _)| key).collect();
        let expected = [
            "training_seconds",
            "total_seconds",
            "tokens",
            "num_steps",
            "num_params",
            "run_dir",
        ];
        assert_eq!(keys, expected);
    }

    #[test]
    fn odd_values_stay_on_their_line() {
        let summary = Summary {
            val_bpb: Some(f64::NAN),
            run_dir: "runs/a\nval_bpb=0".into(),
            ..Summary::default()
        };
        let text = summary.to_string();
        let entries = parse(&text);
        assert_eq!(entries[0], ("val_bpb", "NaN"));
        assert_eq!(
            entries.iter().filter(|(key, _)| *key == "val_bpb").count(),
            1
        );
        assert_eq!(summary.to_json()["val_bpb"], "NaN");
    }

    #[test]
    fn summary_is_saved_with_the_run() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("run.json");
        std::fs::write(&file, r#"{"status": "completed"}"#).expect("a file");
        let summary = Summary {
            run_dir: dir.path().to_owned(),
            ..full()
        };
        summary.save().expect("the directory is free");
        let text = std::fs::read(file).expect("the file");
        let saved: Value = serde_json::from_slice(&text).expect("JSON");
        assert_eq!(saved["status"], "completed");
        assert_eq!(saved["summary"], summary.to_json());
        assert_eq!(saved["summary"]["tokens"], 10_240);
        assert_eq!(saved["summary"]["val_bpb"], 4.070_303);
    }
}
