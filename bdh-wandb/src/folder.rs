//! Folder of a W&B run on the disk.

use crate::settings::{is_run_id, wandb_dir};
use bdh::files::{self, write_atomically};
use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io;
use std::path::{Component, Path, PathBuf};

/// Folder of one run, in the layout that `wandb sync` reads.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) root: PathBuf,
    pub(super) run_id: String,
}

/// Content of `wandb.json` in a run directory, which names the W&B run to resume.
#[derive(Serialize, Deserialize)]
struct Pointer {
    run_id: String,
    /// Path relative to the run directory, or absolute for a folder elsewhere.
    folder: PathBuf,
}

/// File in a run directory that names its W&B run.
pub(super) const POINTER: &str = "wandb.json";

/// File beside the runs that names the unfinished one, for `WANDB_RESUME=auto`.
const UNFINISHED: &str = "wandb-resume.json";

/// Largest note that is read, in bytes; a pointer is a note too.
pub(super) const MAX_NOTE: u64 = 1 << 20;

/// Returns the id of the unfinished run in `base`.
pub(super) fn unfinished(base: &Path) -> Option<String> {
    let text = files::read(&wandb_dir(base), UNFINISHED, MAX_NOTE).ok()?;
    let note: serde_json::Value = serde_json::from_slice(&text).ok()?;
    let run_id = note["run_id"].as_str()?;
    is_run_id(run_id).then(|| run_id.to_owned())
}

impl Folder {
    /// Creates the folder of a new run in `base`, and a pointer to it in the run directory.
    pub(super) fn create(
        base: &Path,
        run_id: String,
        online: bool,
        run: Option<&Path>,
    ) -> io::Result<Self> {
        let all = wandb_dir(base);
        let name = folder_name(&run_id, online);
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

    /// Returns the folder to which a run directory points; `None` if its log is missing.
    ///
    /// The pointer is not trusted, since the log will be cut. It may only lead into the run directory or into `base`,
    /// where the settings of this run put all folders, and not through a link.
    pub(super) fn of_run(run: &Path, base: &Path) -> Option<Self> {
        let text = files::read(run, POINTER, MAX_NOTE).ok()?;
        let Pointer { run_id, folder } = serde_json::from_slice(&text).ok()?;
        if !is_run_id(&run_id) {
            return None;
        }
        let all = std::path::absolute(wandb_dir(base)).ok()?;
        let (root, within) = match folder.file_name() {
            _ if is_plain(&folder) => (run, folder.as_path()),
            Some(name) if folder.parent() == Some(&all) => (all.as_path(), Path::new(name)),
            _ => return None,
        };
        files::open(root, within.join(log_name(&run_id))).ok()?;
        Some(Self {
            root: root.join(within),
            run_id,
        })
    }

    /// Writes a note that the run is unfinished.
    pub(super) fn mark_unfinished(&self) -> io::Result<()> {
        let Some(all) = self.root.parent() else {
            return Ok(());
        };
        let note = serde_json::json!({ "run_id": self.run_id });
        write_atomically(&all.join(UNFINISHED), note.to_string().as_bytes())
    }

    /// Removes the note that the run is unfinished.
    pub(super) fn mark_finished(&self) {
        if let Some(all) = self.root.parent() {
            let _ = fs::remove_file(all.join(UNFINISHED)); // another run may have finished first
        }
    }

    /// Returns the path of the log.
    pub(super) fn log(&self) -> PathBuf {
        self.root.join(log_name(&self.run_id))
    }

    /// Returns the path of the mark that W&B's client leaves beside a log that has been sent.
    pub(super) fn synced(&self) -> PathBuf {
        self.root.join(format!("run-{}.wandb.synced", self.run_id))
    }

    /// Returns the folder of the run's files, including its media.
    pub(super) fn files(&self) -> PathBuf {
        self.root.join("files")
    }

    /// Returns the folder of the files that artifacts consist of, kept until they have been sent.
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

/// Returns the name of a new run's folder, which contains the current time.
fn folder_name(run_id: &str, online: bool) -> String {
    let now = Timestamp::now().to_zoned(TimeZone::system());
    let prefix = if online { "run" } else { "offline-run" };
    format!("{prefix}-{}-{run_id}", now.strftime("%Y%m%d_%H%M%S"))
}

fn log_name(run_id: &str) -> String {
    format!("run-{run_id}.wandb")
}

/// Whether a path is relative and does not go up.
fn is_plain(path: &Path) -> bool {
    path.components()
        .all(|part| matches!(part, Component::Normal(_)))
}

/// Creates the folders of `within` below `root`.
///
/// Each is checked on its own: writing through a link would change files elsewhere.
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

/// Creates a new file in place of an existing one; a link is replaced and not followed.
pub(super) fn create(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => File::create_new(path),
    }
}

/// Opens a regular file; its folder is trusted, and the file itself must not be a link.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let (folder, name) = split(path)?;
    files::open(folder, name)
}

/// Reads a note with the checks of [`open`].
pub(super) fn read_note(path: &Path) -> io::Result<Vec<u8>> {
    let (folder, name) = split(path)?;
    files::read(folder, name, MAX_NOTE)
}

fn split(path: &Path) -> io::Result<(&Path, &Path)> {
    let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    Ok((folder, Path::new(name)))
}

fn refuse_link(folder: &Path) -> io::Result<()> {
    if !folder.is_symlink() {
        return Ok(());
    }
    let text = format!(
        "`{}` is a link, and nothing is written through links; remove it, or set WANDB_DIR to the folder you mean",
        folder.display()
    );
    Err(io::Error::new(io::ErrorKind::InvalidInput, text))
}

/// Creates the link `latest-run`, which W&B's client understands; failures are ignored, as not every file system has
/// links.
fn link_latest(all: &Path, name: &str) {
    #[cfg(unix)]
    {
        // Created under another name and renamed, so that readers never find it missing.
        let scratch = all.join(format!("latest-run.{}", std::process::id()));
        let linked = std::os::unix::fs::symlink(name, &scratch);
        if linked.is_ok() && fs::rename(&scratch, all.join("latest-run")).is_err() {
            let _ = fs::remove_file(&scratch);
        }
    }
    #[cfg(not(unix))]
    let _ = (all, name);
}
