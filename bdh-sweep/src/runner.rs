//! Runs the trials of a sweep as processes.

mod active;
mod choice;
mod sweep_loop;

use crate::error::SweepError;
use crate::schema::{Method, Sweep};
use crate::trial::Trial;
use crate::trial_store::TrialStore;
use std::time::Duration;
use sweep_loop::SweepLoop;

/// Settings for running the trials of a sweep on this machine.
///
/// Several machines, or several processes on one machine, may run the same sweep in one folder: each trial runs once.
#[derive(Debug, Clone)]
pub struct Runner {
    /// Largest number of trials, on all machines together. The file's `run_cap` and the size of a grid apply too.
    pub count: Option<u64>,
    /// Number of concurrent trials on this machine.
    pub jobs: usize,
    /// Longest run time of a trial. A trial that runs longer is ended and counts as failed.
    pub timeout: Option<Duration>,
    /// CUDA devices, one for each concurrent trial in turn; a trial sees only its own, as device 0.
    pub devices: Vec<u32>,
    /// Arguments to append to `command`.
    pub extra_args: Vec<String>,
}

impl Default for Runner {
    fn default() -> Self {
        Self {
            count: None,
            jobs: 1,
            timeout: None,
            devices: Vec::new(),
            extra_args: Vec::new(),
        }
    }
}

/// Observer of a sweep's trials.
pub trait Watcher {
    /// Called when a trial is over, or was interrupted.
    fn ended(&mut self, _trial: &Trial) {}

    /// Called once a second with the progress of the trials on this machine.
    ///
    /// Returns the numbers of trials to end, each with the reason.
    fn looked(&mut self, _running: &[Running]) -> Vec<(u64, String)> {
        Vec::new()
    }
}

/// Progress of a trial.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Running {
    /// The trial.
    pub trial: Trial,
    /// Last recorded step.
    pub step: u64,
    /// Steps of the whole run; `None` before the trial has recorded them, and if it is limited by time.
    pub steps: Option<u64>,
    /// Each value of the metric, with its step.
    pub history: Vec<(u64, f64)>,
    /// Run time so far.
    pub elapsed: Duration,
}

/// Result of a sweep on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SweepOutcome {
    /// No trial is left to begin.
    Complete,
    /// A signal ended the sweep; the same call continues it.
    Interrupted,
    /// The first trials all failed; contains the reason of the last one.
    GaveUp(String),
}

impl Runner {
    /// Runs trials until none is left to begin. The failure of a trial is not an error of the sweep.
    ///
    /// # Errors
    ///
    /// If the folder cannot be used, the program of the command cannot be started, or the number of trials is not
    /// given.
    pub fn run(
        &self,
        sweep: &Sweep,
        store: &TrialStore,
        watcher: &mut dyn Watcher,
    ) -> Result<SweepOutcome, SweepError> {
        SweepLoop::new(self, sweep, store, watcher)?.run()
    }

    /// Returns the number of trials: the least of the count, the file's `run_cap` and the size of a grid.
    ///
    /// # Errors
    ///
    /// If none of them is given.
    pub fn total(&self, sweep: &Sweep) -> Result<u64, SweepError> {
        let grid = match sweep.method {
            Method::Grid => sweep.space().grid().ok().map(|grid| grid.len() as u64),
            Method::Random | Method::Bayes => None,
        };
        let total = [self.count, sweep.run_cap, grid]
            .into_iter()
            .flatten()
            .min();
        total.ok_or_else(|| {
            SweepError::Invalid(
                "a random or bayes sweep has no end of its own: give a count, or `run_cap` in the file".to_owned(),
            )
        })
    }
}
