//! What a run has recorded so far, read while it grows.

use crate::record::scalar_from_json;
use serde_json::Value;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Follows one metric in a run's `metrics.jsonl`.
#[derive(Debug)]
pub(super) struct Follower {
    path: PathBuf,
    key: String,
    /// Bytes that have been read, all of them whole lines.
    read: u64,
    /// The last step that was recorded.
    pub(super) step: u64,
    /// Each value of the metric, with its step.
    pub(super) history: Vec<(u64, f64)>,
}

impl Follower {
    pub(super) fn new(run_dir: &Path, key: &str) -> Self {
        let path = run_dir.join(crate::Jsonl::FILE);
        Self { path, key: key.to_owned(), read: 0, step: 0, history: Vec::new() }
    }

    /// The metric as last recorded.
    pub(super) fn last(&self) -> Option<f64> {
        self.history.last().map(|(_, value)| *value)
    }

    /// Reads what is new. A file that cannot be read has nothing new.
    pub(super) fn look(&mut self) {
        let Ok(text) = self.new_lines() else { return };
        for line in text.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"))
        {
            self.read += line.len() as u64;
            let parsed: Option<Value> = serde_json::from_slice(line).ok();
            let Some(record) = parsed else { continue };
            let Some(step) = record.get("step").and_then(Value::as_u64) else { continue };
            self.step = step;
            if let Some(value) = record.get(&self.key).and_then(scalar_from_json) {
                self.history.push((step, value));
            }
        }
    }

    fn new_lines(&mut self) -> std::io::Result<Vec<u8>> {
        let mut file = File::open(&self.path)?;
        if file.metadata()?.len() < self.read {
            (self.read, self.step) = (0, 0); // cut by a resume, which records some steps once more
            self.history.clear();
        }
        file.seek(SeekFrom::Start(self.read))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        Ok(text)
    }
}
