//! The training loop, from top to bottom.

mod builder;
mod callbacks;
mod compute;
mod engine;
mod finish_step;
mod model_slot;
mod observers;
mod replay;
mod resume;
mod run_io;
mod save;
mod update;

pub use builder::TrainerBuilder;
pub use replay::{Replay, ReplayBuilder};
pub use resume::Resume;

use crate::error::TrainError;
use crate::intervention::Intervention;
use crate::outcome::{Outcome, StopReason, TrainResult};
use crate::plan::Plan;
use crate::task::Task;
use builder::Settings;
use engine::{Engine, StepOutput};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;
use update::Updated;

/// A training run of a model on a task, observed by callbacks and recorded by sinks.
///
/// # Examples
///
/// ```
/// use bdh::burn::{nn::{Linear, LinearConfig}, optim::AdamWConfig, tensor::Tensor};
/// use bdh::{BatchSize, BoxError, MemorySink, Probe, Task, Trainer};
/// use bdh::schedule::warmup_cosine;
/// # struct Halve;
/// # impl Task for Halve {
/// #     type Model = Linear;
/// #     type Batch = Vec<f32>;
/// #     fn next_batch(&mut self) -> Result<Vec<f32>, BoxError> { Ok(vec![0.25, 0.5, 1.0]) }
/// #     fn size(&self, batch: &Vec<f32>) -> BatchSize {
/// #         BatchSize { samples: batch.len(), tokens: batch.len() }
/// #     }
/// #     fn loss(&self, model: &Linear, batch: &Vec<f32>, _: &Probe<'_>) -> Tensor<1> {
/// #         let x = Tensor::<1>::from_floats(batch.as_slice(), &model.weight.device()).reshape([-1, 1]);
/// #         (model.forward(x.clone()) - x / 2.0).square().mean()
/// #     }
/// # }
///
/// let device = bdh::device("cpu")?;
/// let memory = MemorySink::default();
/// let trainer = Trainer::builder(Halve, LinearConfig::new(1, 1).init(&device))
///     .optimizer(AdamWConfig::new().build(), warmup_cosine(0.1, 5))
///     .steps(50)
///     .sink(memory.clone())
///     .build()?;
/// println!("{}", trainer.plan());
/// trainer.fit()?;
///
/// let losses = memory.series("train/loss");
/// assert_eq!(losses.len(), 50);
/// assert!(losses[49].1 < 0.1 * losses[0].1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Trainer<T: Task> {
    engine: Engine<T>,
    interventions: Vec<Box<dyn Intervention>>,
    settings: Settings,
}

impl<T: Task> fmt::Debug for Trainer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trainer")
            .field("step", &self.engine.clock.step)
            .field("plan", &self.engine.plan)
            .finish_non_exhaustive()
    }
}

impl<T: Task> Trainer<T> {
    /// Starts to configure a run of this task, with the model to train.
    pub fn builder(task: T, model: T::Model) -> TrainerBuilder<T> {
        TrainerBuilder::new(task, model)
    }

    /// Returns the plan of the run: the steps on which each part acts, the keys it records, and the files it writes.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.engine.plan
    }

    /// Runs the loop to its end.
    ///
    /// # Errors
    ///
    /// [`TrainError`], after callbacks and sinks have been notified. A callback or sink that fails does not fail the
    /// run: its failure is in [`TrainResult::warnings`]. With an error the model is not returned, even if all steps
    /// were taken and only the last checkpoint could not be written ([`TrainError::Unsaved`]).
    ///
    /// # Panics
    ///
    /// Resumes a panic of the task or the model, after notifying callbacks and sinks.
    pub fn fit(mut self) -> Result<TrainResult<T::Model>, TrainError> {
        let _span = self.engine.span().entered();
        self.engine.open()?;
        let ended = catch_unwind(AssertUnwindSafe(|| self.run()));
        self.engine.close(ended)
    }

    fn run(&mut self) -> Result<Outcome, TrainError> {
        self.engine.on_fit_start()?;
        if let Some(reason) = self.finish_untrained()? {
            return Ok(Outcome::Stopped(reason));
        }
        self.engine.laps.lap();
        while self.engine.clock.step < self.settings.steps {
            self.engine.io.poll_dir(self.engine.clock.step)?;
            let output = self.step()?; // ends with the parameters updated
            self.log_own(&output);
            self.engine.on_step(&output)?;
            if let Some(reason) = self.finish_step(&output)? {
                return Ok(Outcome::Stopped(reason));
            }
        }
        Ok(Outcome::Completed)
    }

    /// Finishes step 0, that of the untrained model, unless the run resumes.
    fn finish_untrained(&mut self) -> Result<Option<StopReason>, TrainError> {
        if self.engine.clock.step > 0 || self.engine.io.info.resumed_at.is_some() {
            return Ok(None);
        }
        self.engine.select_due(None);
        self.finish_step(&StepOutput::untrained())
    }

    /// Takes one step: batches, forward and backward, optimizer update.
    fn step(&mut self) -> Result<StepOutput, TrainError> {
        let engine = &mut self.engine;
        let (next, count) = (engine.clock.step + 1, self.settings.grad_accum_steps);
        let _span = tracing::debug_span!("step", step = next).entered();
        let began = Instant::now();
        let batches = engine.compute.fetch(engine.seed, next, count)?;
        let data = began.elapsed();

        let previous = engine.advance(&batches);
        engine.select_due(Some(&previous));
        let backward = engine.backward(batches, &previous)?;
        let loss = backward.loss.clone();
        let Updated { skipped, lrs } = self.update(backward, &previous)?;
        self.compare_replicas(&previous)?;

        Ok(StepOutput {
            previous: Some(previous),
            loss: Some(loss),
            lrs,
            skipped,
            timing: self.engine.end_lap(data),
        })
    }
}

/// Returns the directory name of a checkpoint that the `checkpoint` cadence requests.
fn checkpoint_name(step: u64) -> String {
    format!("step_{step:08}")
}
