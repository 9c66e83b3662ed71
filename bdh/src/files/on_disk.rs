//! Misfortunes of a file that is open for writing.

use std::fs::File;
use std::io;
use std::path::Path;

/// Bytes that wait to be written, after a write that failed, before a sink gives up.
pub const BACKLOG: usize = 16 << 20;

/// Faults of the disk that a later write can make up for, for sinks that keep a file open.
#[derive(Debug, Default)]
pub struct Faults {
    first: Option<String>,
    has_told: bool,
}

impl Faults {
    /// Lets what could not be written wait for the next try, as long as there is hope and room: up to [`BACKLOG`] bytes.
    ///
    /// # Errors
    ///
    /// `written`'s, where there is none.
    pub fn bear(&mut self, written: io::Result<()>, waiting: usize) -> io::Result<()> {
        match written {
            Err(error) if error.kind() != io::ErrorKind::NotFound && waiting <= BACKLOG => {
                self.first.get_or_insert_with(|| error.to_string());
                Ok(())
            }
            written => written,
        }
    }

    /// The first fault, once.
    pub fn untold(&mut self) -> Option<String> {
        let first = self.first.take().filter(|_| !self.has_told)?;
        self.has_told = true;
        Some(first)
    }
}

/// Fails if an open file has been deleted: it takes whatever is written still, and keeps none of it.
///
/// # Errors
///
/// [`io::ErrorKind::NotFound`] if nothing names it any more.
pub fn check_not_deleted(file: &File, path: &Path) -> io::Result<()> {
    // There are file systems that count no names: on theirs it has to be looked for, too.
    if has_no_name(file)? && !path.exists() {
        let error = format!("`{}` has been deleted", path.display());
        return Err(io::Error::new(io::ErrorKind::NotFound, error));
    }
    Ok(())
}

/// Whether an open file cannot be found any more: one without a name is gone with the process.
pub(crate) fn has_no_name(file: &File) -> io::Result<bool> {
    #[cfg(unix)]
    return Ok(std::os::unix::fs::MetadataExt::nlink(&file.metadata()?) == 0);
    #[cfg(not(unix))]
    Ok(file.metadata().is_err()) // an open file cannot be deleted there
}
