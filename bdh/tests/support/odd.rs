//! Links, FIFOs, devices and folders in the place of a run's files.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

/// Replaces a file by a link to it, a FIFO, an endless device or a folder.
pub(crate) fn spoil(path: &Path, with: &str) {
    let kept = path.with_extension("kept");
    fs::rename(path, &kept).expect("renamed");
    match with {
        "link" => symlink(&kept, path).expect("a link"),
        "fifo" => assert!(
            Command::new("mkfifo")
                .arg(path)
                .status()
                .expect("mkfifo")
                .success()
        ),
        "zero" => symlink("/dev/zero", path).expect("a link"),
        _ => fs::create_dir(path).expect("a folder"),
    }
}

/// Kinds of replacements that `spoil` makes.
pub(crate) const ODD: [&str; 4] = ["link", "fifo", "zero", "folder"];
