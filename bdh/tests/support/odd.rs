//! Odd files in the place of those of a run.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

/// Puts something in the place of a file: a link to it, a FIFO, a device without end, a folder.
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

/// Kinds of odd files that `spoil` makes.
pub(crate) const ODD: [&str; 4] = ["link", "fifo", "zero", "folder"];
