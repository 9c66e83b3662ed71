//! Everything in a directory, to check that nothing changes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Bytes and time of the last change of each entry below a directory. The bytes of a link are its target, and a folder
/// has none.
pub(crate) type Snapshot = BTreeMap<PathBuf, (Vec<u8>, SystemTime)>;

pub(crate) fn snapshot(dir: &Path) -> Snapshot {
    let mut entries = Snapshot::new();
    add(dir, &mut entries);
    entries
}

fn add(path: &Path, entries: &mut Snapshot) {
    let found = fs::symlink_metadata(path).expect("an entry");
    let mut bytes = Vec::new();
    if found.is_symlink() {
        let target = fs::read_link(path).expect("a link");
        bytes = target.into_os_string().into_encoded_bytes();
    } else if found.is_file() {
        bytes = fs::read(path).expect("a file");
    }
    let changed = found.modified().expect("the time of the last change");
    entries.insert(path.to_owned(), (bytes, changed));
    if found.is_dir() {
        for entry in fs::read_dir(path).expect("a folder") {
            add(&entry.expect("an entry").path(), entries);
        }
    }
}
