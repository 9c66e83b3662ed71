//! Safe reading and writing of files in run directories, including damaged or malicious ones.
//!
//! A run directory may have been downloaded or unpacked from an archive. A link in it could lead to a private file, a
//! FIFO could block a reader forever, and a device has no end. All readers of a run's files open them with this module.

mod on_disk;

pub(crate) use on_disk::has_no_name;
pub use on_disk::{BACKLOG, Faults, check_not_deleted};

use sha2::{Digest, Sha256};
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Component, Path};

/// Largest size, in bytes, of a file that is parsed as a whole: `run.json`, `manifest.json`, `state.json`.
pub const MAX_JSON: u64 = 256 << 20;

/// Opens a regular file below `root` for reading.
///
/// The caller chooses `root`, which may be a link; no part of the relative `path` may be one.
///
/// # Errors
///
/// [`io::ErrorKind::NotFound`] if there is no such file; [`io::ErrorKind::InvalidInput`] if `path` leaves `root`, is or
/// leads through a link, or is a folder, a FIFO or a device.
///
/// # Examples
///
/// ```
/// # let root = std::env::temp_dir();
/// let error = bdh::files::open(&root, "../outside").expect_err("outside of the folder");
/// assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
/// ```
pub fn open(root: &Path, path: impl AsRef<Path>) -> io::Result<File> {
    let path = path.as_ref();
    let Some(names) = names_below(path) else {
        return Err(refused(root, path, "leads out of the folder"));
    };
    let file = open_below(root, &names).map_err(|error| explain(error, root, path))?;
    if !file.metadata()?.is_file() {
        return Err(refused(root, path, "is not a regular file"));
    }
    Ok(file)
}

/// Splits a relative path; `None` if it is absolute or has a `..`.
fn names_below(path: &Path) -> Option<Vec<&OsStr>> {
    let mut names = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => names.push(name),
            Component::CurDir => {}
            _ => return None,
        }
    }
    Some(names)
}

/// Reads a regular file below `root`, of at most `max_bytes` bytes, with the checks of [`open`].
///
/// # Errors
///
/// The errors of [`open`], and [`io::ErrorKind::FileTooLarge`] if the file is longer.
pub fn read(root: &Path, path: impl AsRef<Path>, max_bytes: u64) -> io::Result<Vec<u8>> {
    let path = path.as_ref();
    let mut bytes = Vec::new();
    // One byte more than allowed, to detect a longer file without reading all of it.
    let mut file = open(root, path)?.take(max_bytes.saturating_add(1));
    file.read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes {
        let what = format!(
            "`{}` is longer than {max_bytes} bytes",
            root.join(path).display()
        );
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
    }
    Ok(bytes)
}

/// Returns whether `path` below `root` is a regular file, or a folder of only regular files, without any link.
pub(crate) fn is_plain(root: &Path, path: &Path) -> bool {
    let mut parent = root.to_owned();
    for part in path.components() {
        parent.push(part);
        if !matches!(part, Component::Normal(_)) || parent.is_symlink() {
            return false;
        }
    }
    // Not `parent`: joined to an empty path, the root ends with a slash, so it may be a link.
    holds_plain_files(&root.join(path)).unwrap_or(false)
}

fn holds_plain_files(path: &Path) -> io::Result<bool> {
    let found = fs::symlink_metadata(path)?;
    if !found.is_dir() {
        return Ok(found.is_file());
    }
    for entry in fs::read_dir(path)? {
        if !holds_plain_files(&entry?.path())? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Creates a folder unless it exists. Its parent must exist, so a deleted run directory is not created again.
///
/// # Errors
///
/// The error of the file system.
pub fn ensure_dir(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// Replaces a file atomically: a reader sees the old contents or the new ones.
///
/// # Errors
///
/// The error of the file system; the old file is unchanged then.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let scratch = path.with_extension("tmp");
    // It may be left from a process that died, or be a link to a file elsewhere, which must not be overwritten.
    let _ = fs::remove_file(&scratch);
    let written = write_and_rename(&scratch, bytes, path);
    if written.is_err() {
        let _ = fs::remove_file(&scratch);
    }
    written
}

fn write_and_rename(scratch: &Path, bytes: &[u8], path: &Path) -> io::Result<()> {
    let mut file = File::create_new(scratch)?;
    file.write_all(bytes)?;
    file.sync_all()?; // before the rename, or a crash could leave an empty file under the new name
    fs::rename(scratch, path)
}

/// Computes the SHA-256 of bytes, in hexadecimal digits.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(Sha256::digest(bytes))
}

/// Returns bytes as lower-case hexadecimal digits.
#[must_use]
pub fn hex(digest: impl AsRef<[u8]>) -> String {
    let mut text = String::with_capacity(64); // of a SHA-256
    for byte in digest.as_ref() {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
    }
    text
}

/// Opens a file below `root` folder by folder without following links.
///
/// Each folder is opened relative to the one before, so another process cannot replace one by a link in between.
#[cfg(unix)]
fn open_below(root: &Path, names: &[&OsStr]) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags, openat};

    let Some((last, folders)) = names.split_last() else {
        return Err(io::ErrorKind::IsADirectory.into());
    };
    let mut folder = File::open(root)?;
    for name in folders {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        folder = openat(&folder, *name, flags, Mode::empty())?.into();
    }
    // `NONBLOCK`, since opening a FIFO would wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(openat(&folder, *last, flags, Mode::empty())?.into())
}

#[cfg(not(unix))]
fn open_below(root: &Path, names: &[&OsStr]) -> io::Result<File> {
    let mut path = root.to_owned();
    for name in names {
        path.push(name);
        if fs::symlink_metadata(&path)?.is_symlink() {
            return Err(io::Error::other("is a link"));
        }
    }
    File::open(path)
}

/// Replaces the system's error for a link, "too many levels of symbolic links" or "not a directory", by a clear one.
fn explain(error: io::Error, root: &Path, path: &Path) -> io::Error {
    let mut way = root.to_owned();
    for part in path.components() {
        way.push(part);
        if way.is_symlink() {
            return refused(root, path, "is, or leads through, a link");
        }
    }
    error
}

fn refused(root: &Path, path: &Path, what: &str) -> io::Error {
    let path = root.join(path);
    io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("`{}` {what}", path.display()),
    )
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::process::Command;

    fn refusal(root: &Path, path: &str) -> String {
        open(root, path).expect_err("refused").to_string()
    }

    #[test]
    fn links_in_a_path_are_errors() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = dir.path();
        fs::create_dir(root.join("inside")).expect("a folder");
        fs::write(root.join("inside/file"), "text").expect("a file");
        symlink("inside", root.join("folder_link")).expect("a link");
        symlink("inside/file", root.join("file_link")).expect("a link");
        symlink("nowhere", root.join("dangling")).expect("a link");

        assert_eq!(read(root, "inside/file", 4).expect("the file"), b"text");
        for path in ["folder_link/file", "file_link", "dangling"] {
            assert!(
                refusal(root, path).ends_with("is, or leads through, a link"),
                "{path}"
            );
        }
        let root_link = root.join("folder_link");
        assert_eq!(
            read(&root_link, "file", 4).expect("the root may be a link"),
            b"text"
        );
    }

    #[test]
    fn fifos_folders_and_devices_are_errors() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = dir.path();
        let made = Command::new("mkfifo")
            .arg(root.join("fifo"))
            .status()
            .expect("mkfifo");
        assert!(made.success());
        fs::create_dir(root.join("folder")).expect("a folder");
        for path in ["fifo", "folder"] {
            assert!(
                refusal(root, path).ends_with("is not a regular file"),
                "{path}"
            );
        }
        assert!(refusal(Path::new("/dev"), "zero").ends_with("is not a regular file"));
    }

    #[test]
    fn paths_outside_the_root_and_long_files_are_errors() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = dir.path();
        fs::write(root.join("file"), "12345").expect("a file");
        assert!(refusal(root, "../x").ends_with("leads out of the folder"));
        assert!(refusal(root, "/etc/passwd").ends_with("leads out of the folder"));
        assert_eq!(read(root, "./file", 5).expect("the file"), b"12345");
        let error = read(root, "file", 4).expect_err("too long");
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        let error = open(root, "missing").expect_err("no file");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
