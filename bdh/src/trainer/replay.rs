//! Looking at saved checkpoints as a run looks at its model, without training.

mod builder;

pub use builder::ReplayBuilder;

use super::{Done, MODEL_IS_IN, Trainer};
use crate::checkpoint::{Checkpoint, State};
use crate::error::CheckpointError;
use crate::error::TrainError;
use crate::outcome::{Fitted, Outcome};
use crate::params::{self, Tensors};
use crate::plan::Plan;
use crate::record::Record;
use crate::task::Task;
use std::path::{Path, PathBuf};

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
    /// One without an optimizer.
    trainer: Trainer<T>,
    /// In the order of steps.
    checkpoints: Vec<(u64, PathBuf)>,
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
        &self.trainer.plan
    }

    /// Looks at every checkpoint; the model of the last one is in what it gives back.
    ///
    /// # Errors
    ///
    /// [`TrainError::Replay`] if a checkpoint is damaged or of another model, and as in [`Trainer::fit`].
    ///
    /// # Panics
    ///
    /// If the task or the model panics; everybody has been told then.
    pub fn run(self) -> Result<Fitted<T::Model>, TrainError> {
        let Self { trainer, checkpoints, gradients } = self;
        trainer.drive(|trainer| trainer.replay(&checkpoints, gradients))
    }
}

impl<T: Task> Trainer<T> {
    fn replay(
        &mut self,
        checkpoints: &[(u64, PathBuf)],
        gradients: bool,
    ) -> Result<Outcome, TrainError> {
        self.on_fit_start()?;
        let later = checkpoints.iter().skip(1).map(|(step, _)| Some(*step)).chain([None]);
        for ((_, path), next) in checkpoints.iter().zip(later) {
            let state = self.load(path)?;
            self.look(&state)?;
            self.record()?;
            if gradients {
                self.look_at_gradients(&state)?;
                if next != Some(self.clock.step) {
                    self.record()?; // otherwise they are part of the next checkpoint's record
                }
            }
            self.progress.writers.hear(&mut self.progress.problems);
            self.hear_problems();
            if let Some(reason) = self.progress.writers.stop.take() {
                return Ok(Outcome::Stopped(reason));
            }
        }
        Ok(Outcome::Completed)
    }

    /// Refuses a saved model of other names or shapes.
    fn check_fit(&self, path: &Path, saved: &Tensors) -> Result<(), CheckpointError> {
        let mismatch = |what| CheckpointError::Mismatch { path: path.to_owned(), what };
        params::check(&self.saved, saved).map_err(mismatch)
    }

    /// Puts the model, the clock and the seed of a checkpoint in place.
    fn load(&mut self, path: &Path) -> Result<State, TrainError> {
        let Checkpoint { model, state, .. } = Checkpoint::read(path)?;
        let mismatch = |what| CheckpointError::Mismatch { path: path.to_owned(), what };
        let old = self.model.take().expect(MODEL_IS_IN);
        self.model = Some(params::restore(old, &self.saved, model).map_err(mismatch)?);
        self.settings.seed = state.seed;
        self.elapsed_before = state.clock.elapsed;
        self.clock = state.clock;
        self.callbacks.look_at_all();
        Ok(state)
    }

    /// Shows the end of the checkpoint's step.
    fn look(&mut self, state: &State) -> Result<(), TrainError> {
        let record = Record::from_json(&state.record);
        let loss = record.and_then(|record| record.scalar("train/loss")).unwrap_or(f64::NAN);
        let done = Done { loss: Some(loss.into()), ..Done::untrained() };
        self.on_step(&done)?;
        if self.settings.eval != crate::cadence::Cadence::Never {
            self.eval(&done)?;
        }
        self.bus.requests.take();
        Ok(())
    }

    /// Takes the step after the checkpoint, up to its gradients, with a model whose running means are thrown away after it.
    fn look_at_gradients(&mut self, state: &State) -> Result<(), TrainError> {
        let saved = self.model.take().expect(MODEL_IS_IN);
        self.model = Some(params::with_own_states(&saved));
        self.show_next_step(state)?;
        self.model = Some(saved);
        Ok(())
    }

    /// Computes the gradients of the step after the checkpoint: on the same batches, with the same seeds.
    fn show_next_step(&mut self, state: &State) -> Result<(), TrainError> {
        let step = self.clock.step + 1;
        super::task_mut(&mut self.task)
            .seek(&state.data)
            .map_err(|source| TrainError::Data { step, source })?;
        let micro_batches = state.config["trainer"]["grad_accum_steps"].as_u64().unwrap_or(1);
        self.settings.grad_accum_steps = micro_batches as usize;
        let batches = self.fetch()?;
        let previous = self.clock;
        self.clock = self.clock_after(&batches);
        let backward = self.backward(batches, &previous)?;
        self.show_gradients(backward, &previous)
    }
}
