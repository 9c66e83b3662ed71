//! Record of what has been sent, kept in a note beside the log, so that an upload can resume.
//!
//! The server counts the rows of a run. The note contains how many it had before this log, since a run that was begun
//! again under an old id has rows of an earlier log. Without a note, all rows on the server count as those of an
//! earlier log: this one is sent after them, perhaps a second time. If `wandb sync` has left its mark, they count as
//! this log's.

use super::bucket::Known;
use crate::note::Note;
use std::fs;
use std::path::{Path, PathBuf};

/// Record of what has been sent, saved after each file.
#[derive(Debug)]
pub(super) struct Ledger {
    log: PathBuf,
    note: Note,
    /// Whether a file was not accepted: later ones are not recorded, so that the next upload retries it.
    has_gap: bool,
    /// Error of saving the note, until it is taken.
    save_error: Option<String>,
    /// Whether an error has been taken.
    is_reported: bool,
}

impl Ledger {
    /// Reads the note about a log for a server.
    ///
    /// Begins a new note if there is none, or if the server does not know the run (`known` is `None`).
    pub(super) fn open(log: &Path, server: &str, known: Option<Known>) -> Self {
        let mut note = match (Note::about(log), known) {
            (Some(note), Some(_)) if note.server == server => note,
            _ => begin(log, server, known.unwrap_or_default()),
        };
        // Code that cuts the log lowers the note. This is for a log that lost its end in another way.
        let len = fs::metadata(log).map_or(0, |log| log.len());
        note.offset = note.offset.min(len);
        let mut ledger = Self {
            log: log.to_owned(),
            note,
            has_gap: false,
            save_error: None,
            is_reported: false,
        };
        ledger.save();
        ledger
    }

    /// Returns the first `_step` of the log that the server does not have.
    ///
    /// The number of rows on the server would be wrong: some rows are never sent, and a repair may lose rows that were.
    /// If the server does not report its last row, some rows may be sent twice, but none is left out.
    pub(super) fn rows_from(&self, known: Known) -> u64 {
        match known.counts.rows.saturating_sub(self.note.before.rows) {
            0 => 0,
            rows => rows.max(known.next_of_rows.saturating_sub(self.note.shift)),
        }
    }

    /// Returns how many lines of this log's output the server has.
    pub(super) fn lines(&self, known: Known) -> u64 {
        known.counts.lines.saturating_sub(self.note.before.lines)
    }

    /// Returns the offset to add to each `_step`.
    pub(super) fn shift(&self) -> u64 {
        self.note.shift
    }

    /// Returns the offset in the log up to which files have been sent.
    pub(super) fn offset(&self) -> u64 {
        self.note.offset
    }

    /// Records whether the file of the entry before the offset `end` was sent.
    pub(super) fn record(&mut self, end: u64, is_sent: bool) {
        self.has_gap |= !is_sent;
        if !self.has_gap {
            self.note.offset = end;
            self.save();
        }
    }

    /// Returns why the note could not be saved, on the first call only.
    pub(super) fn take_error(&mut self) -> Option<String> {
        if self.is_reported {
            return None;
        }
        let error = self.save_error.take()?;
        self.is_reported = true;
        Some(error)
    }

    fn save(&mut self) {
        let saved = self.note.save(&self.log);
        self.save_error = saved.err().map(|error| error.to_string());
    }
}

/// Returns the first note about a log, for a server that has `known` of its run.
fn begin(log: &Path, server: &str, known: Known) -> Note {
    // `wandb sync` leaves this mark beside a log that it has sent: the rows on the server are from this log.
    let is_synced = PathBuf::from(format!("{}.synced", log.display())).exists();
    let earlier = if is_synced { Known::default() } else { known };
    Note {
        server: server.to_owned(),
        offset: 0,
        before: earlier.counts,
        shift: earlier.next(),
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
    fn rows_of_an_earlier_log_do_not_count_as_sent() {
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
    fn note_counts_for_its_server_up_to_the_first_failure() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let log = dir.path().join("run-x.wandb");
        fs::write(&log, [0; 100]).expect("a log");
        let mut ledger = Ledger::open(&log, "here", KNOWN);
        for (end, is_sent) in [(10, true), (20, true), (30, false), (40, true)] {
            ledger.record(end, is_sent);
        }
        let offset = |server, counts| Ledger::open(&log, server, counts).offset();
        assert_eq!(offset("here", KNOWN), 20);
        fs::write(&log, [0; 15]).expect("a log that was cut back");
        assert_eq!(offset("here", KNOWN), 15);
        fs::write(&log, [0; 100]).expect("a log that grew again");
        assert_eq!(offset("here", KNOWN), 15);
        assert_eq!(offset("there", KNOWN), 0);
        ledger.record(50, true);
        assert_eq!(offset("here", None), 0);
    }

    #[test]
    fn note_that_cannot_be_saved_is_reported_once() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut ledger = Ledger::open(&dir.path().join("gone/run-x.wandb"), "here", KNOWN);
        assert!(
            ledger
                .take_error()
                .is_some_and(|why| why.contains("os error 2"))
        );
        ledger.record(10, true);
        assert_eq!(ledger.take_error(), None);
        let mut ledger = Ledger::open(&dir.path().join("run-x.wandb"), "here", KNOWN);
        assert_eq!(ledger.take_error(), None);
    }
}
