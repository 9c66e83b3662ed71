//! The folder of a sweep: which trials there are, who runs them, how they ended.

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
/// sweep.yaml          the file that it was begun with
/// seed                of everything that is drawn
/// trials/0001.json    a trial: its values, its status, what came of it
/// trials/0001.log     what it printed
/// trials/0001.lock    locked as long as somebody runs it
/// trial-0001/         its run directory
/// ```
///
/// A trial belongs to whoever makes its file, which appears whole or not at all, and only once. The sweep and the trial's
/// own process hold its lock; the system lets go of that when both are dead, and then whoever comes next takes the trial up
/// where it was. Where nothing can be locked, a trial that was left running stays so until its file is deleted.
#[derive(Debug, Clone)]
pub struct Ledger {
    dir: PathBuf,
    seed: u64,
}

/// A trial of which nobody else may write.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) trial: Trial,
    path: PathBuf,
    lock: Lock,
}

impl Ledger {
    /// Opens the folder of a sweep, or makes it.
    ///
    /// # Errors
    ///
    /// If it cannot be written, or belongs to a sweep with another method, metric, seed or other parameters.
    pub fn open(dir: impl AsRef<Path>, yaml: &str, seed: u64) -> Result<Self, SweepError> {
        let dir = dir.as_ref();
        let absolute = std::path::absolute(dir).map_err(failed(dir))?;
        let ledger = Self {
            dir: absolute,
            seed,
        };
        fs::create_dir_all(ledger.dir.join("trials")).map_err(failed(dir))?;
        ledger.settle("seed", &format!("{seed}\n"), |theirs| {
            theirs.trim() == seed.to_string()
        })?;
        let ours: Sweep = yaml.parse()?;
        ledger.settle("sweep.yaml", yaml, |theirs| {
            Sweep::of_folder(theirs).is_ok_and(|theirs| theirs.draws_as(&ours))
        })?;
        Ok(ledger)
    }

    /// Reads the trials of a folder, in their order. Files with other names than `0001.json` are left alone.
    ///
    /// # Errors
    ///
    /// If there is no such folder, or the file of a trial cannot be read, or is a link or a copy of another trial's.
    pub fn read(dir: impl AsRef<Path>) -> Result<Vec<Trial>, SweepError> {
        let dir = dir.as_ref().join("trials");
        let entries = fs::read_dir(&dir).map_err(failed(&dir))?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut numbers: Vec<_> = names.filter_map(|name| number_of(&name)).collect();
        numbers.sort_unstable();
        let mut trials = Vec::with_capacity(numbers.len());
        for number in numbers {
            trials.extend(read_if_there(&dir, number)?);
        }
        Ok(trials)
    }

    /// The trials as they stand, in their order.
    ///
    /// # Errors
    ///
    /// If the file of one cannot be read.
    pub fn trials(&self) -> Result<Vec<Trial>, SweepError> {
        Self::read(&self.dir)
    }

    /// The seed of everything that is drawn.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The run directory of a trial.
    #[must_use]
    pub fn run_dir(&self, number: u64) -> PathBuf {
        self.dir.join(Self::run_name(number))
    }

    /// The name of that directory.
    #[must_use]
    pub fn run_name(number: u64) -> String {
        format!("trial-{number:04}")
    }

    /// What a trial printed.
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

    /// Takes a trial that is new; `None` if somebody was faster.
    pub(crate) fn begin(&self, trial: Trial) -> Result<Option<Claim>, SweepError> {
        let Some(lock) = self.lock(trial.number)? else {
            return Ok(None);
        };
        let path = self.path(trial.number, "json");
        let is_ours = appear(&path, &json(&trial)).map_err(failed(&path))?;
        Ok(is_ours.then_some(Claim { trial, path, lock }))
    }

    /// Takes a trial whose process died or was interrupted; `None` if another process runs it, or its file is gone.
    pub(crate) fn take_up(&self, number: u64) -> Result<Option<Claim>, SweepError> {
        let Some(lock) = self.lock(number)? else {
            return Ok(None);
        };
        let path = self.path(number, "json");
        // Once more: it may have ended just now.
        let Some(trial) = read_if_there(&self.trials_dir(), number)? else {
            return Ok(None);
        };
        let is_left = match trial.status {
            Status::Interrupted => true,
            Status::Running => lock.is_sure,
            _ => false,
        };
        Ok(is_left.then_some(Claim { trial, path, lock }))
    }

    fn lock(&self, number: u64) -> Result<Option<Lock>, SweepError> {
        let path = self.path(number, "lock");
        Lock::take(&path).map_err(failed(&path))
    }

    /// Writes a file, unless it is there already; then it has to say the same.
    fn settle(
        &self,
        name: &str,
        ours: &str,
        agrees: impl Fn(&str) -> bool,
    ) -> Result<(), SweepError> {
        let path = self.dir.join(name);
        if appear(&path, ours.as_bytes()).map_err(failed(&path))? {
            return Ok(());
        }
        let theirs = fs::read_to_string(&path).map_err(failed(&path))?;
        if agrees(&theirs) {
            return Ok(());
        }
        Err(SweepError::Invalid(format!(
            "`{}` was begun with another {name}: go on with that one, or take another folder",
            self.dir.display()
        )))
    }
}

impl Claim {
    /// Writes how the trial stands.
    pub(crate) fn save(&self) -> Result<(), SweepError> {
        files::write_atomically(&self.path, &json(&self.trial)).map_err(failed(&self.path))
    }

    /// The lock, for the trial's process to hold, too.
    pub(crate) fn lock(&self) -> Option<File> {
        self.lock.file.try_clone().ok()
    }

    pub(crate) fn end(&mut self, status: Status, why: Option<String>) -> Result<(), SweepError> {
        (self.trial.status, self.trial.why) = (status, why);
        self.save()
    }
}

/// Holds a file as long as some process has it open.
#[derive(Debug)]
struct Lock {
    file: File,
    /// Whether it can be locked, so that others are kept away.
    is_sure: bool,
}

impl Lock {
    /// `None` if somebody else has it.
    fn take(path: &Path) -> io::Result<Option<Self>> {
        let file = File::options()
            .create(true)
            .read(true)
            .append(true)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self {
                file,
                is_sure: true,
            })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(_)) => Ok(Some(Self {
                file,
                is_sure: false,
            })),
        }
    }
}

/// Puts a whole file at a path where none is, and tells whether there was none.
fn appear(path: &Path, bytes: &[u8]) -> io::Result<bool> {
    let mut file = temporary(path.parent().unwrap_or(Path::new(".")))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(true),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error.error),
    }
}

/// Makes a file in `dir` that goes with its handle unless it gets a name; who may read it is up to the umask, as with any
/// other file of a run.
fn temporary(dir: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(dir)
}

/// The number of the trial whose file has this name: `0001.json`, and not `1.json` or `0001.args.json`.
fn number_of(name: &str) -> Option<u64> {
    let number = name.strip_suffix(".json")?.parse().ok()?;
    (number > 0 && name == file_name(number)).then_some(number)
}

fn file_name(number: u64) -> String {
    format!("{number:04}.json")
}

/// Reads the file of a trial; `None` if it was deleted meanwhile, for the trial to be run anew.
fn read_if_there(dir: &Path, number: u64) -> Result<Option<Trial>, SweepError> {
    match read(dir, number) {
        Err(SweepError::Folder { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Ok(None)
        }
        trial => trial.map(Some),
    }
}

/// Reads the file of a trial.
fn read(dir: &Path, number: u64) -> Result<Trial, SweepError> {
    let (name, invalid) = (file_name(number), SweepError::Invalid);
    let path = dir.join(&name);
    let text = match files::read(dir, &name, files::MAX_JSON) {
        Ok(text) => text,
        // A link or a folder: it holds no trial and stands where one is to be.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            return Err(invalid(format!(
                "{error}, and so no trial: move it elsewhere"
            )));
        }
        Err(error) => return Err(failed(&path)(error)),
    };
    let trial: Trial = serde_json::from_slice(&text).map_err(|error| {
        let path = path.display();
        invalid(format!(
            "`{path}` is no trial ({error}): delete it, and it is run anew"
        ))
    })?;
    if trial.number == number {
        return Ok(trial);
    }
    let (path, other) = (path.display(), trial.number);
    Err(invalid(format!(
        "`{path}` is a copy of trial {other}: delete it, and trial {number} is run"
    )))
}

fn json(trial: &Trial) -> Vec<u8> {
    serde_json::to_vec_pretty(trial).expect("names, numbers and lists of them are JSON")
}

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
    fn a_temporary_file_has_the_mode_of_any_other() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let other = File::create(dir.path().join("other")).expect("a file");
        let ours = temporary(dir.path()).expect("a file");
        let mode = |file: &File| file.metadata().expect("a file").permissions();
        assert_eq!(mode(ours.as_file()), mode(&other));
    }
}
