//! Replays: callbacks run over saved checkpoints, without training.

mod builder;

pub use builder::ReplayBuilder;

use super::compute::Compute;
use super::engine::{Engine, StepOutput};
use crate::checkpoint::{Checkpoint, State};
use crate::clock::Clock;
use crate::error::{CheckpointError, TrainError};
use crate::freeze::FrozenParams;
use crate::outcome::{Outcome, TrainResult};
use crate::params;
use crate::plan::Plan;
use crate::record::Record;
use crate::stats::Stats;
use crate::task::{BatchSize, Task};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A replay of a finished run: callbacks act on its checkpoints, and the values that they log are recorded.
///
/// Checkpoints are loaded in the order of their steps and shown as at the end of that step, with the same clock and
/// seed: weights, evals and samples are identical to the run's, bit for bit. Every callback acts on every checkpoint;
/// cadences are ignored. If a step has several checkpoints, only one is replayed.
///
/// Hooks that are called:
///
/// - always: `on_fit_start`, `on_step`, `on_fit_end`;
/// - with [`eval`](ReplayBuilder::eval): `on_eval_batch`, `on_eval`;
/// - with [`gradients`](ReplayBuilder::gradients): `on_step_start`, `on_micro_batch`, `after_backward`.
///
/// A replay makes no updates and no checkpoints, so the other hooks are never called. Requests to stop, evaluate or
/// save are ignored. The loss in `on_step` is the recorded one, or NaN if none was recorded; its timing is zero.
///
/// # Examples
///
/// ```no_run
/// # use bdh::{BoxError, CausalLm, NextToken, Replay, TokenBatch};
/// # fn replay<M: CausalLm>(model: M, val: Vec<TokenBatch>) -> Result<(), BoxError> {
/// let norms = bdh::hooks::on_step(|ctx| {
///     ctx.log("train/weight_norm", ctx.weights.l2());
///     Ok(())
/// });
/// let replay = Replay::builder(NextToken::new(), model)
///     .checkpoints("runs/first") // every checkpoint that the run has kept
///     .callback(norms)
///     .eval_data("val", val)
///     .eval(true)
///     .run_dir("runs/first-again") // metrics.jsonl, run.json, files of callbacks
///     .build()?;
/// replay.run()?;
/// # Ok(())
/// # }
/// ```
pub struct Replay<T: Task> {
    engine: Engine<T>,
    /// In the order of steps.
    checkpoints: Vec<(u64, PathBuf)>,
    eval: bool,
    gradients: bool,
}

impl<T: Task> fmt::Debug for Replay<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay")
            .field("checkpoints", &self.checkpoints)
            .field("plan", &self.engine.plan)
            .finish_non_exhaustive()
    }
}

impl<T: Task> Replay<T> {
    /// Starts to configure a replay of this task. The model needs the shape of the saved one; its weights are replaced.
    pub fn builder(task: T, model: T::Model) -> ReplayBuilder<T> {
        ReplayBuilder::new(task, model)
    }

    /// Returns the plan of the replay: its checkpoints, and the keys it records.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.engine.plan
    }

    /// Replays every checkpoint. The result holds the model of the last one.
    ///
    /// # Errors
    ///
    /// [`TrainError::Replay`] if a checkpoint is damaged or of another model, or any error of
    /// [`Trainer::fit`](crate::Trainer::fit).
    ///
    /// # Panics
    ///
    /// Resumes a panic of the task or the model, after notifying callbacks and sinks.
    pub fn run(mut self) -> Result<TrainResult<T::Model>, TrainError> {
        let _span = self.engine.span().entered();
        self.engine.open()?;
        let ended = catch_unwind(AssertUnwindSafe(|| self.replay()));
        self.engine.close(ended)
    }

    fn replay(&mut self) -> Result<Outcome, TrainError> {
        self.count_flops();
        self.engine.on_fit_start()?;
        for (place, (_, path)) in self.checkpoints.clone().iter().enumerate() {
            let next = self.checkpoints.get(place + 1).map(|(step, _)| *step);
            self.replay_checkpoint(path, next)?;
            self.engine.io.drain();
            self.engine.report_warnings();
            if let Some(reason) = self.engine.io.take_stop() {
                self.engine.io.stop_requested(&reason);
                return Ok(Outcome::Stopped(reason));
            }
        }
        Ok(Outcome::Completed)
    }

    /// Asks the task for the operations per token, on the first batch of an eval set: a replay may train on none.
    fn count_flops(&mut self) {
        let Compute {
            task,
            model,
            eval_sets,
            ..
        } = &self.engine.compute;
        let first = eval_sets.first().and_then(|set| set.data.batches().next());
        if let Some(Ok(batch)) = first {
            self.engine.flops_per_token = task.flops_per_token(model, &batch);
        }
    }

    /// Replays one checkpoint; `next` is the step of the checkpoint after it.
    fn replay_checkpoint(&mut self, path: &Path, next: Option<u64>) -> Result<(), TrainError> {
        let state = self.load(path)?;
        self.show_step(&state)?;
        self.engine.record()?;
        if self.gradients {
            self.show_gradients(&state)?;
            if next != Some(self.engine.clock.step) {
                self.engine.record()?; // if it is the next checkpoint's step, that record takes the values
            }
        }
        Ok(())
    }

    /// Restores the model, the clock and the seed of a checkpoint.
    fn load(&mut self, path: &Path) -> Result<State, TrainError> {
        let Checkpoint { model, state, .. } = Checkpoint::read(path)?;
        let Engine {
            compute,
            clock,
            elapsed_before,
            seed,
            ..
        } = &mut self.engine;
        let whole = &compute.saved;
        compute
            .model
            .try_change(|old| params::restore(old, whole, model))
            .map_err(|error| CheckpointError::Mismatch {
                path: path.to_owned(),
                what: error.to_string(),
            })?;
        compute.frozen = FrozenParams::of_saved(&state.config, &compute.table);
        *seed = state.seed;
        *elapsed_before = state.clock.elapsed;
        *clock = Clock {
            batches_per_epoch: clock.batches_per_epoch,
            ..state.clock
        };
        self.engine.observers.select_all();
        Ok(state)
    }

    /// Calls the hooks of the end of the checkpoint's step.
    fn show_step(&mut self, state: &State) -> Result<(), TrainError> {
        let record = Record::from_json(&state.record);
        let loss = record
            .and_then(|record| record.scalar("train/loss"))
            .unwrap_or(f64::NAN);
        self.engine.on_step(&StepOutput {
            loss: Some(loss.into()),
            ..StepOutput::untrained()
        })?;
        if self.eval {
            for set in 0..self.engine.compute.eval_sets.len() {
                self.engine.eval(set, None)?;
            }
        }
        self.engine.observers.log.requests.take();
        Ok(())
    }

    /// Computes the gradients of the next step on a copy of the model, whose changed running means are discarded.
    fn show_gradients(&mut self, state: &State) -> Result<(), TrainError> {
        let copy = params::with_own_states(&*self.engine.compute.model);
        let saved = self.engine.compute.model.replace(copy);
        self.show_next_step(state)?;
        self.engine.compute.model.replace(saved);
        Ok(())
    }

    /// Computes the gradients of the step after the checkpoint, on the batches and seeds of the original run.
    fn show_next_step(&mut self, state: &State) -> Result<(), TrainError> {
        let batches = self.fetch_next(state)?;
        let engine = &mut self.engine;
        let previous = engine.advance(&batches);
        let backward = engine.backward(batches, &previous)?;
        let table = Arc::clone(&engine.compute.table);
        let model = &*engine.compute.model;
        let gradients = Stats::new(&table, || params::gradients(model, &backward.grads));
        engine.after_backward(&backward, &gradients, &previous)
    }

    /// Draws the micro-batches of the step after the checkpoint, from its data position.
    fn fetch_next(&mut self, state: &State) -> Result<Vec<(T::Batch, BatchSize)>, TrainError> {
        let engine = &mut self.engine;
        let step = engine.clock.step + 1;
        engine
            .compute
            .data
            .load_state(&state.data)
            .map_err(|source| TrainError::Data { step, source })?;
        let count = state.config["trainer"]["grad_accum_steps"].as_u64();
        // At least 1: a crafted checkpoint may hold 0, and a step has a micro-batch.
        let count = count.unwrap_or(1).max(1) as usize;
        engine.compute.fetch(engine.seed, step, count)
    }
}
