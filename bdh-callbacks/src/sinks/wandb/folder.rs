//! Where a W&B run lies on the disk.

use super::settings::{is_run_id, wandb_dir};
use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// The folder of one run, as `wandb sync` takes it.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) root: PathBuf,
    pub(super) run_id: String,
}

/// `wandb.json` in a run directory: which W&B run it is, for the day it is resumed.
#[derive(Serialize, Deserialize)]
struct Pointer {
    run_id: String,
    /// From the run directory, or absolute where it lies elsewhere.
    folder: PathBuf,
}

/// The file in a run directory that tells which W&B run it is.
pub(super) const POINTER: &str = "wandb.json";

/// The file beside the runs that names the one that has not finished, for `WANDB_RESUME=auto`.
const UNFINISHED: &str = "wandb-resume.json";

/// The id of the run in `base` that has not finished.
pub(super) fn unfinished(base: &Path) -> Option<String> {
    let text = fs::read(wandb_dir(base).join(UNFINISHED)).ok()?;
    let note: serde_json::Value = serde_json::from_slice(&text).ok()?;
    note["run_id"].as_str().filter(|run_id| is_run_id(run_id)).map(str::to_owned)
}

impl Folder {
    /// Makes the folder of a run that begins, in `base`, and points to it from the run directory.
    pub(super) fn create(
        base: &Path,
        run_id: String,
        online: bool,
        run: Option<&Path>,
    ) -> io::Result<Self> {
        let all = wandb_dir(base);
        let time = Timestamp::now().to_zoned(TimeZone::system()).strftime("%Y%m%d_%H%M%S");
        let prefix = if online { "run" } else { "offline-run" };
        let name = format!("{prefix}-{time}-{run_id}");
        let folder = Self { root: all.join(&name), run_id };
        fs::create_dir_all(&all)?;
        fs::create_dir(&folder.root)?;
        fs::create_dir(folder.files())?;
        link_latest(&all, &name);
        if let Some(run) = run {
            folder.point_from(run)?;
        }
        Ok(folder)
    }

    /// The folder that a run directory points to, if its log is there.
    ///
    /// A pointer is somebody's file, and the log will be cut: it may lead into the run directory, or to where the
    /// settings of this run have all folders (`base`), and nowhere else.
    pub(super) fn of_run(run: &Path, base: &Path) -> Option<Self> {
        let text = fs::read(run.join(POINTER)).ok()?;
        let Pointer { run_id, folder } = serde_json::from_slice(&text).ok()?;
        let is_plain = folder.components().all(|part| matches!(part, Component::Normal(_)));
        let all = std::path::absolute(wandb_dir(base)).ok();
        let is_among_all = || folder.file_name().is_some() && folder.parent() == all.as_deref();
        if !is_run_id(&run_id) || !(is_plain || is_among_all()) {
            return None;
        }
        let folder = Self { root: run.join(folder), run_id };
        (folder.log().is_file() && !folder.log().is_symlink()).then_some(folder)
    }

    /// Notes that the run has not finished.
    pub(super) fn is_begun(&self) -> io::Result<()> {
        let Some(all) = self.root.parent() else { return Ok(()) };
        let note = serde_json::json!({ "run_id": self.run_id });
        fs::write(all.join(UNFINISHED), note.to_string())
    }

    /// Takes back the note that the run has not finished.
    pub(super) fn is_finished(&self) {
        if let Some(all) = self.root.parent() {
            let _ = fs::remove_file(all.join(UNFINISHED)); // another run may have finished first
        }
    }

    /// The log.
    pub(super) fn log(&self) -> PathBuf {
        self.root.join(format!("run-{}.wandb", self.run_id))
    }

    /// The mark that W&B's programs leave beside a log that has been sent.
    pub(super) fn synced(&self) -> PathBuf {
        self.root.join(format!("run-{}.wandb.synced", self.run_id))
    }

    /// The run's files; media among them.
    pub(super) fn files(&self) -> PathBuf {
        self.root.join("files")
    }

    /// What is kept of artifacts until they have been sent.
    pub(super) fn artifacts(&self) -> PathBuf {
        self.root.join("artifacts")
    }

    fn point_from(&self, run: &Path) -> io::Result<()> {
        let folder = match self.root.strip_prefix(run) {
            Ok(within) => within.to_owned(),
            Err(_) => std::path::absolute(&self.root)?,
        };
        let pointer = Pointer { run_id: self.run_id.clone(), folder };
        let scratch = run.join(format!("{POINTER}.tmp"));
        fs::write(&scratch, serde_json::to_vec(&pointer)?)?;
        fs::rename(&scratch, run.join(POINTER))
    }
}

/// `latest-run`, which W&B's programs understand. A file system without links does without.
fn link_latest(all: &Path, name: &str) {
    #[cfg(unix)]
    {
        let scratch = all.join(format!("latest-run.{}", std::process::id()));
        let linked = std::os::unix::fs::symlink(name, &scratch);
        if linked.is_ok() && fs::rename(&scratch, all.join("latest-run")).is_err() {
            let _ = fs::remove_file(&scratch); // as said: without
        }
    }
    #[cfg(not(unix))]
    let _ = (all, name);
}
