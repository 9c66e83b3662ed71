//! The kinds of event that we write, and how to know them again.

use super::hparams;
use super::layout;
use super::proto::{Event, SessionLog, SourceMetadata, Summary, Value};
use std::time::SystemTime;

/// `SessionLog.START`.
const START: i32 = 1;

impl Event {
    /// The first of a file, which says whose it is; readers go by it.
    pub(super) fn version(writer: &str) -> Self {
        Self {
            file_version: Some("brain.Event:2".to_owned()),
            source_metadata: Some(SourceMetadata { writer: writer.to_owned() }),
            ..Self::at(0)
        }
    }

    /// Says that steps from `step` on follow, whatever was read of them before.
    ///
    /// TensorBoard's Python reader goes by it from the second one that it sees, so each file needs one.
    pub(super) fn session_start(step: u64) -> Self {
        Self { session_log: Some(SessionLog { status: START }), ..Self::at(step) }
    }

    /// Values of one step.
    pub(super) fn values(step: u64, value: Vec<Value>) -> Self {
        Self { summary: Some(Summary { value }), ..Self::at(step) }
    }

    fn at(step: u64) -> Self {
        Self { wall_time: now(), step: step as i64, ..Self::default() }
    }

    /// Whether a file that begins with this one is of a writer.
    pub(super) fn is_of(&self, writer: &str) -> bool {
        self.source_metadata.as_ref().is_some_and(|source| source.writer == writer)
    }

    /// Whether it tells how the run ended.
    pub(super) fn is_end(&self) -> bool {
        self.tags().any(|tag| tag == hparams::END)
    }

    /// The step, if it holds what was logged on one.
    pub(super) fn logged_step(&self) -> Option<u64> {
        let about_run = [hparams::START, hparams::END, layout::TAG];
        self.tags().any(|tag| !about_run.contains(&tag)).then_some(self.step as u64)
    }

    fn tags(&self) -> impl Iterator<Item = &str> {
        self.summary.iter().flat_map(|summary| &summary.value).map(|value| value.tag.as_str())
    }
}

/// Seconds since 1970.
pub(super) fn now() -> f64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}
