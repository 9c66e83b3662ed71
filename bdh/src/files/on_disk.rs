//! Faults of files that are open for writing.

use std::fs::File;
use std::io;
use std::path::Path;

/// Largest backlog, in bytes, of a sink whose writes fail; with more it gives up.
pub const BACKLOG: usize = 16 << 20;

/// Temporary write errors of a sink that keeps a file open, such as a full disk.
#[derive(Debug, Default)]
pub struct Faults {
    first: Option<String>,
    is_reported: bool,
}

impl Faults {
    /// Accepts a failed write that can be retried: the file still exists and `waiting` is at most [`BACKLOG`] bytes.
    ///
    /// # Errors
    ///
    /// The error in `written`, if a retry cannot help.
    pub fn tolerate(&mut self, written: io::Result<()>, waiting: usize) -> io::Result<()> {
        match written {
            Err(error) if error.kind() != io::ErrorKind::NotFound && waiting <= BACKLOG => {
                self.first.get_or_insert_with(|| error.to_string());
                Ok(())
            }
            written => written,
        }
    }

    /// Returns the first accepted error, once.
    pub fn unreported(&mut self) -> Option<String> {
        let first = self.first.take().filter(|_| !self.is_reported)?;
        self.is_reported = true;
        Some(first)
    }
}

/// Checks that an open file has not been deleted: writes would still succeed, and be lost.
///
/// # Errors
///
/// [`io::ErrorKind::NotFound`] if the file has been deleted.
pub fn check_not_deleted(file: &File, path: &Path) -> io::Result<()> {
    // Some file systems report no link counts, so the path is checked too.
    if has_no_name(file)? && !path.exists() {
        let error = format!("`{}` has been deleted", path.display());
        return Err(io::Error::new(io::ErrorKind::NotFound, error));
    }
    Ok(())
}

/// Returns whether an open file has no name left, so its contents are lost when it is closed.
pub(crate) fn has_no_name(file: &File) -> io::Result<bool> {
    #[cfg(unix)]
    return Ok(std::os::unix::fs::MetadataExt::nlink(&file.metadata()?) == 0);
    #[cfg(not(unix))]
    Ok(file.metadata().is_err()) // an open file cannot be deleted there
}
