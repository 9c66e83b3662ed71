//! Getting a damaged log back into shape.

use crate::log::{LogError, LogReader, LogWriter};
use crate::note::Note;
use std::fs;
use std::path::Path;

/// What a repair found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repaired {
    /// Records in the log as it is now.
    pub kept: u64,
    /// Places at which it was damaged or cut off.
    pub damaged: u64,
    /// Bytes at those places that nothing could be made of.
    pub lost: u64,
}

/// Rewrites a damaged `.wandb` log with every record that can still be read, so that `wandb sync` reads it to its
/// end. The file as it was stays beside it, under the name with `.damaged` at its end.
///
/// A log without damage is left alone. Must not run while the log is being written.
///
/// # Errors
///
/// [`LogError::NotALog`], or those of the file system.
pub fn repair(log: &Path) -> Result<Repaired, LogError> {
    // To look first takes no room: the disk may be full, which may be why somebody repairs.
    let found = scan(log, |_, _| Ok(()))?;
    if found.damaged == 0 {
        return Ok(found);
    }
    let repaired = log.with_extension("wandb.repaired");
    let _ = fs::remove_file(&repaired); // of a repair that was cut short, if it is there
    let note = match copy(log, &repaired) {
        Ok(note) => note,
        Err(error) => {
            let _ = fs::remove_file(&repaired); // the first error is the one to tell
            return Err(error);
        }
    };
    if let Some(note) = note {
        note.save(log)?; // before the log: one that is too low sends a file twice, one too high never
    }
    fs::rename(log, log.with_extension("wandb.damaged"))?;
    fs::rename(&repaired, log)?;
    Ok(found)
}

/// Writes what can be read of a log into another. Gives back the note about what has been sent, if there is one:
/// the same records, which end elsewhere now.
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

/// Hands each record that can be read to `keep`, with the place where it ends, and tells what there is besides.
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
    fn a_repair_that_was_cut_short_does_not_stand_in_the_way_of_the_next() {
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
        assert_eq!(names, 2, "the log, and what it was");
    }
}
