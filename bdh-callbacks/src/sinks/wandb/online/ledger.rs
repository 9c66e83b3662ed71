//! Which files have been sent, for the day the upload goes on: a note beside the log.
//!
//! Rows need none, the server counts them. Without the note everything is sent again, which is slow but right.

use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

/// How far into the log all files and artifacts have been sent.
#[derive(Debug)]
pub(super) struct Ledger {
    path: PathBuf,
    note: Note,
    /// Whether one was not taken: nothing after it counts, so that it is tried again.
    has_gap: bool,
}

/// What stands in the file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Note {
    server: String,
    /// In bytes of the log.
    offset: u64,
}

impl Ledger {
    /// The note about a log for a server; an empty one if the server has not even heard of the run.
    pub(super) fn open(log: &Path, server: &str, is_known: bool) -> Self {
        let path = PathBuf::from(format!("{}.uploaded", log.display()));
        let read = || serde_json::from_slice(&fs::read(&path).ok()?).ok();
        let note = read().filter(|note: &Note| is_known && note.server == server);
        let Note { offset, .. } = note.unwrap_or_default();
        // A log that was cut back since has other entries there now.
        let len = fs::metadata(log).map_or(0, |log| log.len());
        let note = Note { server: server.to_owned(), offset: offset.min(len) };
        let ledger = Self { path, note, has_gap: false };
        ledger.save();
        ledger
    }

    /// Files of entries before this byte have been sent.
    pub(super) fn offset(&self) -> u64 {
        self.note.offset
    }

    /// Takes note of what became of the file of an entry that ends at `end`.
    pub(super) fn settle(&mut self, end: u64, is_sent: bool) {
        self.has_gap |= !is_sent;
        if !self.has_gap {
            self.note.offset = end;
            self.save();
        }
    }

    fn save(&self) {
        let scratch = self.path.with_extension("uploaded.tmp");
        let text = serde_json::to_vec(&self.note).unwrap_or_default();
        // Without it, files are sent twice some day.
        let _ = fs::write(&scratch, text).and_then(|()| fs::rename(&scratch, &self.path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_counts_for_its_server_up_to_the_first_failure_and_the_end_of_the_log() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let log = dir.path().join("run-x.wandb");
        fs::write(&log, [0; 100]).expect("a log");
        let mut ledger = Ledger::open(&log, "here", true);
        for (end, is_sent) in [(10, true), (20, true), (30, false), (40, true)] {
            ledger.settle(end, is_sent);
        }
        let offset = |server, is_known| Ledger::open(&log, server, is_known).offset();
        assert_eq!(offset("here", true), 20);
        fs::write(&log, [0; 15]).expect("a log that was cut back");
        assert_eq!(offset("here", true), 15);
        fs::write(&log, [0; 100]).expect("a log that grew again");
        assert_eq!(offset("here", true), 15);
        assert_eq!(offset("there", true), 0);
        ledger.settle(50, true);
        assert_eq!(offset("here", false), 0);
    }
}
