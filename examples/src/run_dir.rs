//! Directories of runs: choosing, resuming, and saved flags.

use bdh::clock::RunLength;
use bdh::run_dir::holds_run;
use bdh::{BoxError, Clock, checkpoint, files, run_dir};
use bdh_cli::sweep::check_dir;
use serde_json::Value;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Directory of a run.
#[derive(Debug)]
pub struct RunDir {
    /// Path of the directory.
    pub path: PathBuf,
    /// Whether to resume the run in the directory.
    pub resumes: bool,
    /// Newest checkpoint of a run to resume; `None` if the run ended before its first checkpoint.
    pub checkpoint: Option<PathBuf>,
    /// Path without a number, for runs without a given name. A number is added if the path exists.
    base: Option<PathBuf>,
    /// Directories that `claim` created, starting with the innermost.
    created: Vec<PathBuf>,
}

impl RunDir {
    /// Chooses the directory of a new run below `runs`, or finds the directory of the run to resume.
    ///
    /// Creates nothing. `given` is whether the user gave the name.
    ///
    /// # Errors
    ///
    /// If a given name belongs to another run, or `runs` cannot be created.
    pub fn choose(runs: &Path, name: &str, given: bool, resume: bool) -> Result<Self, BoxError> {
        let path = runs.join(name);
        if resume {
            return Ok(Self::at(path, true));
        }
        check_dir("--runs", runs)?;
        if given && holds_run(&path) {
            return Err(format!(
                "`{}` exists already: add --resume to continue its run, or give another --name",
                path.display()
            )
            .into());
        }
        if given {
            return Ok(Self::at(path, false));
        }
        let mut dir = Self::at(first_free(&path), false);
        dir.base = Some(path);
        Ok(dir)
    }

    fn at(path: PathBuf, resumes: bool) -> Self {
        let checkpoint = checkpoint::latest(&path.join("checkpoints")).filter(|_| resumes);
        Self {
            path,
            resumes,
            checkpoint,
            base: None,
            created: Vec::new(),
        }
    }

    /// Creates the directory of a run without a given name, so that no other process uses the same name.
    ///
    /// The directory is removed again when this value is dropped, unless it contains a file then.
    ///
    /// # Errors
    ///
    /// If the directory cannot be created.
    pub fn claim(mut self) -> Result<Self, BoxError> {
        let Some(base) = self.base.clone() else {
            return Ok(self);
        };
        loop {
            let missing = self.path.ancestors().take_while(|path| !path.exists());
            let missing: Vec<_> = missing.map(Path::to_owned).collect();
            let parent = self.path.parent().unwrap_or(Path::new(""));
            fs::create_dir_all(parent).map_err(|error| not_created(parent, &error))?;
            match fs::create_dir(&self.path) {
                Ok(()) => {
                    self.created = missing;
                    return Ok(self);
                }
                // Another process created the directory first.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    self.path = first_free(&base);
                }
                // Another process created the parent too, and has just removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(not_created(&self.path, &error)),
            }
        }
    }

    /// Returns the directory of a trial, which a sweep has chosen. A run in it is resumed.
    #[must_use]
    pub fn of_trial(path: PathBuf) -> Self {
        let resumes = holds_run(&path);
        Self::at(path, resumes)
    }

    /// Returns a sentence for people if the run to resume is complete; `flag` sets its length.
    #[must_use]
    pub fn complete(&self, length: RunLength, flag: &str) -> Option<String> {
        // A run that was killed after its last checkpoint still has to record its last step and its outcome.
        if run_dir::status(&self.path).as_deref() != Some("completed") {
            return None;
        }
        let clock = clock(self.checkpoint.as_ref()?)?;
        let path = self.path.display();
        length.is_reached(&clock).then(|| {
            format!(
                "`{path}` is complete, at step {} of a run of {length}, and stays as it is; {flag} sets another length",
                clock.step
            )
        })
    }
}

/// Returns the clock of a checkpoint; `None` if it cannot be read, which the resume reports.
fn clock(checkpoint: &Path) -> Option<Clock> {
    let mut state = read(checkpoint, "state.json").ok()?;
    serde_json::from_value(state["clock"].take()).ok()
}

impl Drop for RunDir {
    fn drop(&mut self) {
        for dir in &self.created {
            let _ = fs::remove_dir(dir); // fails if the directory is not empty
        }
    }
}

fn not_created(path: &Path, error: &io::Error) -> BoxError {
    format!("`{}` cannot be created: {error}", path.display()).into()
}

/// Returns the first of `base`, `base-2`, `base-3` … that does not exist.
fn first_free(base: &Path) -> PathBuf {
    let mut path = base.to_owned();
    let mut number = 1;
    while fs::symlink_metadata(&path).is_ok() {
        number += 1;
        let mut numbered = base.as_os_str().to_owned();
        numbered.push(format!("-{number}"));
        path = numbered.into();
    }
    path
}

/// Returns the flags of a run, or `null` if it was killed before it saved them.
///
/// # Errors
///
/// If there is no such run, or its files are damaged.
pub fn saved_args(run: &Path) -> Result<Value, BoxError> {
    if !run.is_dir() {
        return Err(format!(
            "there is no run `{}` to resume: leave --resume out, or give its --runs and --name",
            run.display()
        )
        .into());
    }
    let error = match args_of(run, run_dir::FILE) {
        Ok(args) => return Ok(args),
        Err(error) => error,
    };
    // Each checkpoint has the run's configuration too.
    for path in checkpoint::list(&run.join("checkpoints")) {
        if let Ok(args) = args_of(&path, "state.json") {
            return Ok(args);
        }
    }
    if error.kind() == io::ErrorKind::NotFound {
        return Ok(Value::Null);
    }
    Err(format!(
        "`{}` cannot be read ({error}), and no checkpoint has the flags: start again under another name",
        run.join(run_dir::FILE).display()
    )
    .into())
}

/// Returns the flags from a file with the run's configuration.
fn args_of(dir: &Path, name: &str) -> io::Result<Value> {
    let mut file = read(dir, name)?;
    match file.pointer_mut("/config/user/args") {
        Some(args) => Ok(args.take()),
        None => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it has no `config.user.args`",
        )),
    }
}

fn read(dir: &Path, name: &str) -> io::Result<Value> {
    Ok(serde_json::from_slice(&files::read(
        dir,
        name,
        files::MAX_JSON,
    )?)?)
}
