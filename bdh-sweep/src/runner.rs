//! Runs the trials of a sweep, each as a process of its own.

mod active;
mod choice;
mod work;

use crate::error::SweepError;
use crate::ledger::Ledger;
use crate::schema::{Method, Sweep};
use crate::trial::Trial;
use std::time::Duration;
use work::Work;

/// How the trials of a sweep are run on this machine.
///
/// Several machines, or several processes on one, may run the same sweep in one folder: each trial is run once.
#[derive(Debug, Clone)]
pub struct Runner {
    /// No more trials than this, on all machines together; the sweep's `run_cap` and a grid have an end of their own.
    pub count: Option<u64>,
    /// Trials at once on this machine.
    pub jobs: usize,
    /// How long a trial may run; one that hangs is a failed row, and not a sweep that hangs.
    pub timeout: Option<Duration>,
    /// CUDA devices, over which the trials are spread; each trial sees its own only, as device 0.
    pub devices: Vec<u32>,
    /// Words after those of `command`.
    pub more: Vec<String>,
}

impl Default for Runner {
    fn default() -> Self {
        Self {
            count: None,
            jobs: 1,
            timeout: None,
            devices: Vec::new(),
            more: Vec::new(),
        }
    }
}

/// Sees the trials of a sweep come and go.
pub trait Watcher {
    /// A trial is over, or was interrupted.
    fn ended(&mut self, _trial: &Trial) {}

    /// Once a second: how far the trials of this machine are. Ends those whose numbers it returns, with the reason.
    fn looked(&mut self, _running: &[Running]) -> Vec<(u64, String)> {
        Vec::new()
    }
}

/// How far a trial is.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Running {
    /// The trial.
    pub trial: Trial,
    /// Its last recorded step.
    pub step: u64,
    /// The steps that it will take, if it has said so.
    pub steps: Option<u64>,
    /// Each value of the metric, with its step.
    pub history: Vec<(u64, f64)>,
    /// How long it has run.
    pub elapsed: Duration,
}

/// How a sweep came to an end on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SweepOutcome {
    /// There is no trial left to begin.
    Complete,
    /// A signal ended it; the same call goes on with it.
    Interrupted,
    /// The first trials have all failed; this is what the last of them said.
    GaveUp(String),
}

impl Runner {
    /// Runs trials until there are none left to begin.
    ///
    /// # Errors
    ///
    /// If the folder cannot be used, the command has no such program, or nothing says how many trials there are to be.
    /// What goes wrong in a trial is the trial's own affair.
    pub fn run(
        &self,
        sweep: &Sweep,
        ledger: &Ledger,
        watcher: &mut dyn Watcher,
    ) -> Result<SweepOutcome, SweepError> {
        Work::new(self, sweep, ledger, watcher)?.run()
    }

    /// How many trials there are to be.
    ///
    /// # Errors
    ///
    /// If nothing says so.
    pub fn total(&self, sweep: &Sweep) -> Result<u64, SweepError> {
        let grid = match sweep.method {
            Method::Grid => sweep.space().grid().ok().map(|grid| grid.len() as u64),
            Method::Random | Method::Bayes => None,
        };
        let all = [self.count, sweep.run_cap, grid];
        all.into_iter().flatten().min().ok_or_else(|| {
            SweepError::Invalid(
                "a random or bayes sweep has no end of its own: give a count, or `run_cap` in the file".to_owned(),
            )
        })
    }
}
