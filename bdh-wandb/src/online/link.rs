//! The connection to a server that is not always there: requests that are tried until they are answered.

use super::api::{Api, Failure};
use super::signal::{Signal, Wish};
use super::{News, Pace, Tell};
use crate::limit::Limit;
use bdh::{Problem, printable};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Why a request was given up.
#[derive(Debug)]
pub(super) enum GaveUp {
    /// Somebody wanted to end.
    Stopped,
    /// The server does not want it.
    Refused(String),
    /// The server was away for longer than this caller waits.
    Unreachable(String),
}

/// What both threads of an uploader share. Clones are the same link.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) api: Api,
    pub(super) signal: Arc<Signal>,
    pub(super) pace: Pace,
    pub(super) tell: Tell,
    /// For how long a request is tried; if unset, forever while the run goes on.
    pub(super) patience: Option<Duration>,
    /// Whether it has been told that the server is away.
    pub(super) is_away: Arc<AtomicBool>,
    /// The trainer's step of the last row that was read.
    pub(super) step: Arc<AtomicU64>,
    pub(super) limit: Limit,
}

impl Link {
    /// Tries until the server answers. `also_retry` are statuses of refusals that are tried again as well.
    pub(super) fn insist<T>(
        &self,
        also_retry: &[u16],
        attempt: impl Fn(&Api) -> Result<T, Failure>,
    ) -> Result<T, GaveUp> {
        let (mut began, mut began_as) = (Instant::now(), self.signal.wish());
        let mut wait = self.pace.retry;
        for attempts in 1.. {
            let wish = self.signal.wish();
            if wish != began_as {
                (began, began_as) = (Instant::now(), wish);
            }
            if wish == Wish::Stop {
                return Err(GaveUp::Stopped);
            }
            let why = match attempt(&self.api) {
                Ok(answer) => {
                    self.is_away.store(false, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(Failure::Refused { status, text }) if also_retry.contains(&status) => text,
                Err(Failure::Refused { text, .. }) => return Err(GaveUp::Refused(text)),
                Err(Failure::File(error)) => return Err(GaveUp::Refused(error.to_string())),
                Err(Failure::Temporary(text)) => text,
            };
            let farewell = (wish == Wish::Finish).then_some(self.pace.farewell);
            let patience = self.patience.or(farewell);
            if patience.is_some_and(|patience| began.elapsed() + wait > patience) {
                return Err(GaveUp::Unreachable(why));
            }
            if attempts == 3 && !self.is_away.swap(true, Ordering::Relaxed) {
                let text =
                    format!("W&B does not answer ({why}); what it has not got waits in the log");
                self.remark("away", text);
            }
            if self.signal.wait(jitter(wait), wish) == wish {
                wait = (wait * 2).min(self.pace.retry_max);
            } else {
                wait = self.pace.retry; // the end is near: once more, at once
            }
        }
        unreachable!("attempts do not run out")
    }

    /// Says something that a person may want to know, unless there was enough of its kind.
    pub(super) fn remark(&self, kind: &'static str, text: String) {
        if let Some(text) = self.limit.pass(kind, text) {
            (self.tell)(News::Remark(printable(&text).into_owned()));
        }
    }

    /// Tells of something that failed for good, unless there was enough of its kind.
    pub(super) fn problem(
        &self,
        kind: &'static str,
        during: &str,
        error: String,
        consequence: &str,
    ) {
        let Some(error) = self.limit.pass(kind, error) else {
            return;
        };
        (self.tell)(News::Problem(Problem {
            who: "wandb".to_owned(),
            during: printable(during).into_owned(),
            step: self.step.load(Ordering::Relaxed),
            error: printable(&error).into_owned(),
            consequence: consequence.to_owned(),
        }));
    }
}

/// Three quarters to five quarters of a time, so that many runs do not come back at once.
fn jitter(time: Duration) -> Duration {
    let random = RandomState::new().hash_one(0) % 1_000;
    time.mul_f64(0.75 + random as f64 / 2_000.0)
}
