//! Repair of damaged logs.

use crate::log::{LogError, LogReader, LogWriter};
use crate::note::Note;
use std::fs;
use std::io;
use std::path::Path;

/// Result of a repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repaired {
    /// Number of records in the log now.
    pub kept: u64,
    /// Number of places at which the log was damaged or cut off.
    pub damaged: u64,
    /// Unreadable bytes at those places.
    pub lost: u64,
}

/// Rewrites a damaged `.wandb` log with every record that is still readable, so that `wandb sync` reads all of it.
///
/// The old file is kept beside it with the ending `.damaged`. A log without damage is left alone. The log must not be
/// written during the repair.
///
/// # Errors
///
/// [`LogError::NotALog`] for another kind of file; [`LogError::Io`] if the file system fails.
pub fn repair(log: &Path) -> Result<Repaired, LogError> {
    // Scanned before it is copied: a full disk may be the reason for the repair, and a scan needs no space.
    let found = scan(log, |_, _| Ok(()))?;
    if found.damaged == 0 {
        return Ok(found);
    }
    let repaired = log.with_extension("wandb.repaired");
    let _ = fs::remove_file(&repaired); // left by an interrupted repair
    let note = match copy(log, &repaired) {
        Ok(note) => note,
        Err(error) => {
            let _ = fs::remove_file(&repaired); // the first error is the one to report
            return Err(error);
        }
    };
    if let Some(note) = note {
        // Before the log: if this is interrupted, a low note sends a file twice, and a high note would send it never.
        note.save(log)?;
    }
    replace(log, &repaired)?;
    Ok(found)
}

/// Puts the repaired log in the place of the damaged one, which is kept beside it.
fn replace(log: &Path, repaired: &Path) -> io::Result<()> {
    fs::rename(log, log.with_extension("wandb.damaged"))?;
    fs::rename(repaired, log)
}

/// Copies the readable records of a log into another, and returns the note about it, adjusted to the new offsets.
fn copy(log: &Path, into: &Path) -> Result<Option<Note>, LogError> {
    let mut writer = LogWriter::create(into)?;
    let note = Note::about(log);
    let sent = note.as_ref().map_or(0, |note| note.offset);
    let mut offset = 0;
    scan(log, |record, end| {
        writer.append(record)?;
        if end <= sent {
            offset = writer.len();
        }
        Ok(())
    })?;
    writer.sync()?;
    Ok(note.map(|note| Note { offset, ..note }))
}

/// Calls `keep` with each readable record and the offset after it, and counts the damage.
fn scan(
    log: &Path,
    mut keep: impl FnMut(&[u8], u64) -> Result<(), LogError>,
) -> Result<Repaired, LogError> {
    let mut reader = LogReader::open(log)?;
    let mut found = Repaired {
        kept: 0,
        damaged: 0,
        lost: 0,
    };
    loop {
        match reader.next_record() {
            Ok(Some(record)) => {
                keep(&record, reader.offset())?;
                found.kept += 1;
            }
            Ok(None) if reader.is_at_end()? => return Ok(found),
            Ok(None) | Err(LogError::Damaged { .. }) => {
                found.damaged += 1;
                found.lost += reader.resync()?;
            }
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interrupted_repair_does_not_block_the_next() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let log = dir.path().join("run-x.wandb");
        let mut writer = LogWriter::create(&log).expect("a new log");
        (0..9).for_each(|record| writer.append(&[record; 100]).expect("space"));
        let bytes = fs::read(&log).expect("the log");
        fs::write(&log, &bytes[..bytes.len() - 5]).expect("a log that is cut off");
        fs::write(log.with_extension("wandb.repaired"), "half of it").expect("a file");

        let found = repair(&log).expect("a log");
        assert_eq!((found.kept, found.damaged, found.lost), (8, 1, 102));
        assert_eq!(
            repair(&log).expect("a log"),
            Repaired {
                kept: 8,
                damaged: 0,
                lost: 0
            }
        );
        let names = fs::read_dir(dir.path()).expect("its folder").count();
        assert_eq!(names, 2, "the log and the old log");
    }
}
