//! Files of a run directory, read and written so that a damaged or crafted directory does no harm.
//!
//! A run directory may come from someone else: unpacked, downloaded, shared. A link in it could name a private file, a
//! FIFO could block a reader for ever, a device has no end. Everything that reads a file of a run opens it here.

mod on_disk;

pub(crate) use on_disk::has_no_name;
pub use on_disk::{BACKLOG, Faults, check_not_deleted};

use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Component, Path};

/// Largest size, in bytes, of a file that is parsed as a whole: `run.json`, `manifest.json`, `state.json`.
pub const MAX_JSON: u64 = 256 << 20;

/// Opens a regular file below `root` for reading.
///
/// `root` is the caller's own choice and may be a link; `path`, relative to it, may not contain one.
///
/// # Errors
///
/// [`io::ErrorKind::NotFound`] if there is no such file; [`io::ErrorKind::InvalidInput`] if `path` leaves `root`, and if
/// it is, or leads through, a link, or is a folder, a FIFO or a device.
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
    let mut names = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => names.push(name),
            Component::CurDir => {}
            _ => return Err(refused(root, path, "leads out of the folder")),
        }
    }
    let file = open_below(root, &names).map_err(|error| explain(error, root, path))?;
    if !file.metadata()?.is_file() {
        return Err(refused(root, path, "is not a regular file"));
    }
    Ok(file)
}

/// Reads a regular file below `root`, of at most `max_bytes` bytes, as [`open`] opens it.
///
/// # Errors
///
/// As [`open`]; [`io::ErrorKind::FileTooLarge`] if the file is longer.
pub fn read(root: &Path, path: impl AsRef<Path>, max_bytes: u64) -> io::Result<Vec<u8>> {
    let path = path.as_ref();
    let file = open(root, path)?;
    let mut bytes = Vec::new();
    file.take(max_bytes.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes {
        let what = format!(
            "`{}` is longer than {max_bytes} bytes",
            root.join(path).display()
        );
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
    }
    Ok(bytes)
}

/// Whether `path` below `root` is a regular file, or a folder with nothing but those in it, and no link leads there.
pub(crate) fn is_plain(root: &Path, path: &Path) -> bool {
    let mut way = root.to_owned();
    let is_link = |part: Component<'_>| {
        way.push(part);
        !matches!(part, Component::Normal(_)) || way.is_symlink()
    };
    !path.components().any(is_link) && holds_plain_files(&root.join(path))
}

fn holds_plain_files(path: &Path) -> bool {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::read_dir(path).is_ok_and(|mut entries| {
            entries.all(|entry| entry.is_ok_and(|entry| holds_plain_files(&entry.path())))
        }),
        Ok(found) => found.is_file(),
        Err(_) => false,
    }
}

/// Makes a folder unless it is there. The one above it must be: where a run directory was deleted, none is made again.
///
/// # Errors
///
/// If the file system refuses.
pub fn ensure_dir(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// Writes `bytes` to `path` so that a reader sees the old file or the new one, never a part.
///
/// # Errors
///
/// If the file system refuses; the old file is still there then.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let scratch = path.with_extension("tmp");
    // Left by a process that died; or a link, and writing through it would change a file elsewhere.
    let _ = fs::remove_file(&scratch);
    let write = || {
        let mut file = File::create_new(&scratch)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&scratch, path)
    };
    write().inspect_err(|_| drop(fs::remove_file(&scratch)))
}

/// The SHA-256 of some bytes, in hexadecimal digits.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(Sha256::digest(bytes))
}

/// Returns bytes as lower-case hexadecimal digits.
#[must_use]
pub fn hex(digest: impl AsRef<[u8]>) -> String {
    digest
        .as_ref()
        .iter()
        .fold(String::with_capacity(64), |mut text, byte| {
            write!(text, "{byte:02x}").expect("a string takes whatever is written to it");
            text
        })
}

/// Opens each folder on the way without following a link, so that no other process can exchange one in between.
#[cfg(unix)]
fn open_below(root: &Path, names: &[&std::ffi::OsStr]) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags, openat};

    let Some((last, folders)) = names.split_last() else {
        return Err(io::ErrorKind::IsADirectory.into());
    };
    let mut folder = File::open(root)?;
    for name in folders {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        folder = openat(&folder, *name, flags, Mode::empty())?.into();
    }
    // Without blocking: opening a FIFO would wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(openat(&folder, *last, flags, Mode::empty())?.into())
}

#[cfg(not(unix))]
fn open_below(root: &Path, names: &[&std::ffi::OsStr]) -> io::Result<File> {
    let mut path = root.to_owned();
    for name in names {
        path.push(name);
        if fs::symlink_metadata(&path)?.is_symlink() {
            return Err(io::Error::other("is a link"));
        }
    }
    File::open(path)
}

/// Replaces the system's words for a link on the way, "too many levels of symbolic links" or "not a directory".
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
    fn links_are_refused_wherever_they_stand() {
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
    fn what_is_no_regular_file_is_refused_at_once() {
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
    fn paths_stay_below_their_root_and_files_below_their_limit() {
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
