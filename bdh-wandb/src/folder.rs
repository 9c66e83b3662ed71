//! Where a W&B run lies on the disk.

use crate::settings::{is_run_id, wandb_dir};
use bdh::files::{self, write_atomically};
use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
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

/// Bytes of the longest note, such as a pointer.
pub(super) const MAX_NOTE: u64 = 1 << 20;

/// The id of the run in `base` that has not finished.
pub(super) fn unfinished(base: &Path) -> Option<String> {
    let text = files::read(&wandb_dir(base), UNFINISHED, MAX_NOTE).ok()?;
    let note: serde_json::Value = serde_json::from_slice(&text).ok()?;
    note["run_id"]
        .as_str()
        .filter(|run_id| is_run_id(run_id))
        .map(str::to_owned)
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
        let time = Timestamp::now()
            .to_zoned(TimeZone::system())
            .strftime("%Y%m%d_%H%M%S");
        let prefix = if online { "run" } else { "offline-run" };
        let name = format!("{prefix}-{time}-{run_id}");
        let folder = Self {
            root: all.join(&name),
            run_id,
        };
        if run.is_some_and(|run| all.starts_with(run)) {
            refuse_link(&all)?;
        }
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
    /// settings of this run have all folders (`base`), through no link, and nowhere else.
    pub(super) fn of_run(run: &Path, base: &Path) -> Option<Self> {
        let text = files::read(run, POINTER, MAX_NOTE).ok()?;
        let Pointer { run_id, folder } = serde_json::from_slice(&text).ok()?;
        let is_plain = folder
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        let all = std::path::absolute(wandb_dir(base)).ok()?;
        let (root, within) = match folder.file_name() {
            _ if is_plain => (run, folder.as_path()),
            Some(name) if folder.parent() == Some(&all) => (all.as_path(), Path::new(name)),
            _ => return None,
        };
        if !is_run_id(&run_id) {
            return None;
        }
        files::open(root, within.join(log_name(&run_id))).ok()?;
        Some(Self {
            root: root.join(within),
            run_id,
        })
    }

    /// Notes that the run has not finished.
    pub(super) fn is_begun(&self) -> io::Result<()> {
        let Some(all) = self.root.parent() else {
            return Ok(());
        };
        let note = serde_json::json!({ "run_id": self.run_id });
        write_atomically(&all.join(UNFINISHED), note.to_string().as_bytes())
    }

    /// Takes back the note that the run has not finished.
    pub(super) fn is_finished(&self) {
        if let Some(all) = self.root.parent() {
            let _ = fs::remove_file(all.join(UNFINISHED)); // another run may have finished first
        }
    }

    /// The log.
    pub(super) fn log(&self) -> PathBuf {
        self.root.join(log_name(&self.run_id))
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
        let pointer = Pointer {
            run_id: self.run_id.clone(),
            folder,
        };
        write_atomically(&run.join(POINTER), &serde_json::to_vec(&pointer)?)
    }
}

fn log_name(run_id: &str) -> String {
    format!("run-{run_id}.wandb")
}

/// Makes the folders of `within` below `root`, each on its own: what is written into a link lands elsewhere.
pub(super) fn make(root: &Path, within: impl AsRef<Path>) -> io::Result<PathBuf> {
    let mut folder = root.to_owned();
    for part in within.as_ref().components() {
        folder.push(part);
        refuse_link(&folder)?;
        if !folder.is_dir() {
            fs::create_dir(&folder)?;
        }
    }
    Ok(folder)
}

/// Creates a file anew. A link in its place is replaced, not followed.
pub(super) fn create(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => File::create_new(path),
    }
}

/// Opens a regular file. Its folder is the caller's own choice; the file itself may be no link.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let (folder, name) = split(path)?;
    files::open(folder, name)
}

/// Reads a note, as [`open`] opens it.
pub(super) fn read_note(path: &Path) -> io::Result<Vec<u8>> {
    let (folder, name) = split(path)?;
    files::read(folder, name, MAX_NOTE)
}

fn split(path: &Path) -> io::Result<(&Path, &Path)> {
    let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    Ok((folder.unwrap_or(Path::new(".")), Path::new(name)))
}

fn refuse_link(folder: &Path) -> io::Result<()> {
    if !folder.is_symlink() {
        return Ok(());
    }
    let what = "is a link, through which nothing is written; remove it, or name the folder you mean in WANDB_DIR";
    let text = format!("`{}` {what}", folder.display());
    Err(io::Error::new(io::ErrorKind::InvalidInput, text))
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
