//! The start of a new run at another program's step.

use super::Trainer;
use crate::checkpoint::Start;
use crate::clock::{Clock, RunLength};
use crate::error::ConfigError;
use crate::optim::OptimizerState;
use crate::task::Task;
use serde_json::Value;

impl<T: Task> Trainer<T> {
    /// Moves the run to a start that is not step 0, unless it resumes: a checkpoint has all that a start has.
    pub(super) fn start_from(&mut self, start: Start) -> Result<(), ConfigError> {
        if self.engine.io.resumed_step.is_some() {
            return Ok(());
        }
        let Start {
            clock,
            optimizer,
            counters,
            data,
        } = start;
        let state = OptimizerState {
            tensors: optimizer.into_iter().collect(),
            scalars: counters,
        };
        let note = self
            .load_foreign_state(state, &data)
            .map_err(|problem| refused(&clock, problem))?;
        let steps = self.note_of_steps(clock.step);
        self.engine.plan.notes.push(steps);
        if data.is_null() {
            let text = "the training data begins at its start: the start has no position of it";
            self.engine.plan.notes.push(text.to_owned());
        }
        self.engine.plan.notes.extend(note);
        self.start_at(clock);
        Ok(())
    }

    /// Loads optimizer state and data position. Returns a note on optimizers that start anew; the error is a clause.
    fn load_foreign_state(
        &mut self,
        state: OptimizerState,
        position: &Value,
    ) -> Result<Option<String>, String> {
        let compute = &mut self.engine.compute;
        let device = compute.device.clone().inner();
        let (table, model) = (&compute.table, &*compute.model);
        let loaded = compute.optimizers.load(state, table, model, &device);
        loaded.map_err(|error| error.to_string())?;
        if !position.is_null() {
            let moved = compute.data.load_state(position);
            moved.map_err(|error| format!("the data position cannot be loaded: {error}"))?;
        }
        let fresh = compute.optimizers.without_state(table);
        Ok(note_of_fresh(&fresh, table.len()))
    }

    /// Returns the note on the first step, for the plan and `run.json`.
    fn note_of_steps(&self, step: u64) -> String {
        match self.settings.length {
            RunLength::Steps(steps) => {
                let left = steps.saturating_sub(step);
                format!("starts at step {step}, so {left} of {steps} steps are taken")
            }
            RunLength::Time(_) => format!("starts at step {step}"),
        }
    }

    /// Sets the clock. The evals and the checkpoint of the start step are due if they would be after that step.
    fn start_at(&mut self, clock: Clock) {
        let engine = &mut self.engine;
        engine.elapsed_before = clock.elapsed;
        engine.clock = Clock {
            batches_per_epoch: engine.clock.batches_per_epoch,
            ..clock
        };
        self.eval_pending_since = self.clock_before_start();
    }

    /// Returns the clock one step before the start; `None` for step 0.
    fn clock_before_start(&self) -> Option<Clock> {
        let clock = self.engine.clock;
        let micro_batches = self.settings.grad_accum_steps as u64;
        let size = self.engine.compute.data.batch_size().unwrap_or_default();
        let before = |now: u64, each: u64| now.saturating_sub(each);
        Some(Clock {
            step: clock.step.checked_sub(1)?,
            micro_batches: before(clock.micro_batches, micro_batches),
            tokens: before(clock.tokens, size.tokens as u64 * micro_batches),
            samples: before(clock.samples, size.samples as u64 * micro_batches),
            ..clock
        })
    }
}

/// Refuses a start at or after the end of the run.
pub(super) fn check_length(clock: &Clock, length: RunLength) -> Result<(), ConfigError> {
    if !length.is_reached(clock) {
        return Ok(());
    }
    let problem = match length {
        RunLength::Steps(steps) => format!("the run ends after {steps} steps; use more"),
        RunLength::Time(_) => {
            let seconds = clock.elapsed.as_secs_f64();
            format!("the run ends after {length}, and {seconds} s are used up; use more")
        }
    };
    Err(refused(clock, problem))
}

/// Returns the note on the parameters without a state, of all `count` parameters.
fn note_of_fresh(fresh: &[&str], count: usize) -> Option<String> {
    let note = "the optimizer starts anew";
    let (one, others) = fresh.split_first()?;
    Some(match others.len() {
        others if others + 1 == count => note.to_owned(),
        0 => format!("{note} for `{one}`"),
        others => format!("{note} for `{one}` and {others} more parameters"),
    })
}

fn refused(clock: &Clock, problem: String) -> ConfigError {
    let value = format!("step {}", clock.step);
    ConfigError::invalid("start_from", value, problem)
}
