//! What has been sent, for the day the upload goes on: a note beside the log.
//!
//! The server counts the rows of a run, and the note says how many of them were there before this log's: a run
//! that was begun anew under an old id has rows of an earlier log. Without the note, whatever the server has of the
//! run is taken for an earlier log's: all of this one is sent, behind that and so perhaps a second time. Only where
//! `wandb sync` has left its mark, what the server has is taken for this log's.

use super::bucket::Known;
use crate::note::Note;
use std::fs;
use std::path::{Path, PathBuf};

/// How far into the log all files and artifacts have been sent.
#[derive(Debug)]
pub(super) struct Ledger {
    log: PathBuf,
    note: Note,
    /// Whether one was not taken: nothing after it counts, so that it is tried again.
    has_gap: bool,
    /// Why the note could not be saved, until somebody asks.
    trouble: Option<String>,
    is_told: bool,
}

impl Ledger {
    /// The note about a log for a server, which has so much of its run; a new one if there is none, or if the
    /// server has not even heard of the run.
    pub(super) fn open(log: &Path, server: &str, known: Option<Known>) -> Self {
        let noted = Note::about(log).filter(|note| known.is_some() && note.server == server);
        let note = noted.unwrap_or_else(|| begin(log, server, known.unwrap_or_default()));
        // Whoever cuts the log lowers the note; this is for a log that lost its end in another way.
        let len = fs::metadata(log).map_or(0, |log| log.len());
        let note = Note {
            offset: note.offset.min(len),
            ..note
        };
        let (log, trouble) = (log.to_owned(), None);
        let mut ledger = Self {
            log,
            note,
            has_gap: false,
            trouble,
            is_told: false,
        };
        ledger.save();
        ledger
    }

    /// The `_step` in the log from which on the server has no rows, if it has so much of the run.
    ///
    /// It is not the number of rows that the server has: some are never sent, and a repair may have lost some that
    /// were. Where the server does not say what its last row is, some may be sent twice, but none is left out.
    pub(super) fn rows_from(&self, known: Known) -> u64 {
        match known.counts.rows.saturating_sub(self.note.before.rows) {
            0 => 0,
            rows => rows.max(known.next_of_rows.saturating_sub(self.note.shift)),
        }
    }

    /// How many lines of this log's output the server has.
    pub(super) fn lines(&self, known: Known) -> u64 {
        known.counts.lines.saturating_sub(self.note.before.lines)
    }

    /// What is added to each `_step`.
    pub(super) fn shift(&self) -> u64 {
        self.note.shift
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

    /// Why the note could not be saved, once.
    pub(super) fn trouble(&mut self) -> Option<String> {
        self.trouble
            .take()
            .filter(|_| !std::mem::replace(&mut self.is_told, true))
    }

    fn save(&mut self) {
        self.trouble = self
            .note
            .save(&self.log)
            .err()
            .map(|error| error.to_string());
    }
}

/// The first note about a log, for a server that has so much of its run.
fn begin(log: &Path, server: &str, known: Known) -> Note {
    // `wandb sync` leaves this mark where it has sent a log: what the server has, it has from there.
    let is_synced = PathBuf::from(format!("{}.synced", log.display())).exists();
    let known = if is_synced { Known::default() } else { known };
    let (before, shift) = (known.counts, known.next());
    Note {
        server: server.to_owned(),
        offset: 0,
        before,
        shift,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::Counts;

    const KNOWN: Option<Known> = Some(of_rows(7));

    const fn of_rows(rows: u64) -> Known {
        Known {
            counts: Counts { rows, lines: 2 },
            next_of_rows: 0,
            next_of_summary: 0,
        }
    }

    #[test]
    fn rows_of_an_earlier_log_are_not_taken_for_this_ones() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let log = dir.path().join("run-x.wandb");
        let of_this_log = |rows| {
            let known = of_rows(rows);
            Ledger::open(&log, "here", Some(known)).rows_from(known)
        };
        assert_eq!([7, 7, 9, 12].map(of_this_log), [0, 0, 2, 5]);
        fs::remove_file(dir.path().join("run-x.wandb.uploaded")).expect("the note");
        fs::write(dir.path().join("run-x.wandb.synced"), "").expect("the mark of `wandb sync`");
        assert_eq!([12, 15].map(of_this_log), [12, 15]);
    }

    #[test]
    fn a_note_counts_for_its_server_up_to_the_first_failure_and_the_end_of_the_log() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let log = dir.path().join("run-x.wandb");
        fs::write(&log, [0; 100]).expect("a log");
        let mut ledger = Ledger::open(&log, "here", KNOWN);
        for (end, is_sent) in [(10, true), (20, true), (30, false), (40, true)] {
            ledger.settle(end, is_sent);
        }
        let offset = |server, counts| Ledger::open(&log, server, counts).offset();
        assert_eq!(offset("here", KNOWN), 20);
        fs::write(&log, [0; 15]).expect("a log that was cut back");
        assert_eq!(offset("here", KNOWN), 15);
        fs::write(&log, [0; 100]).expect("a log that grew again");
        assert_eq!(offset("here", KNOWN), 15);
        assert_eq!(offset("there", KNOWN), 0);
        ledger.settle(50, true);
        assert_eq!(offset("here", None), 0);
    }

    #[test]
    fn a_note_that_cannot_be_saved_is_told_once() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut ledger = Ledger::open(&dir.path().join("gone/run-x.wandb"), "here", KNOWN);
        assert!(
            ledger
                .trouble()
                .is_some_and(|why| why.contains("os error 2"))
        );
        ledger.settle(10, true);
        assert_eq!(ledger.trouble(), None);
        let mut ledger = Ledger::open(&dir.path().join("run-x.wandb"), "here", KNOWN);
        assert_eq!(ledger.trouble(), None);
    }
}
