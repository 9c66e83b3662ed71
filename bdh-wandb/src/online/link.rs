//! Connection to a server, with requests that are retried until they are answered.

use super::api::{Api, Failure};
use super::signal::{Command, Signal};
use super::{Notify, Pace, UploadMessage};
use crate::limit::Limit;
use bdh::Warning;
use bdh::lines::printable;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Reason why a request was given up.
#[derive(Debug, thiserror::Error)]
pub(super) enum GaveUp {
    /// [`Command::Stop`] was raised.
    #[error("the upload was stopped")]
    Stopped,
    /// The server refused the request.
    #[error("{0}")]
    Refused(String),
    /// The server did not answer within the link's timeout.
    #[error("{0}")]
    Unreachable(String),
}

/// Connection that both threads of an uploader share; clones are the same connection.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) api: Api,
    pub(super) signal: Arc<Signal>,
    pub(super) pace: Pace,
    pub(super) notify: Notify,
    /// Limit on the retries of a request; `None` for no limit while the run trains.
    pub(super) timeout: Option<Duration>,
    /// Whether a notice that the server does not answer has been sent.
    // Relaxed everywhere: the flag and the step protect no other data.
    pub(super) is_away: Arc<AtomicBool>,
    /// Trainer's step of the last row that was read.
    pub(super) step: Arc<AtomicU64>,
    pub(super) limit: Limit,
}

impl Link {
    /// Repeats a request until the server answers it.
    ///
    /// Refusals with a status in `also_retry` are retried too. Both the pauses and the time that counts against the
    /// timeout begin anew when the command changes.
    pub(super) fn insist<T>(
        &self,
        also_retry: &[u16],
        attempt: impl Fn(&Api) -> Result<T, Failure>,
    ) -> Result<T, GaveUp> {
        let (mut began, mut began_with) = (Instant::now(), self.signal.command());
        let mut wait = self.pace.retry;
        let mut attempts = 0_u64;
        loop {
            let command = self.signal.command();
            if command != began_with {
                (began, began_with) = (Instant::now(), command);
            }
            if command == Command::Stop {
                return Err(GaveUp::Stopped);
            }
            let why = match attempt(&self.api) {
                Ok(answer) => {
                    self.is_away.store(false, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(failure) => retry_reason(failure, also_retry)?,
            };
            if self.exceeds_timeout(began.elapsed() + wait, command) {
                return Err(GaveUp::Unreachable(why));
            }
            attempts += 1;
            if attempts == 3 {
                self.notice_away(&why); // shorter outages are not worth a line
            }
            wait = self.pause(wait, command);
        }
    }

    /// Waits before the next attempt, and returns the pause after that one.
    fn pause(&self, wait: Duration, command: Command) -> Duration {
        if self.signal.wait(jitter(wait), command) == command {
            (wait * 2).min(self.pace.retry_max)
        } else {
            self.pace.retry // the run is ending: the next attempt follows at once
        }
    }

    /// Sends a notice that the server does not answer, once per outage.
    fn notice_away(&self, why: &str) {
        if !self.is_away.swap(true, Ordering::Relaxed) {
            let text = format!("W&B does not answer ({why}); the log keeps what has not been sent");
            self.notice("away", text);
        }
    }

    /// Whether a request under a command may not take this long.
    fn exceeds_timeout(&self, time: Duration, command: Command) -> bool {
        match self.timeout_of(command) {
            Some(timeout) => time > timeout,
            None => false,
        }
    }

    fn timeout_of(&self, command: Command) -> Option<Duration> {
        match (self.timeout, command) {
            (None, Command::Finish) => Some(self.pace.farewell),
            (timeout, _) => timeout,
        }
    }

    /// Sends a notice, unless there were enough of its kind.
    pub(super) fn notice(&self, kind: &'static str, text: String) {
        if let Some(text) = self.limit.pass(kind, text) {
            (self.notify)(UploadMessage::Notice(printable(&text).into_owned()));
        }
    }

    /// Sends a warning, unless there were enough of its kind.
    pub(super) fn warn(&self, kind: &'static str, phase: &str, cause: String, consequence: &str) {
        let Some(cause) = self.limit.pass(kind, cause) else {
            return;
        };
        (self.notify)(UploadMessage::Warning(Warning {
            source: "wandb".to_owned(),
            phase: printable(phase).into_owned(),
            step: self.step.load(Ordering::Relaxed),
            cause: printable(&cause).into_owned(),
            consequence: consequence.to_owned(),
        }));
    }
}

/// Returns why a request is retried, or the error if it is not.
fn retry_reason(failure: Failure, also_retry: &[u16]) -> Result<String, GaveUp> {
    match failure {
        Failure::Temporary(text) => Ok(text),
        Failure::Refused { status, text } if also_retry.contains(&status) => Ok(text),
        Failure::Refused { text, .. } => Err(GaveUp::Refused(text)),
        Failure::File(error) => Err(GaveUp::Refused(error.to_string())),
    }
}

/// Returns 75 to 125 % of a time, so that many runs do not retry at the same moment.
fn jitter(time: Duration) -> Duration {
    let random = RandomState::new().hash_one(0) % 1_000;
    time.mul_f64(0.75 + random as f64 / 2_000.0)
}
