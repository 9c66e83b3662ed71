//! A log that lies on the disk, sent as a whole.

use super::link::GaveUp;
use super::signal::Wish;
use super::tail::Tail;
use super::uploader::{Broken, Uploader};
use super::{LogError, News, Pace, Sent, Tell, link};
use crate::folder;
use crate::settings::{Given, Mode, Settings, SettingsError};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long a server may be away before a sync is given up.
const PATIENCE: Duration = Duration::from_mins(5);

/// What a sync has done.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Synced {
    /// The page of the run.
    pub url: Option<String>,
    /// Rows of history that the server has now.
    pub rows: u64,
    /// Files and artifacts that were sent.
    pub files: u64,
    /// What was left out, and why.
    pub remarks: Vec<String>,
}

/// Why a log could not be sent. What was sent of it stays, and is not sent again by the next attempt.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SyncError {
    /// A setting cannot work.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// There is no key for the server.
    #[error("there is no API key for {base_url}; set WANDB_API_KEY, or log in with `wandb login`")]
    NoKey {
        /// The server.
        base_url: String,
    },
    /// There is no log, or there are several.
    #[error("`{}` is no `.wandb` file and no folder that holds exactly one", path.display())]
    NoLog {
        /// What was given.
        path: PathBuf,
    },
    /// The log cannot be read.
    #[error("the log cannot be read")]
    Log(#[from] LogError),
    /// The log's first entries are missing or damaged, so that nobody knows where it belongs.
    #[error("the log does not say which run it is of: nothing was sent")]
    NoRun,
    /// The server does not want it.
    #[error("the server refused: {why}")]
    Refused {
        /// What it said.
        why: String,
    },
    /// The server does not answer.
    #[error("the server does not answer: {why}")]
    Unreachable {
        /// What came instead.
        why: String,
    },
    /// Some files or artifacts were not taken; everything else was.
    #[error("files or artifacts were not taken, {failed} of them: {why}")]
    Files {
        /// How many.
        failed: u64,
        /// What was said of the last.
        why: String,
    },
    /// The machine failed.
    #[error("the upload could not be started")]
    Io(#[from] io::Error),
}

/// Sends the log of one run, a `.wandb` file or the folder that holds it, with all files that belong to it.
///
/// Settings are those of the environment and of the settings files. Rows that the server has already are not
/// sent again, so a sync after a broken one, or of a run that was online for a part of its time, goes on where
/// that ended. (`wandb sync` sends all rows again, behind those that are there.)
///
/// # Errors
///
/// [`SyncError`] says which of log, settings and server was in the way.
pub fn sync(log: &Path) -> Result<Synced, SyncError> {
    let given = Given {
        mode: Some(Mode::Online),
        ..Given::default()
    };
    let settings = Settings::resolve(&given, |name| std::env::var(name).ok())?;
    sync_with(log, settings, Pace::default(), PATIENCE)
}

pub(super) fn sync_with(
    log: &Path,
    settings: Settings,
    pace: Pace,
    patience: Duration,
) -> Result<Synced, SyncError> {
    let log = find(log)?;
    let tail = Tail::open(&log)?;
    let heard = Arc::new(Mutex::new(Heard::default()));
    let base_url = settings.base_url.clone();
    let link = link(&settings, pace, Heard::tell(&heard), Some(patience));
    let link = link.ok_or(SyncError::NoKey { base_url })?;
    link.signal.want(Wish::Finish);
    let sent = Arc::new(Sent::default());
    let run = log.parent().unwrap_or(Path::new(".")).to_owned();
    let mut uploader = Uploader::new(link, settings, (log.clone(), tail), run, Arc::clone(&sent));
    uploader.missing_exit = Some(1); // it was killed
    uploader.run().map_err(broken)?;
    let heard = std::mem::take(&mut *heard.lock().unwrap_or_else(PoisonError::into_inner));
    if let Some((failed, why)) = sent.failed() {
        return Err(SyncError::Files { failed, why });
    }
    // As `wandb sync` does, which then passes the run over.
    folder::create(&PathBuf::from(format!("{}.synced", log.display())))?;
    let (rows, files) = (
        sent.rows.load(Ordering::Relaxed),
        sent.files.load(Ordering::Relaxed),
    );
    Ok(Synced {
        url: heard.url,
        rows,
        files,
        remarks: heard.remarks,
    })
}

/// What an uploader said.
#[derive(Default)]
struct Heard {
    url: Option<String>,
    remarks: Vec<String>,
}

impl Heard {
    fn tell(heard: &Arc<Mutex<Self>>) -> Tell {
        let heard = Arc::clone(heard);
        Arc::new(move |news| {
            let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
            match news {
                News::Url(url) => heard.url = Some(url),
                News::Remark(text) => heard.remarks.push(text),
                News::Problem(problem) => heard.remarks.push(problem.error), // shown by the link already
                News::Stop(_) => {} // it has ended long ago
            }
        })
    }
}

/// The log itself.
fn find(path: &Path) -> Result<PathBuf, SyncError> {
    if path.is_file() {
        return Ok(Path::new(".").join(path)); // so that it has a folder
    }
    let no_log = || SyncError::NoLog {
        path: path.to_owned(),
    };
    let inside = fs::read_dir(path)
        .map_err(|_| no_log())?
        .filter_map(|entry| Some(entry.ok()?.path()));
    let mut logs = inside.filter(|path| path.extension().is_some_and(|end| end == "wandb"));
    match (logs.next(), logs.next()) {
        (Some(log), None) => Ok(log),
        _ => Err(no_log()),
    }
}

fn broken(why: Broken) -> SyncError {
    match why {
        Broken::GaveUp(GaveUp::Refused(why)) => SyncError::Refused { why },
        Broken::GaveUp(GaveUp::Unreachable(why)) => SyncError::Unreachable { why },
        Broken::GaveUp(GaveUp::Stopped) => SyncError::Unreachable {
            why: "stopped".to_owned(),
        },
        Broken::Log(error) => SyncError::Log(error),
        Broken::NoRun => SyncError::NoRun,
        Broken::Thread(error) => SyncError::Io(error),
    }
}
