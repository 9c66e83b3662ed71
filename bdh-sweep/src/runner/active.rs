//! A trial that runs here, and what its end makes of it.

use crate::ledger::Claim;
use crate::metric::Follower;
use crate::process::{Process, was_asked};
use crate::schema::Metric;
use crate::trial::Status;
use bdh::{files, run_dir};
use serde_json::Value;
use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

/// A trial that runs here.
pub(super) struct Active {
    pub(super) claim: Claim,
    /// Its place among those that run at once.
    pub(super) slot: usize,
    pub(super) process: Process,
    pub(super) follower: Follower,
    began: Instant,
    /// Why it was asked to end, if it was.
    why: Option<Why>,
}

/// Why a trial was asked to end.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Why {
    Interrupted,
    Timeout(Duration),
    Behind(String),
}

impl Active {
    pub(super) fn new(claim: Claim, slot: usize, process: Process, follower: Follower) -> Self {
        Self {
            claim,
            slot,
            process,
            follower,
            began: Instant::now(),
            why: None,
        }
    }

    pub(super) fn number(&self) -> u64 {
        self.claim.trial.number
    }

    pub(super) fn end(&mut self, why: Why) {
        self.why.get_or_insert(why);
        self.process.end();
    }

    /// How long it has run, before an interruption too.
    pub(super) fn elapsed(&self) -> Duration {
        let before = Duration::try_from_secs_f64(self.claim.trial.seconds);
        before.unwrap_or_default() + self.began.elapsed()
    }

    /// What its end makes of it, and why.
    pub(super) fn judge(
        &mut self,
        exit: ExitStatus,
        traces: &Traces<'_>,
    ) -> (Status, Option<String>) {
        self.follower.read_anew();
        match &self.why {
            _ if traces.status().is_some_and(|status| status == "completed") => {
                traces.by_value(&self.follower)
            }
            Some(Why::Timeout(most)) => (
                Status::Failed,
                Some(format!("it ran for longer than {} s", most.as_secs_f64())),
            ),
            Some(Why::Behind(why)) => (Status::EndedEarly, Some(why.clone())),
            Some(Why::Interrupted) => (Status::Interrupted, None),
            // Not by us: by a queue that takes its machine back, say.
            None if was_asked(exit) => (Status::Interrupted, None),
            None if exit.success() => traces.by_value(&self.follower),
            None => {
                let words = self
                    .process
                    .reason()
                    .unwrap_or_else(|| "it printed nothing".to_owned());
                (Status::Failed, Some(format!("{exit}: {words}")))
            }
        }
    }
}

/// What a trial has left on disk.
pub(super) struct Traces<'a> {
    pub(super) run_dir: &'a Path,
    pub(super) metric: Option<&'a Metric>,
}

impl Traces<'_> {
    /// What became of a trial that ended while no sweep looked; `None` if it is still to run, or to go on.
    pub(super) fn outcome(&self, follower: &mut Follower) -> Option<(Status, Option<String>)> {
        let run = self.run_file()?;
        follower.read_anew();
        match run["status"].as_str()? {
            "completed" => Some(self.by_value(follower)),
            "stopped" if run["outcome"]["stopped"] != "signal" => Some(self.by_value(follower)),
            _ => None,
        }
    }

    /// The steps that it will take, if it has said so.
    pub(super) fn steps(&self) -> Option<u64> {
        self.run_file()?["steps"].as_u64()
    }

    fn status(&self) -> Option<String> {
        Some(self.run_file()?["status"].as_str()?.to_owned())
    }

    /// What its last value makes of a trial that ran to its end.
    fn by_value(&self, follower: &Follower) -> (Status, Option<String>) {
        let Some(metric) = self.metric else {
            return (Status::Completed, None);
        };
        match follower.last() {
            Some(value) if value.is_finite() => (Status::Completed, None),
            Some(_) => (Status::Diverged, None),
            None => {
                let why = format!("it recorded no `{}` in its metrics.jsonl", metric.name);
                (Status::Failed, Some(why))
            }
        }
    }

    fn run_file(&self) -> Option<Value> {
        let text = files::read(self.run_dir, run_dir::FILE, files::MAX_JSON).ok()?;
        serde_json::from_slice(&text).ok()
    }
}
