//! Callbacks, the values that they logged in this step, and their cost.

use super::callbacks::Callbacks;
use crate::callback::Event;
use crate::clock::{Clock, RunLength};
use crate::error::TrainError;
use crate::hook::Hook;
use crate::outcome::Warning;
use crate::overhead::Overhead;
use crate::step_log::StepLog;
use std::cell::RefCell;

/// The observers of a run: callbacks, their log, and their cost.
///
/// An event lends the whole trainer to the callbacks as a shared reference. Only the callbacks change meanwhile, so they are
/// in a cell.
pub(super) struct Observers {
    pub(super) callbacks: RefCell<Callbacks>,
    pub(super) log: StepLog,
    pub(super) overhead: Overhead,
    /// Whether every callback is due, whatever its cadence: in a replay.
    pub(super) all_due: bool,
}

impl Observers {
    pub(super) fn new(callbacks: Callbacks, overhead_budget: f64) -> Self {
        Self {
            callbacks: RefCell::new(callbacks),
            log: StepLog::default(),
            overhead: Overhead {
                budget: overhead_budget,
                ..Overhead::default()
            },
            all_due: false,
        }
    }

    /// Decides which callbacks are due on the step that ends at `now`.
    pub(super) fn select_due(&mut self, previous: Option<&Clock>, now: &Clock, length: RunLength) {
        self.callbacks.get_mut().select_due(previous, now, length);
    }

    /// Makes every callback due, for the checkpoint that is shown next.
    pub(super) fn select_all(&mut self) {
        self.callbacks.get_mut().select_all();
    }

    /// Whether a callback will be called for a hook on this step; if not, its inputs need not be made.
    pub(super) fn want(&self, hook: Hook) -> bool {
        self.callbacks.borrow().want(hook)
    }

    /// Whether a callback that is due wants activations.
    pub(super) fn listen(&self) -> bool {
        self.callbacks.borrow().listening
    }

    /// Calls the hook of an event, on every callback that is due.
    pub(super) fn fire<E: Event>(&self, event: &E) -> Result<(), TrainError> {
        self.callbacks.borrow_mut().fire(event)
    }

    /// Takes the failures of callbacks that have not been sent to the sinks yet.
    pub(super) fn take_warnings(&self) -> Vec<Warning> {
        self.log.warnings.take()
    }

    /// Returns the cost of the run, callback by callback.
    pub(super) fn overhead(&mut self) -> Overhead {
        let mut overhead = std::mem::take(&mut self.overhead);
        overhead.reads += self.log.shared_reads();
        overhead.rows = self.callbacks.get_mut().costs();
        overhead
    }
}
