//! Getting a damaged log back into shape.

use super::log::{LogError, LogReader, LogWriter};
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
    let mut reader = LogReader::open(log)?;
    let end = fs::metadata(log)?.len();
    let repaired = log.with_extension("wandb.repaired");
    let mut writer = LogWriter::create(&repaired)?;
    let mut found = Repaired { kept: 0, damaged: 0, lost: 0 };
    loop {
        match reader.next_record() {
            Ok(Some(record)) => {
                writer.append(&record)?;
                found.kept += 1;
            }
            Ok(None) if reader.offset() >= end => break,
            Ok(None) | Err(LogError::Damaged { .. }) => {
                found.damaged += 1;
                found.lost += reader.resync()?;
            }
            Err(error) => {
                fs::remove_file(&repaired)?;
                return Err(error);
            }
        }
    }
    if found.damaged == 0 {
        fs::remove_file(&repaired)?;
        return Ok(found);
    }
    writer.sync()?;
    fs::rename(log, log.with_extension("wandb.damaged"))?;
    fs::rename(&repaired, log)?;
    Ok(found)
}
