//! Finds and reads all runs below a folder.

use super::{Keys, Run, RunError, RunStatus};
use crate::trial::{Status, Trial};
use crate::trial_store::TrialStore;
use bdh::run_dir;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Largest depth of the folders that are searched for runs.
const DEPTH: usize = 6;

/// The runs below some folders.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Found {
    /// Runs, by name.
    pub runs: Vec<Run>,
    /// Errors of runs that could not be read.
    pub errors: Vec<RunError>,
}

/// Reads every run below some folders, on all cores. Links are not followed.
///
/// In the folder of a sweep, a failed trial without a run is a run too, and its status has the reason.
#[must_use]
pub fn read_all<P: AsRef<Path>>(roots: impl IntoIterator<Item = P>, keys: &Keys) -> Found {
    let mut found = Found::default();
    let roots: Vec<P> = roots.into_iter().collect();
    for root in &roots {
        let root = root.as_ref();
        let mut below = read_below(root, keys);
        // Several folders may have runs of the same name.
        let base = (roots.len() == 1).then_some(root);
        for run in &mut below.runs {
            name_by_path(run, base);
        }
        found.runs.append(&mut below.runs);
        found.errors.append(&mut below.errors);
    }
    sort_and_dedup(&mut found.runs);
    found
}

/// Sorts runs by name, and removes repeated ones: a folder may be below another.
fn sort_and_dedup(runs: &mut Vec<Run>) {
    runs.sort_by(|a, b| a.name.cmp(&b.name).then_with(|| a.dir.cmp(&b.dir)));
    runs.dedup_by(|a, b| a.dir == b.dir);
}

/// Reads the runs below one folder, with the trials of its sweeps.
fn read_below(root: &Path, keys: &Keys) -> Found {
    let mut below = Below::default();
    below.search(root, DEPTH);
    let mut found = read_each(&below.runs, keys);
    add_trials(&below.sweeps, &mut found.runs);
    found
}

/// Names a run by the path of its directory, below `root` if there is one.
fn name_by_path(run: &mut Run, root: Option<&Path>) {
    let path = match root {
        Some(root) => run.dir.strip_prefix(root).unwrap_or(&run.dir),
        None => &run.dir,
    };
    // The root itself keeps the name of its directory.
    if !path.as_os_str().is_empty() {
        run.name = path.display().to_string();
    }
}

/// The folders of interest below a folder.
#[derive(Default)]
struct Below {
    /// Folders with a `run.json`; they are not searched further.
    runs: Vec<PathBuf>,
    /// Folders of sweeps.
    sweeps: Vec<PathBuf>,
}

impl Below {
    fn search(&mut self, dir: &Path, depth: usize) {
        // A `run.json` that is a link or no regular file counts: reading the run reports the error.
        if fs::symlink_metadata(dir.join(run_dir::FILE)).is_ok_and(|found| !found.is_dir()) {
            self.runs.push(dir.to_owned());
            return;
        }
        if dir.join("trials").is_dir() {
            self.sweeps.push(dir.to_owned());
        }
        let Some(depth) = depth.checked_sub(1) else {
            return;
        };
        for dir in folders_in(dir) {
            self.search(&dir, depth);
        }
    }
}

/// Returns the folders in a folder, in order; none if it cannot be read.
fn folders_in(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut folders = Vec::new();
    for entry in entries.flatten() {
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        // A run that died before its first checkpoint was moved to such a folder and run again.
        let is_dead = entry.file_name().to_string_lossy().contains(".died-");
        if is_dir && !is_dead {
            folders.push(entry.path());
        }
    }
    folders.sort();
    folders
}

/// Reads run directories on one thread per core.
fn read_each(dirs: &[PathBuf], keys: &Keys) -> Found {
    let queue = ReadQueue {
        dirs,
        keys,
        next: AtomicUsize::new(0),
        found: Mutex::new(Found::default()),
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 1..cores.min(dirs.len()) {
            // If the system cannot start a thread, this one does the work.
            let _ = thread::Builder::new().spawn_scoped(scope, || queue.work());
        }
        queue.work();
    });
    queue
        .found
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
}

/// Run directories to read, shared by all threads.
struct ReadQueue<'a> {
    dirs: &'a [PathBuf],
    keys: &'a Keys,
    /// Index of the next directory to read.
    next: AtomicUsize,
    found: Mutex<Found>,
}

impl ReadQueue<'_> {
    /// Reads directories until none is left.
    fn work(&self) {
        // Relaxed: the counter only hands out indices, and the lock orders the results.
        while let Some(dir) = self.dirs.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            let run = Run::read(dir, &self.keys.all());
            // A poisoned list is whole: `push` does not panic halfway, and the scope passes the panic on.
            let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
            match run {
                Ok(run) => found.runs.push(run),
                Err(error) => found.errors.push(error),
            }
        }
    }
}

/// Adds to the runs what sweeps know of their trials, and adds failed trials without a run.
fn add_trials(sweeps: &[PathBuf], runs: &mut Vec<Run>) {
    let indices = indices_by_dir(runs);
    for root in sweeps {
        for trial in TrialStore::read(root).unwrap_or_default() {
            let dir = root.join(TrialStore::run_name(trial.number));
            if let Some(index) = indices.get(&dir) {
                add_trial(trial, &mut runs[*index]);
            } else if trial.status == Status::Failed {
                runs.push(failed_trial(trial, dir));
            }
        }
    }
}

fn indices_by_dir(runs: &[Run]) -> HashMap<PathBuf, usize> {
    let mut indices = HashMap::with_capacity(runs.len());
    for (index, run) in runs.iter().enumerate() {
        indices.insert(run.dir.clone(), index);
    }
    indices
}

/// Returns the run of a failed trial that has recorded none.
fn failed_trial(trial: Trial, dir: PathBuf) -> Run {
    let mut run = Run::new(TrialStore::run_name(trial.number));
    (run.dir, run.seconds) = (dir, trial.seconds);
    add_trial(trial, &mut run);
    run
}

fn add_trial(trial: Trial, run: &mut Run) {
    if trial.status == Status::Failed {
        run.status = RunStatus::Failed(trial.why.unwrap_or_default());
    }
    run.chosen = trial.values.into_iter().collect();
}
