//! Where a run writes, and what is there already.

use bdh::{BoxError, files, holds_run, latest_checkpoint, list_checkpoints, run_dir};
use bdh_cli::sweep::check_dir;
use serde_json::Value;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The directory of a run.
pub struct RunDir {
    /// Where it is.
    pub path: PathBuf,
    /// Whether a run there is to go on.
    pub resumes: bool,
    /// The newest checkpoint to go on from; `None` also if the run died before its first.
    pub checkpoint: Option<PathBuf>,
    /// Without a given name: the one to which a number is added where it is taken.
    name: Option<PathBuf>,
    /// Those that were made for it, from below to above.
    made: Vec<PathBuf>,
}

impl RunDir {
    /// The directory for a run below `runs`: one of its own, or that of the run to go on with. Makes nothing.
    ///
    /// # Errors
    ///
    /// If a `name` that was `given` is that of another run, or `runs` cannot be made.
    pub fn choose(runs: &Path, name: &str, given: bool, resume: bool) -> Result<Self, BoxError> {
        let path = runs.join(name);
        if resume {
            return Ok(Self::at(path, true));
        }
        check_dir("--runs", runs)?;
        if given && holds_run(&path) {
            return Err(format!(
                "`{}` exists already: add --resume to go on with it, or give another --name",
                path.display()
            )
            .into());
        }
        if given {
            return Ok(Self::at(path, false));
        }
        let mut dir = Self::at(first_free(&path), false);
        dir.name = Some(path);
        Ok(dir)
    }

    fn at(path: PathBuf, resumes: bool) -> Self {
        let checkpoint = latest_checkpoint(&path.join("checkpoints")).filter(|_| resumes);
        Self {
            path,
            resumes,
            checkpoint,
            name: None,
            made: Vec::new(),
        }
    }

    /// Makes the directory of a run without a given name, so that no other process takes the name. Unless something
    /// is written there it goes again with this value.
    ///
    /// # Errors
    ///
    /// If the file system refuses.
    pub fn claim(mut self) -> Result<Self, BoxError> {
        let Some(name) = self.name.clone() else {
            return Ok(self);
        };
        let failed = |path: &Path, error: io::Error| {
            BoxError::from(format!("`{}` cannot be made: {error}", path.display()))
        };
        loop {
            let missing = self.path.ancestors().take_while(|path| !path.exists());
            let missing: Vec<_> = missing.map(Path::to_owned).collect();
            let above = self.path.parent().unwrap_or(Path::new(""));
            fs::create_dir_all(above).map_err(|error| failed(above, error))?;
            match fs::create_dir(&self.path) {
                Ok(()) => {
                    self.made = missing;
                    return Ok(self);
                }
                // Another process was faster; or it has just deleted the folder above, which it had made.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    self.path = first_free(&name);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(&self.path, error)),
            }
        }
    }

    /// The directory of a trial, which a sweep has chosen: a run that was begun there goes on.
    #[must_use]
    pub fn of_trial(path: PathBuf) -> Self {
        let resumes = holds_run(&path);
        Self::at(path, resumes)
    }

    /// Whether there is anything left to do in a run of so many steps, which `flag` asks for.
    ///
    /// # Errors
    ///
    /// If there is not.
    pub fn check_steps(&self, steps: u64, flag: &str) -> Result<(), BoxError> {
        let Some(checkpoint) = &self.checkpoint else {
            return Ok(());
        };
        // A run that died after its last checkpoint has still to record its last step, and how it ended.
        if run_dir::status(&self.path).as_deref() != Some("completed") {
            return Ok(());
        }
        let manifest = read(checkpoint, "manifest.json")?;
        match manifest["step"].as_u64() {
            Some(step) if step >= steps => Err(format!(
                "`{}` is complete, at step {step} of {steps}: ask for more with {flag}",
                self.path.display()
            )
            .into()),
            _ => Ok(()),
        }
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        for dir in &self.made {
            let _ = fs::remove_dir(dir); // unless something is in it
        }
    }
}

/// The first of `name`, `name-2`, `name-3` … that is not there.
fn first_free(name: &Path) -> PathBuf {
    let numbered = |number: u64| {
        let mut path = name.as_os_str().to_owned();
        path.push(format!("-{number}"));
        PathBuf::from(path)
    };
    let mut names = std::iter::once(name.to_owned()).chain((2..).map(numbered));
    names
        .find(|path| fs::symlink_metadata(path).is_err())
        .expect("there is no end of names")
}

/// The flags that a run was started with: none of one that was killed before it had noted them.
///
/// # Errors
///
/// If there is no such run.
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
    // Each checkpoint has the run's configuration as well.
    let checkpoints = list_checkpoints(&run.join("checkpoints"));
    let mut states = checkpoints
        .iter()
        .filter_map(|path| args_of(path, "state.json").ok());
    match states.next() {
        Some(args) => Ok(args),
        None if error.kind() == io::ErrorKind::NotFound => Ok(Value::Null),
        None => Err(format!(
            "`{}` cannot be read ({error}), and no checkpoint has the flags: begin again under another name",
            run.join(run_dir::FILE).display()
        )
        .into()),
    }
}

/// The flags in a file that has the run's configuration.
fn args_of(dir: &Path, name: &str) -> io::Result<Value> {
    let mut file = read(dir, name)?;
    let args = file.pointer_mut("/config/user/args").map(Value::take);
    let error = || io::Error::new(io::ErrorKind::InvalidData, "it has no `config.user.args`");
    args.ok_or_else(error)
}

fn read(dir: &Path, name: &str) -> io::Result<Value> {
    Ok(serde_json::from_slice(&files::read(
        dir,
        name,
        files::MAX_JSON,
    )?)?)
}
