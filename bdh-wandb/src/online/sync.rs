//! Upload of a complete log.

use super::link::{GaveUp, Link};
use super::signal::Command;
use super::tail::Tail;
use super::uploader::{LogFile, UploadError, Uploader};
use super::{LogError, Notify, Pace, Sent, UploadMessage, link};
use crate::folder;
use crate::settings::{Given, Mode, Settings, SettingsError};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Time without an answer from the server after which a sync fails.
const TIMEOUT: Duration = Duration::from_mins(5);

/// Result of a sync.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Synced {
    /// Address of the run's page.
    pub url: Option<String>,
    /// Rows of history on the server now.
    pub rows: u64,
    /// Number of files and artifacts that were sent.
    pub files: u64,
    /// Lines on what was left out, and why.
    pub notices: Vec<String>,
}

/// Error of a sync; the next one does not send again what has been sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SyncError {
    /// A setting is invalid.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// There is no key for the server.
    #[error("there is no API key for {base_url}; set WANDB_API_KEY, or run `wandb login`")]
    NoKey {
        /// Address of the server.
        base_url: String,
    },
    /// There is no log, or there are several.
    #[error("`{}` is not a `.wandb` file, nor a folder with exactly one", path.display())]
    NoLog {
        /// Path that was given.
        path: PathBuf,
    },
    /// The log cannot be read.
    #[error("the log cannot be read")]
    Log(#[from] LogError),
    /// The entry that names the run is missing or damaged.
    #[error("the log does not name its run, so nothing was sent")]
    NoRun,
    /// The server refused the upload.
    #[error("the upload was refused: {why}")]
    Refused {
        /// Reason in the answer.
        why: String,
    },
    /// The server does not answer.
    #[error("the server does not answer: {why}")]
    Unreachable {
        /// Error of the last attempt.
        why: String,
    },
    /// The server did not accept some files or artifacts; everything else was sent.
    #[error("some files or artifacts were not accepted ({failed}): {why}")]
    Files {
        /// Number of files and artifacts.
        failed: u64,
        /// Error of the last one.
        why: String,
    },
    /// The system could not start a thread or write a file.
    #[error("the upload could not be started")]
    Io(#[from] io::Error),
}

/// Sends the log of one run, a `.wandb` file or the folder that contains it, with all files that belong to it.
///
/// Settings come from the environment and the settings files. Rows that the server already has are not sent again, so a
/// sync resumes an earlier one, or the upload of a run that was online for a part of its time. (`wandb sync` sends all
/// rows again, after those that exist.)
///
/// # Errors
///
/// [`SyncError`] names the problem: the log, a setting or the server.
pub fn sync(log: &Path) -> Result<Synced, SyncError> {
    let given = Given {
        mode: Some(Mode::Online),
        ..Given::default()
    };
    let settings = Settings::resolve(&given, |name| std::env::var(name).ok())?;
    sync_with(log, settings, Pace::default(), TIMEOUT)
}

pub(super) fn sync_with(
    log: &Path,
    settings: Settings,
    pace: Pace,
    timeout: Duration,
) -> Result<Synced, SyncError> {
    let path = find(log)?;
    let tail = Tail::open(&path)?;
    let messages = Arc::new(Mutex::new(Messages::default()));
    let notify = collect(Arc::clone(&messages));
    let Some(link) = link(&settings, pace, notify, Some(timeout)) else {
        let base_url = settings.base_url;
        return Err(SyncError::NoKey { base_url });
    };
    let mark = PathBuf::from(format!("{}.synced", path.display()));
    let sent = send(link, settings, LogFile { path, tail })?;
    // `wandb sync` leaves this mark too, and skips a run that has it.
    folder::create(&mark)?;
    Ok(synced(&sent, &messages))
}

/// Returns the result of a complete sync.
fn synced(sent: &Sent, messages: &Mutex<Messages>) -> Synced {
    let messages = std::mem::take(&mut *messages.lock().unwrap_or_else(PoisonError::into_inner));
    Synced {
        url: messages.url,
        rows: sent.rows.load(Ordering::Relaxed),
        files: sent.files.load(Ordering::Relaxed),
        notices: messages.notices,
    }
}

/// Sends a complete log with its files on this thread.
fn send(link: Link, settings: Settings, log: LogFile) -> Result<Arc<Sent>, SyncError> {
    link.signal.raise(Command::Finish);
    let sent = Arc::new(Sent::default());
    let run = log.path.parent().unwrap_or(Path::new(".")).to_owned();
    let mut uploader = Uploader::new(link, settings, log, run, Arc::clone(&sent));
    uploader.missing_exit = Some(1); // a log without an exit is of a run that was killed
    uploader.run()?;
    match sent.failed() {
        Some(failed) => Err(SyncError::Files {
            failed: failed.count,
            why: failed.why,
        }),
        None => Ok(sent),
    }
}

/// Messages of an uploader.
#[derive(Default)]
struct Messages {
    url: Option<String>,
    notices: Vec<String>,
}

/// Returns a receiver that collects messages.
fn collect(messages: Arc<Mutex<Messages>>) -> Notify {
    Arc::new(move |message| {
        // A mutex, because the thread that sends files calls this too.
        let mut messages = messages.lock().unwrap_or_else(PoisonError::into_inner);
        match message {
            UploadMessage::Url(url) => messages.url = Some(url),
            UploadMessage::Notice(text) => messages.notices.push(text),
            UploadMessage::Warning(warning) => messages.notices.push(warning.cause),
            UploadMessage::Stop(_) => {} // the run has ended long ago
        }
    })
}

/// Returns the log at a path, or the only one in the folder at that path.
fn find(path: &Path) -> Result<PathBuf, SyncError> {
    if path.is_file() {
        return Ok(Path::new(".").join(path)); // so that it has a parent folder
    }
    let mut logs = Vec::new();
    if let Ok(entries) = fs::read_dir(path) {
        for entry in entries.flatten() {
            if entry.path().extension().is_some_and(|end| end == "wandb") {
                logs.push(entry.path());
            }
        }
    }
    match logs.pop() {
        Some(log) if logs.is_empty() => Ok(log),
        _ => Err(SyncError::NoLog {
            path: path.to_owned(),
        }),
    }
}

impl From<UploadError> for SyncError {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::GaveUp(GaveUp::Refused(why)) => Self::Refused { why },
            UploadError::GaveUp(GaveUp::Unreachable(why)) => Self::Unreachable { why },
            UploadError::GaveUp(GaveUp::Stopped) => Self::Unreachable {
                why: "stopped".to_owned(),
            },
            UploadError::Log(error) => Self::Log(error),
            UploadError::NoRun => Self::NoRun,
            UploadError::Thread(error) => Self::Io(error),
        }
    }
}
