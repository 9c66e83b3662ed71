//! Constructors of the events that are written.

use crate::proto::{Event, SessionLog, SourceMetadata, Summary, Value};
use std::time::SystemTime;

/// `SessionLog.START`.
const START: i32 = 1;

impl Event {
    /// Returns the first event of a file, which names the format and the writer.
    pub(crate) fn version(writer: &str) -> Self {
        Self {
            file_version: Some("brain.Event:2".to_owned()),
            source_metadata: Some(SourceMetadata {
                writer: writer.to_owned(),
            }),
            ..Self::at(0)
        }
    }

    /// Returns the event after which steps from `step` on replace those read before.
    ///
    /// TensorBoard's Python reader acts on the second one that it sees, so each file needs one.
    pub(crate) fn session_start(step: u64) -> Self {
        Self {
            session_log: Some(SessionLog { status: START }),
            ..Self::at(step)
        }
    }

    /// Returns the event with the values of one step.
    pub(crate) fn values(step: u64, value: Vec<Value>) -> Self {
        Self {
            summary: Some(Summary { value }),
            ..Self::at(step)
        }
    }

    fn at(step: u64) -> Self {
        Self {
            wall_time: now(),
            step: step as i64,
            ..Self::default()
        }
    }
}

/// Returns the current time in seconds since 1970.
pub(crate) fn now() -> f64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}
