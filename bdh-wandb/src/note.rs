//! Note beside a log of how much of it a server has, so that an interrupted upload can resume.
//!
//! The note counts bytes of the log, so code that cuts the log must lower it, also when the feature `online` is off.

use crate::folder::read_note;
use bdh::files::write_atomically;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

/// Content of the file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Note {
    pub(super) server: String,
    /// Length of the log up to which files and artifacts have been sent, in bytes.
    pub(super) offset: u64,
    /// Counts on the server before the first row of this log.
    pub(super) before: Counts,
    /// Offset added to each `_step` of this log, so that it continues after those of `before`.
    #[serde(default)]
    pub(super) shift: u64,
}

/// Number of rows and lines of a run on a server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counts {
    /// Rows of history.
    pub(super) rows: u64,
    /// Lines of output.
    pub(super) lines: u64,
}

impl Note {
    /// Returns the note about a log; `None` if there is no readable one.
    pub(super) fn about(log: &Path) -> Option<Self> {
        serde_json::from_slice(&read_note(&path(log)).ok()?).ok()
    }

    /// Writes the note beside its log.
    pub(super) fn save(&self, log: &Path) -> io::Result<()> {
        write_atomically(&path(log), &serde_json::to_vec(self)?)
    }
}

/// Lowers the note of a log that is cut to `len` bytes: new entries after them have not been sent.
pub(super) fn lower(log: &Path, len: u64) -> io::Result<()> {
    match Note::about(log) {
        Some(mut note) if note.offset > len => {
            note.offset = len;
            note.save(log)
        }
        _ => Ok(()),
    }
}

fn path(log: &Path) -> PathBuf {
    PathBuf::from(format!("{}.uploaded", log.display()))
}
