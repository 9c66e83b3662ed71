//! A run directory with something around it, to see who writes there.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Folders between the scratch folder and the run directory: more than any key under test climbs.
const DEPTH: usize = 12;

/// Files by their path, with what is in them. Folders have nothing in them, and links are not followed.
type Snapshot = BTreeMap<PathBuf, Vec<u8>>;

/// A run directory, deep in a folder that is deleted in the end.
pub(super) struct Scratch {
    root: PathBuf,
    /// The run directory.
    pub(super) run: PathBuf,
    /// What is in the run directory without being the sink's.
    others: Snapshot,
    /// The names in the directory that the program runs in.
    here: Vec<PathBuf>,
}

impl Scratch {
    pub(super) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("bdh-sink-conforms-{}-{number}", std::process::id());
        let root = std::env::temp_dir().join(name);
        let run = (0..DEPTH)
            .fold(root.clone(), |dir, _| dir.join("d"))
            .join("run");
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

    /// A checkpoint's folder, for a sink that keeps files.
    pub(super) fn checkpoint(&self) -> PathBuf {
        self.run.join("checkpoints/a step, größe")
    }

    /// A path outside of the run directory where nothing is.
    pub(super) fn outside(&self) -> PathBuf {
        self.root.join("outside")
    }

    /// Bytes of all files in the run directory that are the sink's.
    pub(super) fn own_bytes(&self) -> usize {
        let mut found = Snapshot::new();
        let _ = look(&self.run, &mut found); // `check` reports what cannot be read
        let own = found
            .iter()
            .filter(|(path, _)| !self.others.contains_key(*path));
        own.map(|(_, held)| held.len()).sum()
    }

    fn furnish(&mut self) -> io::Result<()> {
        fs::create_dir_all(self.checkpoint())?;
        fs::write(self.checkpoint().join("model.safetensors"), [7; 3_000])?;
        fs::write(self.run.join("notes of a person.txt"), "do not touch")?;
        look(&self.run, &mut self.others)
    }

    /// Whether nothing was written outside of the run directory, nothing in it is gone or changed that is not
    /// the sink's, and what is the sink's is named in `files`.
    pub(super) fn check(&self, files: &[String]) -> Result<(), String> {
        let mut found = Snapshot::new();
        look(&self.root, &mut found)
            .map_err(|error| format!("its files cannot be read: {error}"))?;
        let outside = |path: &&PathBuf| !path.starts_with(&self.run);
        if let Some(path) = found.keys().find(outside) {
            return Err(format!(
                "it wrote `{}`, outside of the run directory",
                path.display()
            ));
        }
        if let Some(path) = here().iter().find(|path| !self.here.contains(path)) {
            return Err(format!(
                "it wrote `{}`, in the current directory",
                path.display()
            ));
        }
        if let Some((path, _)) = self
            .others
            .iter()
            .find(|(path, held)| found.get(*path) != Some(held))
        {
            return Err(format!(
                "it touched `{}`, which is not its own",
                path.display()
            ));
        }
        let own = found.keys().filter(|path| !self.others.contains_key(*path));
        let unnamed = own
            .filter_map(|path| path.strip_prefix(&self.run).ok())
            .find(|path| !files.iter().any(|file| is_named(path, file)));
        match unnamed {
            Some(path) => Err(format!(
                "it wrote `{}`, and `files` says {files:?}",
                path.display()
            )),
            None => Ok(()),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root); // it is in the folder for such things
    }
}

/// Whether `file` names `path`: itself, the folder it is in, or what it begins with, up to a `*`.
fn is_named(path: &Path, file: &str) -> bool {
    match file.split_once('*') {
        Some((begin, _)) => path.to_str().is_some_and(|path| path.starts_with(begin)),
        None => path.starts_with(file),
    }
}

/// All files at and below `dir`.
fn look(dir: &Path, into: &mut Snapshot) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() {
            look(&path, into)?;
        } else {
            let held = if kind.is_file() {
                fs::read(&path)?
            } else {
                Vec::new()
            };
            into.insert(path, held);
        }
    }
    Ok(())
}

/// The names in the current directory, as far as it can be read, but for hidden ones: an editor may be at work.
fn here() -> Vec<PathBuf> {
    let names = fs::read_dir(".")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name());
    names
        .filter(|name| !name.as_encoded_bytes().starts_with(b"."))
        .map(PathBuf::from)
        .collect()
}
