//! Where a W&B run lies on the disk.

use super::settings::wandb_dir;
use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

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
    pub(super) fn of_run(run: &Path) -> Option<Self> {
        let text = fs::read(run.join(POINTER)).ok()?;
        let Pointer { run_id, folder } = serde_json::from_slice(&text).ok()?;
        let folder = Self { root: run.join(folder), run_id };
        folder.log().is_file().then_some(folder)
    }

    /// The log.
    pub(super) fn log(&self) -> PathBuf {
        self.root.join(format!("run-{}.wandb", self.run_id))
    }

    /// The run's files; media among them.
    pub(super) fn files(&self) -> PathBuf {
        self.root.join("files")
    }

    /// What is kept of artifacts until they have been sent; `version` makes the folder of one.
    pub(super) fn staging(&self, version: &str) -> PathBuf {
        self.root.join("artifacts").join(version)
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
