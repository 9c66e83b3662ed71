//! Looking at saved checkpoints as a run looks at its model, without training.

mod builder;

pub use builder::ReplayBuilder;

use super::engine::{Engine, StepOutput};
use crate::checkpoint::{Checkpoint, State};
use crate::error::{CheckpointError, TrainError};
use crate::outcome::{Fitted, Outcome};
use crate::params;
use crate::plan::Plan;
use crate::record::Record;
use crate::stats::Stats;
use crate::task::Task;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Runs callbacks over the checkpoints of a run that is over, and records what they log.
///
/// Each checkpoint, in the order of steps, is loaded and shown as the run would have shown it at the end of that
/// step: the same clock and seed, so that weights, evals and samples are the same to the bit. Every callback acts
/// on every checkpoint, whatever its cadence. Of several checkpoints of one step, one is looked at.
///
/// These hooks are called: `on_fit_start`, `on_step`, with [`eval`](ReplayBuilder::eval) `on_eval_batch` and
/// `on_eval`, with [`gradients`](ReplayBuilder::gradients) `on_step_start`, `on_micro_batch` and `after_backward`,
/// and `on_fit_end`. There are no updates and no new checkpoints, so the other hooks never happen; requests to stop,
/// evaluate or save are not heeded. The loss in `on_step` is the recorded one, NaN where none was recorded; its
/// timing is zero.
///
/// # Examples
///
/// ```no_run
/// # use bdh::{NextToken, Replay, MemorySink, BoxError, lm::RandomCrops, CausalLm};
/// # fn replay<M: CausalLm>(task: NextToken<M, RandomCrops>, model: M) -> Result<(), BoxError> {
/// let norms = bdh::on_step(|at| {
///     at.log("train/weight_norm", at.weights.l2());
///     Ok(())
/// });
/// let replay = Replay::builder(task, model)
///     .checkpoints("runs/first") // all that the run has kept
///     .callback(norms)
///     .eval(true)
///     .run_dir("runs/first-again") // metrics.jsonl, run.json, what callbacks write
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

impl<T: Task> Replay<T> {
    /// Begins the composition of a replay: the task, and a model of the saved one's shape, whatever its weights.
    pub fn builder(task: T, model: T::Model) -> ReplayBuilder<T> {
        ReplayBuilder::new(task, model)
    }

    /// Which checkpoints will be looked at, and what is recorded.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.engine.plan
    }

    /// Looks at every checkpoint; the model of the last one is in what it gives back.
    ///
    /// # Errors
    ///
    /// [`TrainError::Replay`] if a checkpoint is damaged or of another model, and as in [`Trainer::fit`](crate::Trainer::fit).
    ///
    /// # Panics
    ///
    /// If the task or the model panics; callbacks and sinks are notified first.
    pub fn run(mut self) -> Result<Fitted<T::Model>, TrainError> {
        self.engine.open()?;
        let ended = catch_unwind(AssertUnwindSafe(|| self.replay()));
        self.engine.close(ended)
    }

    fn replay(&mut self) -> Result<Outcome, TrainError> {
        self.engine.on_fit_start()?;
        for (place, (_, path)) in self.checkpoints.clone().iter().enumerate() {
            let state = self.load(path)?;
            self.look(&state)?;
            self.engine.record()?;
            if self.gradients {
                self.look_at_gradients(&state)?;
                let next = self.checkpoints.get(place + 1).map(|(step, _)| *step);
                if next != Some(self.engine.clock.step) {
                    self.engine.record()?; // otherwise they are part of the next checkpoint's record
                }
            }
            self.engine.io.hear();
            self.engine.report_problems();
            if let Some(reason) = self.engine.io.take_stop() {
                return Ok(Outcome::Stopped(reason));
            }
        }
        Ok(Outcome::Completed)
    }

    /// Puts the model, the clock and the seed of a checkpoint in place.
    fn load(&mut self, path: &Path) -> Result<State, TrainError> {
        let Checkpoint { model, state, .. } = Checkpoint::read(path)?;
        let mismatch = |what| CheckpointError::Mismatch {
            path: path.to_owned(),
            what,
        };
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
            .map_err(mismatch)?;
        *seed = state.seed;
        *elapsed_before = state.clock.elapsed;
        *clock = state.clock;
        self.engine.observers.select_all();
        Ok(state)
    }

    /// Shows the end of the checkpoint's step.
    fn look(&mut self, state: &State) -> Result<(), TrainError> {
        let record = Record::from_json(&state.record);
        let loss = record
            .and_then(|record| record.scalar("train/loss"))
            .unwrap_or(f64::NAN);
        self.engine.on_step(&StepOutput {
            loss: Some(loss.into()),
            ..StepOutput::untrained()
        })?;
        if self.eval {
            self.engine.eval(None)?;
        }
        self.engine.observers.log.requests.take();
        Ok(())
    }

    /// Takes the step after the checkpoint, up to its gradients, with a model whose running means are thrown away after it.
    fn look_at_gradients(&mut self, state: &State) -> Result<(), TrainError> {
        let copy = params::with_own_states(&*self.engine.compute.model);
        let saved = self.engine.compute.model.replace(copy);
        self.show_next_step(state)?;
        self.engine.compute.model.replace(saved);
        Ok(())
    }

    /// Computes the gradients of the step after the checkpoint: on the same batches, with the same seeds.
    fn show_next_step(&mut self, state: &State) -> Result<(), TrainError> {
        let engine = &mut self.engine;
        let step = engine.clock.step + 1;
        let sought = engine.compute.task_mut().seek(&state.data);
        sought.map_err(|source| TrainError::Data { step, source })?;
        let micro_batches = state.config["trainer"]["grad_accum_steps"]
            .as_u64()
            .unwrap_or(1);
        let batches = engine
            .compute
            .fetch(engine.seed, step, micro_batches as usize)?;
        let previous = engine.advance(&batches);
        let backward = engine.backward(batches, &previous)?;
        let table = Arc::clone(&engine.compute.table);
        let model = &*engine.compute.model;
        let gradients = Stats::new(&table, || params::gradients(model, &backward.grads));
        engine.after_backward(&backward, &gradients, &previous)
    }
}
