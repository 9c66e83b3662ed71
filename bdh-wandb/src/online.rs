//! The upload: a thread that reads the log and sends it while the run trains.
//!
//! The thread reads only the log on the disk. The server therefore gets the same as from `wandb sync`, even if it was
//! away for a while, and memory is bounded. Row i of the log is line i of the server's history; rows that the server
//! already has are not sent again.

mod api;
mod artifacts;
mod bucket;
mod bulk;
mod files;
mod ledger;
mod link;
mod network;
mod output;
mod poster;
mod resume;
mod signal;
mod stream;
mod sync;
mod tail;
mod tree;
mod uploader;

pub(super) use resume::check_resume;
pub use sync::{SyncError, Synced, sync};

use crate::limit::Limit;
use crate::log::LogError;
use crate::settings::Settings;
use api::Api;
use bdh::Warning;
use bdh::sink::Feedback;
use link::{GaveUp, Link};
use signal::{Command, Signal};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use tail::Tail;
use uploader::{LogFile, UploadError};

/// Run to upload.
pub(super) struct Upload {
    /// The `.wandb` file, which has its first entry and may grow.
    pub(super) log: PathBuf,
    /// Folder of the run.
    pub(super) run: PathBuf,
    /// Settings of an online run, with a key.
    pub(super) settings: Settings,
    pub(super) pace: Pace,
}

/// Times between requests.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Pause after the first request; each further pause is twice as long, up to `period`.
    pub(super) first: Duration,
    /// Longest pause between two requests.
    pub(super) period: Duration,
    /// Time without a request after which a heartbeat is sent.
    pub(super) heartbeat: Duration,
    /// Pause after a failed request; each further pause is twice as long, up to `retry_max`.
    pub(super) retry: Duration,
    /// Longest pause after a failed request.
    pub(super) retry_max: Duration,
    /// Time after the end of a run in which a server that does not answer is retried.
    pub(super) farewell: Duration,
}

impl Default for Pace {
    /// Returns the times of W&B's own client.
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            period: Duration::from_secs(15),
            heartbeat: Duration::from_secs(30),
            retry: Duration::from_secs(2),
            retry_max: Duration::from_mins(1),
            farewell: Duration::from_secs(30),
        }
    }
}

impl Pace {
    /// Returns the pause after `posts` requests.
    fn after(&self, posts: u32) -> Duration {
        self.first
            .saturating_mul(1 << posts.min(16))
            .min(self.period)
    }
}

/// Message from an uploader to the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum UploadMessage {
    /// Address of the run's page.
    Url(String),
    /// Line of information for a person.
    Notice(String),
    /// Failure that will not be retried.
    Warning(Warning),
    /// Request to stop from the run's page, with its reason.
    Stop(String),
}

/// Receiver of messages, called on the uploader's threads.
pub(super) type Notify = Arc<dyn Fn(UploadMessage) + Send + Sync>;

/// Returns a function that forwards messages to the run.
pub(super) fn notify_run(feedback: Feedback) -> Notify {
    Arc::new(move |message| match message {
        UploadMessage::Url(url) => feedback.notice(format!("wandb: {url}")),
        UploadMessage::Notice(text) => feedback.notice(format!("wandb: {text}")),
        UploadMessage::Warning(warning) => feedback.warn(warning),
        UploadMessage::Stop(why) => feedback.stop("wandb", why),
    })
}

/// Progress of an upload, written by its thread and read by the thread that waits for it.
#[derive(Debug, Default)]
struct Sent {
    // Relaxed everywhere: these counters order no other data.
    rows: AtomicU64,
    files: AtomicU64,
    /// Files and artifacts that the server did not accept.
    failed: Mutex<FailedFiles>,
}

/// Files and artifacts that could not be sent.
#[derive(Debug, Clone, Default)]
struct FailedFiles {
    count: u64,
    /// Error of the last one.
    why: String,
}

impl Sent {
    fn fail(&self, why: String) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.count += 1;
        failed.why = why;
    }

    /// Returns the files and artifacts that could not be sent; `None` if there are none.
    fn failed(&self) -> Option<FailedFiles> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        (failed.count > 0).then(|| failed.clone())
    }
}

/// Time between two checks of whether a wait should end.
const TURN: Duration = Duration::from_millis(50);

/// Handle of the thread that sends; dropping it ends the thread soon, without waiting for it.
pub(super) struct Uploader {
    signal: Arc<Signal>,
    sent: Arc<Sent>,
    /// Receives the result of the thread once it ends.
    ended: Receiver<Result<(), UploadError>>,
}

/// Result of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finished {
    /// Why a part of the log has not been sent; `None` if all of it has.
    pub(super) left: Option<String>,
    /// Rows of history on the server.
    pub(super) rows: u64,
}

impl Uploader {
    /// Starts the upload.
    ///
    /// # Errors
    ///
    /// If the log cannot be read, the key is missing, or the thread cannot be started.
    pub(super) fn start(upload: Upload, notify: Notify) -> io::Result<Self> {
        let tail = Tail::open(&upload.log).map_err(io::Error::other)?;
        let Some(link) = link(&upload.settings, upload.pace, notify, None) else {
            return Err(io::Error::other("there is no API key"));
        };
        let sent = Arc::new(Sent::default());
        let signal = Arc::clone(&link.signal);
        let log = LogFile {
            path: upload.log,
            tail,
        };
        let (settings, run) = (upload.settings, upload.run);
        let worker = uploader::Uploader::new(link.clone(), settings, log, run, Arc::clone(&sent));
        let ended = spawn(link, worker)?;
        Ok(Self {
            signal,
            sent,
            ended,
        })
    }

    /// Waits up to `timeout` until the whole log is on the server, including its exit.
    ///
    /// The wait is shorter if the server does not answer. It also ends when `is_over` returns `true`, which is called
    /// every 50 ms with the time waited so far.
    pub(super) fn finish(
        self,
        timeout: Duration,
        is_over: impl FnMut(Duration) -> bool,
    ) -> Finished {
        self.signal.raise(Command::Finish);
        let left = self.wait(timeout, is_over);
        Finished {
            left,
            rows: self.sent.rows.load(Ordering::Relaxed),
        }
    }

    /// Waits for the end of the thread, and returns why a part of the log has not been sent.
    fn wait(&self, timeout: Duration, mut is_over: impl FnMut(Duration) -> bool) -> Option<String> {
        let began = Instant::now();
        loop {
            let waited = began.elapsed();
            let turn = TURN.min(timeout.saturating_sub(waited));
            match self.ended.recv_timeout(turn) {
                Ok(Ok(())) => return self.sent.failed().map(|failed| not_accepted(&failed)),
                Ok(Err(error)) => return Some(error.to_string()),
                Err(RecvTimeoutError::Disconnected) => {
                    return Some("the uploader panicked".to_owned());
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if began.elapsed() >= timeout {
                return Some(format!("the log was not sent within {timeout:?}"));
            }
            if is_over(waited) {
                return Some("a signal ended the wait for the server".to_owned());
            }
        }
    }
}

/// Starts the thread that sends, and returns the receiver of its result.
fn spawn(
    link: Link,
    mut worker: uploader::Uploader,
) -> io::Result<Receiver<Result<(), UploadError>>> {
    let (sender, ended) = channel();
    // A thread, because the run must not wait for the server.
    thread::Builder::new()
        .name("wandb upload".to_owned())
        .spawn(move || {
            let result = worker.run();
            if let Err(error) = &result {
                warn_of_end(&link, error);
            }
            let _ = sender.send(result); // fails if the handle was dropped
        })?;
    Ok(ended)
}

fn not_accepted(failed: &FailedFiles) -> String {
    let FailedFiles { count, why } = failed;
    format!("some files or artifacts were not accepted ({count}): {why}")
}

impl Drop for Uploader {
    fn drop(&mut self) {
        self.signal.raise(Command::Stop);
    }
}

/// Returns a link to the server; `None` without a key for it.
fn link(
    settings: &Settings,
    pace: Pace,
    notify: Notify,
    timeout: Option<Duration>,
) -> Option<Link> {
    Some(Link {
        api: Api::new(settings, settings.api_key.clone()?),
        signal: Arc::default(),
        pace,
        notify,
        timeout,
        is_away: Arc::new(AtomicBool::new(false)),
        step: Arc::new(AtomicU64::new(0)),
        limit: Limit::default(),
    })
}

/// Warns the run that the upload has ended early, unless the run itself is ending: that end reports it.
fn warn_of_end(link: &Link, error: &UploadError) {
    match error {
        UploadError::GaveUp(GaveUp::Stopped | GaveUp::Unreachable(_)) => {}
        error => link.warn(
            "upload",
            "upload",
            error.to_string(),
            "the run continues without the upload; its log is complete",
        ),
    }
}

/// Escapes one part of a path in an address.
fn escape(part: &str) -> String {
    super::settings::escape(part)
}

#[cfg(test)]
mod tests;
