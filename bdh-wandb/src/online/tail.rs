//! Reader of a log that may still grow.

use crate::journal::decode;
use crate::log::{LogError, LogReader};
use crate::proto::Kind;
use std::path::Path;

/// Reader of a log, entry by entry.
#[derive(Debug)]
pub(super) struct Tail {
    reader: LogReader,
    /// Offset at which the log looked damaged the last time.
    doubt: Option<u64>,
}

/// Result of reading an entry.
#[derive(Debug)]
pub(super) enum Next {
    Entry(Box<Kind>),
    /// No further entry, for now.
    End,
    /// Number of unreadable bytes that have been skipped.
    Damage(u64),
}

impl Tail {
    pub(super) fn open(log: &Path) -> Result<Self, LogError> {
        Ok(Self {
            reader: LogReader::open(log)?,
            doubt: None,
        })
    }

    /// Returns the offset after the last entry, in bytes.
    pub(super) fn offset(&self) -> u64 {
        self.reader.offset()
    }

    /// Reads the next entry.
    ///
    /// In a log that `may_grow`, damage is read a second time before it is skipped: it may have been read while it was
    /// written. In a complete log, an entry that is longer than the rest of the file is damaged.
    pub(super) fn next(&mut self, may_grow: bool) -> Result<Next, LogError> {
        loop {
            let at = self.reader.offset();
            match self.reader.next_record() {
                Ok(None) if may_grow || self.reader.is_at_end()? => return Ok(Next::End),
                Ok(Some(bytes)) => {
                    // Entries of other kinds are skipped.
                    if let Some(kind) = decode(&bytes) {
                        return Ok(Next::Entry(Box::new(kind)));
                    }
                }
                Err(LogError::Damaged { .. }) if may_grow && self.doubt != Some(at) => {
                    self.doubt = Some(at);
                    return Ok(Next::End);
                }
                Ok(None) | Err(LogError::Damaged { .. }) => {
                    return Ok(Next::Damage(self.reader.resync()?));
                }
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::LogWriter;
    use crate::proto::{Exit, Record};
    use prost::Message;
    use std::fs;

    /// Returns a log of three entries of the same length.
    fn log() -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("run-x.wandb");
        let mut writer = LogWriter::create(&path).expect("a new log");
        for exit_code in 1..=3 {
            let kind = Some(Kind::Exit(Exit {
                exit_code,
                runtime: 7,
            }));
            writer
                .append(
                    &Record {
                        kind,
                        ..Record::default()
                    }
                    .encode_to_vec(),
                )
                .expect("space");
        }
        (dir, path)
    }

    fn code(next: Next) -> Option<i32> {
        let Next::Entry(kind) = next else { return None };
        if let Kind::Exit(exit) = *kind {
            Some(exit.exit_code)
        } else {
            None
        }
    }

    #[test]
    fn damaged_place_is_read_twice_while_the_log_grows() {
        let (_dir, path) = log();
        let good = fs::read(&path).expect("the log");
        let mut bytes = good.clone();
        bytes[16] ^= 1;
        fs::write(&path, &bytes).expect("a log that is half written");
        let mut tail = Tail::open(&path).expect("a log");
        assert!(matches!(tail.next(true), Ok(Next::End)));
        fs::write(&path, &good).expect("the other half");
        assert_eq!(code(tail.next(true).expect("an entry")), Some(1));
    }

    #[test]
    fn length_beyond_the_end_of_a_complete_log_is_damage() {
        let (_dir, path) = log();
        let mut bytes = fs::read(&path).expect("the log");
        let entry = (bytes.len() - 7) / 3;
        bytes[7 + entry + 5] = 0x20; // the length of the second entry
        fs::write(&path, &bytes).expect("a damaged log");
        let mut tail = Tail::open(&path).expect("a log");
        assert_eq!(code(tail.next(false).expect("an entry")), Some(1));
        assert!(
            matches!(tail.next(true), Ok(Next::End)),
            "the rest may still be written"
        );
        assert!(matches!(tail.next(false), Ok(Next::Damage(bytes)) if bytes == entry as u64));
        assert_eq!(code(tail.next(false).expect("an entry")), Some(3));
        assert!(matches!(tail.next(false), Ok(Next::End)));
    }
}
