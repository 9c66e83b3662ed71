//! burn's learning rate schedulers as schedules.

use super::{LrSchedule, Progress};
use burn::lr_scheduler::LrSchedulerConfig;
use burn::lr_scheduler::module_lr_scheduler::{ModuleLrScheduler, ModuleLrSchedulerConfig};
use serde_json::Value;
use std::sync::{Mutex, PoisonError};

/// A scheduler of burn, which advances with each call, as a function of the update.
pub(super) struct Adapter {
    name: String,
    config: Value,
    /// The scheduler before its first step.
    fresh: ModuleLrScheduler,
    // Locked for the length of one call: plans and training ask from any thread.
    cursors: Mutex<[Cursor; 2]>,
}

/// A scheduler on its way through the run.
#[derive(Clone)]
struct Cursor {
    scheduler: ModuleLrScheduler,
    /// Number of steps that the scheduler has made.
    num_done: u64,
    /// Rate of its last step.
    rate: f64,
}

impl Adapter {
    pub(super) fn new(name: String, config: Value, fresh: ModuleLrScheduler) -> Self {
        // Two, so that a plan, which walks through the whole run, does not send training back to the start.
        let cursors = [Cursor::new(&fresh), Cursor::new(&fresh)];
        Self {
            name,
            config,
            fresh,
            cursors: Mutex::new(cursors),
        }
    }
}

/// Builds the scheduler of a configuration.
pub(super) fn build(config: LrSchedulerConfig) -> Result<ModuleLrScheduler, String> {
    // burn builds single schedulers only for itself; this is its public way.
    ModuleLrSchedulerConfig::new(config).init()
}

impl Cursor {
    fn new(fresh: &ModuleLrScheduler) -> Self {
        Self {
            scheduler: fresh.clone(),
            num_done: 0,
            rate: f64::NAN,
        }
    }

    /// Whether the scheduler can advance to an update, or has just been there.
    fn is_before(&self, update: u64) -> bool {
        self.num_done <= update.saturating_add(1)
    }

    /// Returns the rate of an update that the cursor [is before](Self::is_before).
    fn advance_to(&mut self, update: u64) -> f64 {
        while self.num_done <= update {
            self.rate = self.scheduler.step().base();
            self.num_done += 1;
        }
        self.rate
    }
}

/// Returns the cursor that is nearest before an update. If none is before it, the one furthest ahead starts anew.
fn nearest<'a>(
    cursors: &'a mut [Cursor; 2],
    update: u64,
    fresh: &ModuleLrScheduler,
) -> &'a mut Cursor {
    cursors.sort_by_key(|cursor| cursor.num_done);
    let [behind, ahead] = cursors;
    if ahead.is_before(update) {
        return ahead;
    }
    if behind.is_before(update) {
        return behind;
    }
    *ahead = Cursor::new(fresh);
    ahead
}

impl LrSchedule for Adapter {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn config(&self) -> Value {
        self.config.clone()
    }

    fn lr(&self, progress: &Progress) -> f64 {
        // A scheduler that panicked has made no step that counts.
        let mut cursors = self.cursors.lock().unwrap_or_else(PoisonError::into_inner);
        nearest(&mut cursors, progress.step, &self.fresh).advance_to(progress.step)
    }
}
