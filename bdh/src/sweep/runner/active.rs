//! A trial that runs here, and what its end makes of it.

use crate::sweep::ledger::{Claim, Ledger};
use crate::sweep::metric::Follower;
use crate::sweep::process::{Ended, Process, last_words};
use crate::sweep::schema::Metric;
use crate::sweep::trial::Status;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A trial that runs here.
pub(super) struct Active {
    pub(super) claim: Claim,
    /// Its place among those that run at once.
    pub(super) slot: usize,
    pub(super) process: Process,
    pub(super) follower: Follower,
    run_dir: PathBuf,
    log: PathBuf,
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
    /// A trial that nobody is known to compute.
    pub(super) fn new(claim: Claim, slot: usize, ledger: &Ledger, key: &str) -> Self {
        let number = claim.trial.number;
        let run_dir = ledger.run_dir(number);
        Self {
            follower: Follower::new(&run_dir, key),
            process: Process::Unknown(run_dir.clone()),
            log: ledger.log(number),
            run_dir,
            claim,
            slot,
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

    /// How its process ended, if it has. Whoever is left from a sweep that died is not ours to wait for once we
    /// are interrupted.
    pub(super) fn ended(&mut self) -> std::io::Result<Option<Ended>> {
        let is_left = matches!(self.process, Process::Unknown(_));
        if is_left && self.why == Some(Why::Interrupted) {
            return Ok(Some(Ended::Gone));
        }
        self.process.ended()
    }

    /// Whether its process is still to be started.
    pub(super) fn is_to_start(&self, ended: &Ended) -> bool {
        matches!(ended, Ended::Gone) && self.why.is_none() && !self.has_completed()
    }

    /// What its end makes of it, and why.
    pub(super) fn judge(
        &mut self,
        ended: &Ended,
        metric: Option<&Metric>,
    ) -> (Status, Option<String>) {
        self.follower.look();
        match (&self.why, ended) {
            _ if self.has_completed() => self.by_value(metric),
            (Some(Why::Timeout(most)), _) => {
                (Status::Failed, Some(format!("it ran for longer than {} s", most.as_secs_f64())))
            }
            (Some(Why::Behind(why)), _) => (Status::EndedEarly, Some(why.clone())),
            (Some(Why::Interrupted), _) => (Status::Interrupted, None),
            (None, _) if self.was_interrupted() => (Status::Interrupted, None),
            (None, Ended::Exited(exit)) if !exit.success() => {
                let words = last_words(&self.log).unwrap_or_default();
                (Status::Failed, Some(format!("{exit}: {words}")))
            }
            (None, _) => self.by_value(metric),
        }
    }

    /// What its last value makes of a trial that ran to its end.
    fn by_value(&self, metric: Option<&Metric>) -> (Status, Option<String>) {
        let Some(metric) = metric else { return (Status::Completed, None) };
        match self.last() {
            Some(value) if value.is_finite() => (Status::Completed, None),
            Some(_) => (Status::Diverged, None),
            None => {
                let why = format!("it recorded no `{}` in its metrics.jsonl", metric.name);
                (Status::Failed, Some(why))
            }
        }
    }

    /// The metric as last recorded.
    pub(super) fn last(&self) -> Option<f64> {
        self.follower.history.last().map(|(_, value)| *value)
    }

    /// The steps that it will take, if it has said so.
    pub(super) fn steps(&self) -> Option<u64> {
        self.run_file()?["steps"].as_u64()
    }

    fn has_completed(&self) -> bool {
        self.run_file().is_some_and(|run| run["status"] == "completed")
    }

    /// Whether a signal that was not ours has ended the run, as when a queue takes its machine back.
    fn was_interrupted(&self) -> bool {
        self.run_file().is_some_and(|run| run["outcome"]["stopped"] == "signal")
    }

    fn run_file(&self) -> Option<Value> {
        let text = fs::read(self.run_dir.join(crate::run::FILE)).ok()?;
        serde_json::from_slice(&text).ok()
    }
}
