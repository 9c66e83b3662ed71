//! The note beside a log: how much of it a server has, for the day the upload goes on.
//!
//! It counts bytes of the log, so whoever cuts the log lowers it, with or without the upload in this program.

use crate::folder::read_note;
use bdh::files::write_atomically;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

/// What stands in the file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Note {
    pub(super) server: String,
    /// Files and artifacts have been sent up to here, in bytes of the log.
    pub(super) offset: u64,
    /// What the server had before the first row of this log.
    pub(super) before: Counts,
    /// What is added to each `_step` of this log, so that it goes on after those of `before`.
    #[serde(default)]
    pub(super) shift: u64,
}

/// What a server has of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counts {
    /// Rows of history.
    pub(super) rows: u64,
    /// Lines of output.
    pub(super) lines: u64,
}

impl Note {
    /// The note about a log, if there is one that can be read.
    pub(super) fn about(log: &Path) -> Option<Self> {
        serde_json::from_slice(&read_note(&path(log)).ok()?).ok()
    }

    /// Writes it beside its log.
    pub(super) fn save(&self, log: &Path) -> io::Result<()> {
        write_atomically(&path(log), &serde_json::to_vec(self)?)
    }
}

/// Takes note that a log is cut to `len` bytes: what will stand behind them has not been sent.
pub(super) fn lower(log: &Path, len: u64) -> io::Result<()> {
    match Note::about(log) {
        Some(note) if note.offset > len => Note {
            offset: len,
            ..note
        }
        .save(log),
        _ => Ok(()),
    }
}

fn path(log: &Path) -> PathBuf {
    PathBuf::from(format!("{}.uploaded", log.display()))
}
