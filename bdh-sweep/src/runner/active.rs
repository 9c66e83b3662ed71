//! A trial that runs here, and the verdict on how it ended.

use super::Running;
use crate::metric::Follower;
use crate::process::{Process, was_asked};
use crate::schema::Metric;
use crate::trial::Status;
use crate::trial_store::Claim;
use bdh::{files, run_dir};
use serde_json::Value;
use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

/// A trial that runs here.
pub(super) struct Active {
    pub(super) claim: Claim,
    /// Index among the concurrent trials; decides the device.
    pub(super) slot: usize,
    pub(super) process: Process,
    pub(super) follower: Follower,
    began: Instant,
    /// Why the trial was asked to end, if it was.
    why: Option<StopReason>,
}

/// Why a trial was asked to end.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum StopReason {
    Interrupted,
    Timeout(Duration),
    Behind(String),
}

impl StopReason {
    fn verdict(&self) -> Verdict {
        match self {
            Self::Interrupted => Verdict::of(Status::Interrupted),
            Self::Timeout(most) => Verdict::failed(format!(
                "the trial ran for longer than {} s",
                most.as_secs_f64()
            )),
            Self::Behind(why) => Verdict {
                status: Status::EndedEarly,
                why: Some(why.clone()),
            },
        }
    }
}

/// How a trial ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Verdict {
    pub(super) status: Status,
    pub(super) why: Option<String>,
}

impl Verdict {
    fn of(status: Status) -> Self {
        Self { status, why: None }
    }

    fn failed(why: String) -> Self {
        Self {
            status: Status::Failed,
            why: Some(why),
        }
    }
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

    /// Asks the trial to end; the first reason counts.
    pub(super) fn end(&mut self, why: StopReason) {
        self.why.get_or_insert(why);
        self.process.end();
    }

    /// Returns the progress of the trial.
    pub(super) fn running(&self, run_dir: &Path) -> Running {
        let outputs = TrialOutputs {
            run_dir,
            metric: None,
        };
        Running {
            trial: self.claim.trial.clone(),
            step: self.follower.step,
            steps: outputs.steps(),
            history: self.follower.history.clone(),
            elapsed: self.elapsed(),
        }
    }

    /// Run time, including that before an interruption.
    pub(super) fn elapsed(&self) -> Duration {
        let before = Duration::try_from_secs_f64(self.claim.trial.seconds);
        before.unwrap_or_default() + self.began.elapsed()
    }

    /// Returns how the trial ended.
    pub(super) fn judge(&mut self, exit: ExitStatus, outputs: &TrialOutputs<'_>) -> Verdict {
        self.follower.reread();
        // A run that completed just before it was asked to end did complete.
        if outputs.is_completed() {
            return outputs.judge_value(&self.follower);
        }
        match &self.why {
            Some(why) => why.verdict(),
            // The signal came from elsewhere, such as a queue that takes its machine back.
            None if was_asked(exit) => Verdict::of(Status::Interrupted),
            None if exit.success() => outputs.judge_value(&self.follower),
            None => self.failure(exit),
        }
    }

    /// Returns the verdict with the error that the process printed.
    fn failure(&self, exit: ExitStatus) -> Verdict {
        match self.process.reason() {
            Some(reason) => Verdict::failed(format!("{exit}: {reason}")),
            None => Verdict::failed(format!("{exit}: the trial printed nothing")),
        }
    }
}

/// The files that a trial has written.
pub(super) struct TrialOutputs<'a> {
    pub(super) run_dir: &'a Path,
    pub(super) metric: Option<&'a Metric>,
}

impl TrialOutputs<'_> {
    /// Returns how a trial ended while no sweep was running; `None` if it has not started, or has to be resumed.
    pub(super) fn verdict(&self, follower: &mut Follower) -> Option<Verdict> {
        let run = self.run_file()?;
        follower.reread();
        match run["status"].as_str()? {
            "completed" => Some(self.judge_value(follower)),
            "stopped" if run["outcome"]["stopped"] != "signal" => Some(self.judge_value(follower)),
            _ => None,
        }
    }

    /// Returns the steps of the whole run; `None` before the trial has recorded them, and if it is limited by time.
    fn steps(&self) -> Option<u64> {
        let steps = self.run_file()?["steps"].as_u64();
        steps.filter(|steps| *steps > 0)
    }

    fn is_completed(&self) -> bool {
        self.run_file()
            .is_some_and(|run| run["status"] == "completed")
    }

    /// Judges a finished trial by its last value.
    fn judge_value(&self, follower: &Follower) -> Verdict {
        let Some(metric) = self.metric else {
            return Verdict::of(Status::Completed);
        };
        match follower.last() {
            Some(value) if value.is_finite() => Verdict::of(Status::Completed),
            Some(_) => Verdict::of(Status::Diverged),
            None => Verdict::failed(format!(
                "the trial recorded no `{}` in its metrics.jsonl",
                metric.name
            )),
        }
    }

    fn run_file(&self) -> Option<Value> {
        let text = files::read(self.run_dir, run_dir::FILE, files::MAX_JSON).ok()?;
        serde_json::from_slice(&text).ok()
    }
}
