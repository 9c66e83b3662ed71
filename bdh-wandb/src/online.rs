//! The upload: a thread that reads the log and sends it while the run goes on.
//!
//! It knows nothing but the log on the disk, so what the server gets is what `wandb sync` would send, however
//! long the server was away, and the memory that it takes is bounded. Row i of the log is line i of the
//! server's history; what the server has already is not sent again.

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
use bdh::{Feedback, Problem};
use link::{GaveUp, Link};
use signal::{Signal, Wish};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use tail::Tail;
use uploader::Broken;

/// What is to be sent.
pub(super) struct Upload {
    /// The `.wandb` file. It may grow, and its first entry is there.
    pub(super) log: PathBuf,
    /// The run's folder.
    pub(super) run: PathBuf,
    /// Online, so with a key.
    pub(super) settings: Settings,
    pub(super) pace: Pace,
}

/// How often something is sent, and sent again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// From the first request to the second; each time after that is twice as long, up to `period`.
    pub(super) first: Duration,
    pub(super) period: Duration,
    /// After how long a silence the server is told that the run is alive.
    pub(super) heartbeat: Duration,
    /// From a request that failed to the next attempt; each time after that is twice as long, up to `retry_max`.
    pub(super) retry: Duration,
    pub(super) retry_max: Duration,
    /// How long the end of a run tries to reach a server that does not answer.
    pub(super) farewell: Duration,
}

impl Default for Pace {
    /// As W&B's own client.
    fn default() -> Self {
        let [first, period, heartbeat, retry, retry_max, farewell] =
            [1, 15, 30, 2, 60, 30].map(Duration::from_secs);
        Self {
            first,
            period,
            heartbeat,
            retry,
            retry_max,
            farewell,
        }
    }
}

impl Pace {
    /// How long to wait after so many requests.
    fn after(&self, posts: u32) -> Duration {
        self.first
            .saturating_mul(1 << posts.min(16))
            .min(self.period)
    }
}

/// What an uploader has to say while it works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum News {
    /// The page of the run.
    Url(String),
    /// Something that a person may want to know.
    Remark(String),
    /// Something that failed for good.
    Problem(Problem),
    /// Somebody stopped the run on its page; why, in words.
    Stop(String),
}

/// Who hears it, on a thread of the uploader's.
pub(super) type Tell = Arc<dyn Fn(News) + Send + Sync>;

/// Passes news on to the run.
pub(super) fn tell_run(feedback: Feedback) -> Tell {
    Arc::new(move |news| match news {
        News::Url(url) => feedback.remark(format!("wandb: {url}")),
        News::Remark(text) => feedback.remark(format!("wandb: {text}")),
        News::Problem(problem) => feedback.tell(problem),
        News::Stop(why) => feedback.stop("wandb", why),
    })
}

/// What has reached the server.
#[derive(Debug, Default)]
struct Sent {
    rows: AtomicU64,
    files: AtomicU64,
    /// How many files and artifacts were not taken, and what was said of the last.
    failed: Mutex<(u64, String)>,
}

impl Sent {
    fn fail(&self, why: String) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        *failed = (failed.0 + 1, why);
    }

    /// What was not taken, if anything.
    fn failed(&self) -> Option<(u64, String)> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        Some(failed.clone()).filter(|(count, _)| *count > 0)
    }
}

/// How often a wait for the end looks whether somebody wants it over.
const TURN: Duration = Duration::from_millis(50);

/// The thread that sends. Dropping it ends it soon, without waiting for it.
pub(super) struct Uploader {
    signal: Arc<Signal>,
    sent: Arc<Sent>,
    ended: Receiver<Result<(), String>>,
}

/// How far an upload came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finished {
    /// Why something is left to send; nothing, if all of the log is on the server.
    pub(super) left: Option<String>,
    /// Rows of history that the server has.
    pub(super) rows: u64,
}

impl Uploader {
    /// Starts to send.
    ///
    /// # Errors
    ///
    /// If the log cannot be read, or there is no key, or no thread to be had.
    pub(super) fn start(upload: Upload, tell: Tell) -> io::Result<Self> {
        let tail = Tail::open(&upload.log).map_err(io::Error::other)?;
        let link = link(&upload.settings, upload.pace, tell, None)
            .ok_or_else(|| io::Error::other("there is no API key"))?;
        let sent = Arc::new(Sent::default());
        let (signal, shared) = (Arc::clone(&link.signal), Arc::clone(&sent));
        let (sender, ended) = channel();
        thread::Builder::new()
            .name("wandb upload".to_owned())
            .spawn(move || {
                let Upload {
                    log, run, settings, ..
                } = upload;
                let mut uploader =
                    uploader::Uploader::new(link.clone(), settings, (log, tail), run, shared);
                let _ = sender.send(tell_end(&link, uploader.run())); // nobody waits after a drop
            })?;
        Ok(Self {
            signal,
            sent,
            ended,
        })
    }

    /// Waits until the whole log is on the server, its exit included; for `timeout` at most, and for less
    /// where the server does not answer. `is_over`, asked many times a second with the time waited so far, ends the
    /// wait, too.
    pub(super) fn finish(
        self,
        timeout: Duration,
        mut is_over: impl FnMut(Duration) -> bool,
    ) -> Finished {
        self.signal.want(Wish::Finish);
        let began = Instant::now();
        let left = loop {
            let waited = began.elapsed();
            match self
                .ended
                .recv_timeout(TURN.min(timeout.saturating_sub(waited)))
            {
                Ok(Ok(())) => break self.not_taken(),
                Ok(Err(why)) => break Some(why),
                Err(RecvTimeoutError::Disconnected) => {
                    break Some("the uploader panicked".to_owned());
                }
                Err(RecvTimeoutError::Timeout) if began.elapsed() >= timeout => {
                    break Some(format!("it was not sent in {timeout:?}"));
                }
                Err(RecvTimeoutError::Timeout) if is_over(waited) => {
                    break Some("a signal ended the wait for the server".to_owned());
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        };
        Finished {
            left,
            rows: self.sent.rows.load(Ordering::Relaxed),
        }
    }

    fn not_taken(&self) -> Option<String> {
        let (count, why) = self.sent.failed()?;
        Some(format!(
            "files or artifacts were not taken, {count} of them: {why}"
        ))
    }
}

impl Drop for Uploader {
    fn drop(&mut self) {
        self.signal.want(Wish::Stop);
    }
}

/// A link to the server, if there is a key for it.
fn link(settings: &Settings, pace: Pace, tell: Tell, patience: Option<Duration>) -> Option<Link> {
    Some(Link {
        api: Api::new(settings, settings.api_key.clone()?),
        signal: Arc::default(),
        pace,
        tell,
        patience,
        is_away: Arc::new(AtomicBool::new(false)),
        step: Arc::new(AtomicU64::new(0)),
        limit: Limit::default(),
    })
}

/// Tells the run that nothing is sent any more; whoever wanted that knows it already.
fn tell_end(link: &Link, ended: Result<(), Broken>) -> Result<(), String> {
    let consequence = "the run goes on, and W&B gets nothing more of it; its log is complete";
    let why = match ended {
        Ok(()) => return Ok(()),
        Err(Broken::GaveUp(GaveUp::Stopped)) => return Err("it was stopped".to_owned()),
        Err(Broken::GaveUp(GaveUp::Unreachable(why))) => return Err(why), // the end of the run
        Err(Broken::GaveUp(GaveUp::Refused(why))) => why,
        Err(Broken::Log(error)) => error.to_string(),
        Err(Broken::NoRun) => "the log does not say which run it is of".to_owned(),
        Err(Broken::Thread(error)) => error.to_string(),
    };
    link.problem("upload", "upload", why.clone(), consequence);
    Err(why)
}

/// Part of a path in an address.
fn escape(part: &str) -> String {
    super::settings::escape(part)
}

#[cfg(test)]
mod tests;
