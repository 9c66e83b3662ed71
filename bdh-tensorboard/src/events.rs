//! The kinds of event that are written.

use crate::proto::{Event, SessionLog, SourceMetadata, Summary, Value};
use std::time::SystemTime;

/// `SessionLog.START`.
const START: i32 = 1;

impl Event {
    /// The first of a file, which says whose it is; readers go by it.
    pub(crate) fn version(writer: &str) -> Self {
        Self {
            file_version: Some("brain.Event:2".to_owned()),
            source_metadata: Some(SourceMetadata {
                writer: writer.to_owned(),
            }),
            ..Self::at(0)
        }
    }

    /// Says that steps from `step` on follow, whatever was read of them before.
    ///
    /// TensorBoard's Python reader goes by it from the second one that it sees, so each file needs one.
    pub(crate) fn session_start(step: u64) -> Self {
        Self {
            session_log: Some(SessionLog { status: START }),
            ..Self::at(step)
        }
    }

    /// Values of one step.
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

/// Seconds since 1970.
pub(crate) fn now() -> f64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}
