//! Run directory of a test, with files of others around it, to find writes in the wrong place.

use crate::failure::BoxError;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Folders between the scratch folder and the run directory: more than the `../` in any key under test.
const DEPTH: usize = 12;

/// Content of files by path. Folders are left out, links are not followed.
type Snapshot = BTreeMap<PathBuf, Vec<u8>>;

/// A run directory, deep in a temporary folder that is deleted at the end.
pub(super) struct Scratch {
    root: PathBuf,
    /// The run directory.
    pub(super) run: PathBuf,
    /// Files in the run directory that are not the sink's.
    others: Snapshot,
    /// Names in the current directory before the test.
    here: Vec<PathBuf>,
}

impl Scratch {
    pub(super) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("bdh-sink-conforms-{}-{number}", std::process::id());
        let root = std::env::temp_dir().join(name);
        let run = deep_below(&root);
        let mut scratch = Self {
            root,
            run,
            others: Snapshot::new(),
            here: here(),
        };
        scratch
            .furnish()
            .expect("a temporary directory can be written to");
        scratch
    }

    /// Returns the folder of a checkpoint, for sinks that store files.
    pub(super) fn checkpoint(&self) -> PathBuf {
        self.run.join("checkpoints/a step, größe")
    }

    /// Returns a path outside the run directory that does not exist.
    pub(super) fn outside(&self) -> PathBuf {
        self.root.join("outside")
    }

    /// Returns the number of bytes in the sink's files.
    pub(super) fn own_bytes(&self) -> usize {
        let mut found = Snapshot::new();
        let _ = add_files(&self.run, &mut found); // `check` reports a folder that cannot be read
        let mut bytes = 0;
        for (path, content) in &found {
            if !self.others.contains_key(path) {
                bytes += content.len();
            }
        }
        bytes
    }

    fn furnish(&mut self) -> io::Result<()> {
        fs::create_dir_all(self.checkpoint())?;
        fs::write(self.checkpoint().join("model.safetensors"), [7; 3_000])?;
        fs::write(self.run.join("notes of a person.txt"), "do not touch")?;
        add_files(&self.run, &mut self.others)
    }

    /// Checks that all new files are in the run directory and listed in `files`, and that files of others are
    /// unchanged.
    pub(super) fn check(&self, files: &[String]) -> Result<(), BoxError> {
        let mut found = Snapshot::new();
        add_files(&self.root, &mut found)
            .map_err(|error| format!("its files cannot be read: {error}"))?;
        self.check_others(&found)?;
        for path in found.keys() {
            self.check_place(path, files)?;
        }
        Ok(())
    }

    /// Checks that a file is in the run directory, and is listed in `files` unless it was there before.
    fn check_place(&self, path: &Path, files: &[String]) -> Result<(), BoxError> {
        let Ok(in_run) = path.strip_prefix(&self.run) else {
            let path = path.display();
            return Err(format!("it wrote `{path}`, outside the run directory").into());
        };
        let is_listed = files.iter().any(|file| is_named(in_run, file));
        if !is_listed && !self.others.contains_key(path) {
            let path = in_run.display();
            return Err(format!("it wrote `{path}`, but `files` lists {files:?}").into());
        }
        Ok(())
    }

    /// Checks that files of others are unchanged, and that the current directory has no new ones.
    fn check_others(&self, found: &Snapshot) -> Result<(), BoxError> {
        for (path, content) in &self.others {
            if found.get(path) != Some(content) {
                let path = path.display();
                return Err(format!("it changed `{path}`, which is not its own").into());
            }
        }
        for path in here() {
            if !self.here.contains(&path) {
                let path = path.display();
                return Err(format!("it wrote `{path}`, in the current directory").into());
            }
        }
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root); // the system empties its temporary folder too
    }
}

/// Returns the path of a run directory [`DEPTH`] folders below a root.
fn deep_below(root: &Path) -> PathBuf {
    let mut run = root.to_owned();
    for _ in 0..DEPTH {
        run.push("d");
    }
    run.push("run");
    run
}

/// Whether an entry of `files` names a path: equal to it, a folder above it, or a prefix of it that ends with `*`.
fn is_named(path: &Path, file: &str) -> bool {
    match file.split_once('*') {
        Some((begin, _)) => path.to_str().is_some_and(|path| path.starts_with(begin)),
        None => path.starts_with(file),
    }
}

/// Adds all files below a folder.
fn add_files(dir: &Path, snapshot: &mut Snapshot) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() {
            add_files(&path, snapshot)?;
        } else if kind.is_file() {
            snapshot.insert(path.clone(), fs::read(&path)?);
        } else {
            snapshot.insert(path, Vec::new());
        }
    }
    Ok(())
}

/// Returns the names in the current directory that are readable and not hidden: an editor may add hidden ones
/// meanwhile.
fn here() -> Vec<PathBuf> {
    let mut names = Vec::new();
    let Ok(entries) = fs::read_dir(".") else {
        return names;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if !name.as_encoded_bytes().starts_with(b".") {
            names.push(PathBuf::from(name));
        }
    }
    names
}
