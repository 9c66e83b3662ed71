//! The training loop, from top to bottom.

mod builder;
mod callbacks;
mod compute;
mod engine;
mod eval_sets;
mod finish_step;
mod model_slot;
mod observers;
mod replay;
mod resume;
mod run_io;
mod save;
mod start;
mod stepwise;
mod update;

pub use builder::TrainerBuilder;
pub use replay::{Replay, ReplayBuilder};
pub use resume::Resume;
pub use stepwise::{Run, Step};

use crate::checkpoint;
use crate::clock::Clock;
use crate::error::TrainError;
use crate::failure::BoxError;
use crate::intervention::Intervention;
use crate::outcome::{StopReason, TrainResult};
use crate::plan::Plan;
use crate::run_dir;
use crate::task::Task;
use builder::Settings;
use burn::module::Module;
use burn::tensor::Device;
use engine::{Engine, StepOutput};
use std::fmt;
use std::time::Instant;
use update::Updated;

/// A training run of a model on a task, observed by callbacks and recorded by sinks.
///
/// # Examples
///
/// ```
/// use bdh::burn::{nn::{Linear, LinearConfig}, optim::AdamWConfig, tensor::Tensor};
/// use bdh::{BatchSize, LossContext, MemorySink, Task, Trainer};
/// use bdh::data::cycle;
/// use bdh::schedule::warmup_cosine;
/// # struct Halve;
/// # impl Task for Halve {
/// #     type Model = Linear;
/// #     type Batch = Vec<f32>;
/// #     fn size(&self, batch: &Vec<f32>) -> BatchSize { BatchSize::samples(batch.len()) }
/// #     fn loss(&self, model: &Linear, batch: &Vec<f32>, _: &LossContext<'_>) -> Tensor<1> {
/// #         let x = Tensor::<1>::from_floats(batch.as_slice(), &model.weight.device()).reshape([-1, 1]);
/// #         (model.forward(x.clone()) - x / 2.0).square().mean()
/// #     }
/// # }
///
/// let device = bdh::device("cpu")?;
/// let memory = MemorySink::default();
/// let trainer = Trainer::builder(Halve, LinearConfig::new(1, 1).init(&device))
///     .train_data(cycle(vec![vec![0.25, 0.5, 1.0]]))
///     .eval_data("val", vec![vec![0.75]])
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
    /// The clock before the step, while a checkpoint is written before the step's evals, after a resume from such a
    /// checkpoint, and in a run that starts at another program's step.
    eval_pending_since: Option<Clock>,
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

    /// Starts to configure a run whose model is made in [`build`](TrainerBuilder::build), with the run's
    /// [`seed`](TrainerBuilder::seed), so that runs of one seed begin with the same weights.
    ///
    /// # Examples
    ///
    /// ```
    /// # use bdh::burn::{nn::{Linear, LinearConfig}, tensor::Tensor};
    /// # use bdh::{BatchSize, LossContext, Task, Trainer};
    /// # struct Halve;
    /// # impl Task for Halve {
    /// #     type Model = Linear;
    /// #     type Batch = Vec<f32>;
    /// #     fn size(&self, batch: &Vec<f32>) -> BatchSize { BatchSize::samples(batch.len()) }
    /// #     fn loss(&self, model: &Linear, batch: &Vec<f32>, _: &LossContext<'_>) -> Tensor<1> {
    /// #         let x = Tensor::<1>::from_floats(batch.as_slice(), &model.weight.device()).reshape([-1, 1]);
    /// #         (model.forward(x.clone()) - x / 2.0).square().mean()
    /// #     }
    /// # }
    /// let device = bdh::device("cpu")?;
    /// let builder = Trainer::builder_with(Halve, &device, |device| LinearConfig::new(1, 1).init(device)).seed(7);
    /// # let _ = builder;
    /// # Ok::<(), bdh::BoxError>(())
    /// ```
    pub fn builder_with(
        task: T,
        device: &Device,
        make: impl FnOnce(&Device) -> T::Model + 'static,
    ) -> TrainerBuilder<T> {
        TrainerBuilder::with_model_on(task, device, make)
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
    pub fn fit(self) -> Result<TrainResult<T::Model>, TrainError> {
        let mut run = self.start()?;
        while run.step()?.is_some() {}
        run.finish()
    }

    /// Begins the run, for a loop of your own that takes its steps.
    ///
    /// # Errors
    ///
    /// [`TrainError`] if the run directory, a sink or a device cannot be opened, or a callback fails at the start.
    ///
    /// # Panics
    ///
    /// Resumes a panic of the task or the model in the eval of step 0.
    pub fn start(self) -> Result<Run<T>, TrainError> {
        Run::begin(self)
    }

    /// Evaluates every eval set, without training. Returns the metrics by key, such as `val/loss`.
    ///
    /// Nothing is recorded, and no hook is called. Costs one device read for each set.
    ///
    /// # Errors
    ///
    /// If an eval set cannot be read, a metric cannot be computed, or the device failed.
    pub fn evaluate(&self) -> Result<Vec<(String, f64)>, BoxError> {
        let compute = &self.engine.compute;
        let model = compute.model.valid();
        let mut metrics = Vec::new();
        for (index, set) in compute.eval_sets.iter().enumerate() {
            for (name, value) in compute.eval_set(index, &model)? {
                metrics.push((format!("{}/{name}", set.name), value));
            }
        }
        Ok(metrics)
    }

    /// Begins the loop. Returns the reason to stop before the first step, if there is one.
    fn begin(&mut self) -> Result<Option<StopReason>, TrainError> {
        self.engine.on_fit_start()?;
        let stop = match self.eval_pending_since.take() {
            Some(previous) => self.finish_resumed(previous)?,
            None => self.finish_untrained()?,
        };
        self.engine.laps.lap();
        Ok(stop)
    }

    /// Finishes the step of a checkpoint that was written before the step's evals, or of another program's run.
    fn finish_resumed(&mut self, previous: Clock) -> Result<Option<StopReason>, TrainError> {
        self.engine.select_due(Some(&previous));
        self.finish_saved_step(&StepOutput {
            previous: Some(previous),
            ..StepOutput::untrained()
        })
    }

    /// Whether the run was completed by an earlier process, which has also closed it.
    fn was_complete(&self) -> bool {
        let io = &self.engine.io;
        let Some(dir) = &io.info.dir else {
            return false;
        };
        let Some((from, _)) = &io.resumed_from else {
            return false;
        };
        let resumes_here = checkpoint::is_in(&dir.join(checkpoint::FOLDER), from);
        resumes_here && self.is_over() && run_dir::status(dir).as_deref() == Some("completed")
    }

    /// Whether all steps are taken.
    fn is_over(&self) -> bool {
        self.settings.length.is_reached(&self.engine.clock)
    }

    /// Takes one step, on the given micro-batches or the next ones of the training data, and everything that follows
    /// it. Returns the reason to stop, if there is one.
    fn advance(
        &mut self,
        batches: Option<Vec<T::Batch>>,
    ) -> Result<(StepOutput, Option<StopReason>), TrainError> {
        self.engine.io.poll_dir(self.engine.clock.step)?;
        let output = self.step(batches)?; // ends with the parameters updated
        self.log_own(&output);
        self.engine.on_step(&output)?;
        let stop = self.finish_step(&output)?;
        Ok((output, stop))
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
    fn step(&mut self, given: Option<Vec<T::Batch>>) -> Result<StepOutput, TrainError> {
        let engine = &mut self.engine;
        let (next, count) = (engine.clock.step + 1, self.settings.grad_accum_steps);
        let _span = tracing::debug_span!("step", step = next).entered();
        let began = Instant::now();
        let batches = match given {
            Some(given) => engine.compute.take_given(next, given)?,
            None => engine.compute.fetch(engine.seed, next, count)?,
        };
        let data = began.elapsed();

        engine.count_flops(&batches);
        let previous = engine.advance(&batches);
        engine.select_due(Some(&previous));
        let mut backward = engine.backward(batches, &previous)?;
        let (loss, logged) = (backward.loss.clone(), std::mem::take(&mut backward.logged));
        let logged = engine.keys_of_logged(logged); // before the hooks that could log the same keys
        let Updated { skipped, lrs } = self.update(backward, &previous)?;
        self.compare_replicas(&previous)?;

        Ok(StepOutput {
            previous: Some(previous),
            loss: Some(loss),
            lrs,
            logged,
            skipped,
            timing: self.engine.end_lap(data),
        })
    }
}

/// Returns the directory name of a checkpoint that the `checkpoint` cadence requests.
fn checkpoint_name(step: u64) -> String {
    format!("step_{step:08}")
}
