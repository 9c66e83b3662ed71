//! The folder of a sweep: its trials, their workers and results.

use crate::error::SweepError;
use crate::schema::Sweep;
use crate::trial::{Status, Trial};
use bdh::files;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// The folder of a sweep, which several processes on several machines may share.
///
/// ```text
/// sweep.yaml          the sweep file
/// seed                the seed of all draws
/// trials/0001.json    a trial: its values, its status, its result
/// trials/0001.log     the output of the trial
/// trials/0001.lock    locked while a process runs the trial
/// trial-0001/         the run directory of the trial
/// ```
///
/// A sweep claims a trial by creating its file, which appears as a whole, and only once. The sweep and the trial's own
/// process hold its lock. The system releases the lock when both are dead; the next sweep then resumes the trial. On a
/// file system without locks, a trial that was left running stays so until its file is deleted.
#[derive(Debug, Clone)]
pub struct TrialStore {
    dir: PathBuf,
    seed: u64,
}

/// A trial that only this process may write.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) trial: Trial,
    path: PathBuf,
    lock: Lock,
}

impl TrialStore {
    /// Opens the folder of a sweep, or creates it.
    ///
    /// # Errors
    ///
    /// If the folder cannot be written, or belongs to a sweep with another method, metric, seed or other parameters.
    pub fn open(dir: impl AsRef<Path>, yaml: &str, seed: u64) -> Result<Self, SweepError> {
        let dir = dir.as_ref();
        let store = Self {
            dir: std::path::absolute(dir).map_err(failed(dir))?,
            seed,
        };
        fs::create_dir_all(store.trials_dir()).map_err(failed(dir))?;
        store.create_or_compare("seed", &format!("{seed}\n"), |theirs| {
            theirs.trim() == seed.to_string()
        })?;
        let ours: Sweep = yaml.parse()?;
        store.create_or_compare("sweep.yaml", yaml, |theirs| {
            Sweep::of_folder(theirs).is_ok_and(|theirs| theirs.draws_as(&ours))
        })?;
        Ok(store)
    }

    /// Reads the trials of a folder, in their order. Files with other names than `0001.json` are ignored.
    ///
    /// # Errors
    ///
    /// If the folder does not exist, or the file of a trial cannot be read, or is a link or a copy of another trial's.
    pub fn read(dir: impl AsRef<Path>) -> Result<Vec<Trial>, SweepError> {
        let dir = dir.as_ref().join("trials");
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&dir).map_err(failed(&dir))? {
            // An entry that cannot be read is not the file of a trial.
            let Ok(entry) = entry else { continue };
            numbers.extend(entry.file_name().to_str().and_then(number_of));
        }
        numbers.sort_unstable();
        let mut trials = Vec::with_capacity(numbers.len());
        for number in numbers {
            trials.extend(read_if_there(&dir, number)?);
        }
        Ok(trials)
    }

    /// Reads the trials, in their order.
    ///
    /// # Errors
    ///
    /// If the file of a trial cannot be read.
    pub fn trials(&self) -> Result<Vec<Trial>, SweepError> {
        Self::read(&self.dir)
    }

    /// Seed of all draws.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Returns the run directory of a trial.
    #[must_use]
    pub fn run_dir(&self, number: u64) -> PathBuf {
        self.dir.join(Self::run_name(number))
    }

    /// Returns the name of a trial's run directory.
    #[must_use]
    pub fn run_name(number: u64) -> String {
        format!("trial-{number:04}")
    }

    /// Returns the path of a trial's output.
    #[must_use]
    pub fn log(&self, number: u64) -> PathBuf {
        self.path(number, "log")
    }

    pub(crate) fn path(&self, number: u64, ending: &str) -> PathBuf {
        self.trials_dir().join(format!("{number:04}.{ending}"))
    }

    fn trials_dir(&self) -> PathBuf {
        self.dir.join("trials")
    }

    /// Claims a new trial; `None` if another process was faster.
    pub(crate) fn begin(&self, trial: Trial) -> Result<Option<Claim>, SweepError> {
        // The lock comes before the file: a trial with a file and no lock counts as left behind.
        let Some(lock) = self.lock(trial.number)? else {
            return Ok(None);
        };
        let path = self.path(trial.number, "json");
        let is_ours = create_whole(&path, &json(&trial)).map_err(failed(&path))?;
        Ok(is_ours.then_some(Claim { trial, path, lock }))
    }

    /// Claims a trial whose process died or was interrupted; `None` if another process runs it, or its file is gone.
    pub(crate) fn resume(&self, number: u64) -> Result<Option<Claim>, SweepError> {
        let Some(lock) = self.lock(number)? else {
            return Ok(None);
        };
        let path = self.path(number, "json");
        // Read again under the lock: the trial may have ended just now.
        let Some(trial) = read_if_there(&self.trials_dir(), number)? else {
            return Ok(None);
        };
        let is_left_behind = match trial.status {
            Status::Interrupted => true,
            Status::Running => lock.is_exclusive,
            _ => false,
        };
        Ok(is_left_behind.then_some(Claim { trial, path, lock }))
    }

    fn lock(&self, number: u64) -> Result<Option<Lock>, SweepError> {
        let path = self.path(number, "lock");
        Lock::take(&path).map_err(failed(&path))
    }

    /// Creates a file, or checks that the existing one agrees.
    fn create_or_compare(
        &self,
        name: &str,
        ours: &str,
        agrees: impl Fn(&str) -> bool,
    ) -> Result<(), SweepError> {
        let path = self.dir.join(name);
        if create_whole(&path, ours.as_bytes()).map_err(failed(&path))? {
            return Ok(());
        }
        let theirs = fs::read_to_string(&path).map_err(failed(&path))?;
        if agrees(&theirs) {
            return Ok(());
        }
        Err(SweepError::Invalid(format!(
            "`{}` belongs to another {name}: continue with that one, or use another folder",
            self.dir.display()
        )))
    }
}

impl Claim {
    /// Writes the trial's file.
    pub(crate) fn save(&self) -> Result<(), SweepError> {
        files::write_atomically(&self.path, &json(&self.trial)).map_err(failed(&self.path))
    }

    /// Returns a handle of the lock, for the trial's process to hold too.
    pub(crate) fn lock(&self) -> Option<File> {
        self.lock.file.try_clone().ok()
    }

    /// Writes how the trial ended.
    pub(crate) fn end(&mut self, status: Status, why: Option<String>) -> Result<(), SweepError> {
        (self.trial.status, self.trial.why) = (status, why);
        self.save()
    }
}

/// A lock on a file, held while some process has the handle open.
#[derive(Debug)]
struct Lock {
    file: File,
    /// Whether the file system supports locks, so that other processes are kept away.
    is_exclusive: bool,
}

impl Lock {
    /// Takes the lock; `None` if another process has it.
    fn take(path: &Path) -> io::Result<Option<Self>> {
        let file = File::options()
            .create(true)
            .read(true)
            .append(true)
            .open(path)?;
        let is_exclusive = match file.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(_)) => false,
        };
        Ok(Some(Self { file, is_exclusive }))
    }
}

/// Creates a file with its whole content at once; returns whether there was none before.
fn create_whole(path: &Path, bytes: &[u8]) -> io::Result<bool> {
    let mut file = temporary(path.parent().unwrap_or(Path::new(".")))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(true),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error.error),
    }
}

/// Creates a temporary file in `dir`, deleted with its handle unless it is renamed.
///
/// The file's mode follows the umask, like every file of a run. The default mode of `tempfile` would exclude other users.
fn temporary(dir: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(dir)
}

/// Returns the number of the trial whose file has this name: `0001.json`, but not `1.json` or `0001.args.json`.
fn number_of(name: &str) -> Option<u64> {
    let number = name.strip_suffix(".json")?.parse().ok()?;
    (number > 0 && name == file_name(number)).then_some(number)
}

fn file_name(number: u64) -> String {
    format!("{number:04}.json")
}

/// Reads the file of a trial; `None` if it was deleted meanwhile, to run the trial again.
fn read_if_there(dir: &Path, number: u64) -> Result<Option<Trial>, SweepError> {
    match read(dir, number) {
        Ok(trial) => Ok(Some(trial)),
        Err(SweepError::Folder { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Reads the file of a trial.
fn read(dir: &Path, number: u64) -> Result<Trial, SweepError> {
    let path = dir.join(file_name(number));
    let text = read_bytes(dir, number)?;
    let trial: Trial = serde_json::from_slice(&text).map_err(|error| {
        SweepError::Invalid(format!(
            "`{}` is not a trial ({error}): delete it to run the trial again",
            path.display()
        ))
    })?;
    if trial.number != number {
        return Err(SweepError::Invalid(format!(
            "`{}` is a copy of trial {}: delete it to run trial {number}",
            path.display(),
            trial.number
        )));
    }
    Ok(trial)
}

fn read_bytes(dir: &Path, number: u64) -> Result<Vec<u8>, SweepError> {
    let name = file_name(number);
    match files::read(dir, &name, files::MAX_JSON) {
        Ok(bytes) => Ok(bytes),
        // A link or a folder where the file of a trial should be.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Err(SweepError::Invalid(
            format!("{error}, so it is not a trial: move it elsewhere"),
        )),
        Err(source) => Err(SweepError::Folder {
            path: dir.join(name),
            source,
        }),
    }
}

fn json(trial: &Trial) -> Vec<u8> {
    serde_json::to_vec_pretty(trial).expect("names, numbers and lists of them are JSON")
}

/// Returns a conversion of system errors that names this path.
fn failed(path: &Path) -> impl Fn(io::Error) -> SweepError + use<> {
    let path = path.to_owned();
    move |source| SweepError::Folder {
        path: path.clone(),
        source,
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn temporary_file_has_the_usual_mode() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let other = File::create(dir.path().join("other")).expect("a file");
        let ours = temporary(dir.path()).expect("a file");
        let mode = |file: &File| file.metadata().expect("a file").permissions();
        assert_eq!(mode(ours.as_file()), mode(&other));
    }
}
