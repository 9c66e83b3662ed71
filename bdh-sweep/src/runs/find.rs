//! All runs below a folder.

use super::{Keys, Run, RunError, RunStatus};
use crate::ledger::Ledger;
use crate::trial::{Status, Trial};
use bdh::run_dir;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Folders below a folder that are searched for runs, at most.
const DEPTH: usize = 6;

/// What is below some folders.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Found {
    /// The runs, by name.
    pub runs: Vec<Run>,
    /// Those that could not be read.
    pub errors: Vec<RunError>,
}

/// Reads every run below some folders, on all cores. Links are not followed.
///
/// Of a sweep's folder the trials that left no run are rows too: they failed, and the table says why.
#[must_use]
pub fn read_all<P: AsRef<Path>>(roots: impl IntoIterator<Item = P>, keys: &Keys) -> Found {
    let mut found = Found::default();
    let roots: Vec<P> = roots.into_iter().collect();
    for root in roots.iter().map(AsRef::as_ref) {
        let mut below = Below::default();
        below.search(root, DEPTH);
        let (mut runs, errors) = read_each(&below.runs, keys);
        add_trials(&below.sweeps, &mut runs);
        for run in &mut runs {
            let below = run.dir.strip_prefix(root).unwrap_or(&run.dir);
            if !below.as_os_str().is_empty() {
                run.name = below.display().to_string();
            }
        }
        if roots.len() > 1 {
            // Below each of them there may be a run of the same name.
            for run in &mut runs {
                run.name = run.dir.display().to_string();
            }
        }
        found.runs.append(&mut runs);
        found.errors.extend(errors);
    }
    found
        .runs
        .sort_by(|a, b| a.name.cmp(&b.name).then_with(|| a.dir.cmp(&b.dir)));
    found.runs.dedup_by(|a, b| a.dir == b.dir); // of a folder and one below it
    found
}

/// What is below a folder.
#[derive(Default)]
struct Below {
    /// Folders with a `run.json`, in which no other runs are looked for.
    runs: Vec<PathBuf>,
    /// Folders of sweeps.
    sweeps: Vec<PathBuf>,
}

impl Below {
    fn search(&mut self, dir: &Path, depth: usize) {
        // One that is a link, or no file, is no run that can be read: reading it says so.
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
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        let mut below: Vec<_> = entries
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            // What died before its first checkpoint was moved there, and run anew.
            .filter(|entry| !entry.file_name().to_string_lossy().contains(".died-"))
            .map(|entry| entry.path())
            .collect();
        below.sort();
        for dir in below {
            self.search(&dir, depth);
        }
    }
}

fn read_each(dirs: &[PathBuf], keys: &Keys) -> (Vec<Run>, Vec<RunError>) {
    let results = Mutex::new(Vec::new());
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(dir) = dirs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let run = Run::read(dir, &keys.all());
            results
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .push(run);
        }
    };
    let threads = thread::available_parallelism()
        .map_or(1, usize::from)
        .min(dirs.len().max(1));
    thread::scope(|scope| {
        for _ in 1..threads {
            // Where the system has no thread to give, this one does it all.
            let _ = thread::Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
    let results = results
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let (mut runs, mut errors) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(run) => runs.push(run),
            Err(error) => errors.push(error),
        }
    }
    (runs, errors)
}

/// What sweeps know of their trials.
fn add_trials(sweeps: &[PathBuf], runs: &mut Vec<Run>) {
    let places = runs
        .iter()
        .enumerate()
        .map(|(place, run)| (run.dir.clone(), place));
    let mut places: HashMap<PathBuf, usize> = places.collect();
    for root in sweeps {
        for trial in Ledger::read(root).unwrap_or_default() {
            let name = Ledger::run_name(trial.number);
            let dir = root.join(&name);
            let place = match places.get(&dir) {
                Some(place) => *place,
                None if trial.status == Status::Failed => {
                    let mut run = Run::new(&name);
                    (run.dir, run.seconds) = (dir.clone(), trial.seconds);
                    runs.push(run);
                    places.insert(dir, runs.len() - 1);
                    runs.len() - 1
                }
                None => continue,
            };
            if trial.status == Status::Failed {
                runs[place].status = failed(&trial);
            }
            runs[place].chosen = trial.values.into_iter().collect();
        }
    }
}

fn failed(trial: &Trial) -> RunStatus {
    RunStatus::Failed(trial.why.clone().unwrap_or_default())
}
