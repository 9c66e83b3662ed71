//! The loop, from top to bottom.

mod builder;
mod callbacks;
mod compute;
mod engine;
mod model_slot;
mod observers;
mod replay;
mod resume;
mod run_io;
mod save;
mod settle;
mod update;

pub use builder::TrainerBuilder;
pub use replay::{Replay, ReplayBuilder};
pub use resume::Resume;

use crate::error::TrainError;
use crate::event::Timing;
use crate::intervention::Intervention;
use crate::outcome::{Fitted, Outcome};
use crate::plan::Plan;
use crate::task::Task;
use builder::Settings;
use engine::{Engine, StepOutput};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;
use update::Updated;

/// Trains a model on a task, step by step, and tells callbacks and sinks about it.
///
/// # Examples
///
/// ```
/// use bdh::burn::{nn::{Linear, LinearConfig}, optim::AdamWConfig, tensor::Tensor};
/// use bdh::{BatchSize, BoxError, MemorySink, Probe, Task, Trainer, warmup_cosine};
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

impl<T: Task> Trainer<T> {
    /// Begins the composition of a run: what is trained, and on what.
    pub fn builder(task: T, model: T::Model) -> TrainerBuilder<T> {
        TrainerBuilder::new(task, model)
    }

    /// What will fire when, what is recorded, and which files will exist.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.engine.plan
    }

    /// Runs the loop to its end.
    ///
    /// # Errors
    ///
    /// [`TrainError`], after every callback and sink has been told. A failing observer or sink is not an
    /// error of the run: it is in [`Fitted::problems`]. With an error the model is not returned, also where all steps were
    /// taken and only the last checkpoint could not be written ([`TrainError::Unsaved`]).
    ///
    /// # Panics
    ///
    /// If the task or the model panics; callbacks and sinks are notified first.
    pub fn fit(mut self) -> Result<Fitted<T::Model>, TrainError> {
        self.engine.open()?;
        let ended = catch_unwind(AssertUnwindSafe(|| self.run()));
        self.engine.close(ended)
    }

    fn run(&mut self) -> Result<Outcome, TrainError> {
        self.engine.on_fit_start()?;
        if self.engine.clock.step == 0 && self.engine.io.info.resumed_at.is_none() {
            self.engine.select_due(None);
            if let Some(reason) = self.settle(&StepOutput::untrained())? {
                return Ok(Outcome::Stopped(reason));
            }
        }
        self.engine.laps.lap();
        while self.engine.clock.step < self.settings.steps {
            self.engine.io.look_at_dir(self.engine.clock.step)?;
            let done = self.step()?; // ends with the parameters moved
            self.log_own(&done);
            self.engine.on_step(&done)?;
            if let Some(reason) = self.settle(&done)? {
                return Ok(Outcome::Stopped(reason));
            }
        }
        Ok(Outcome::Completed)
    }

    /// Batches, forward and backward, optimizer: one update of the parameters.
    fn step(&mut self) -> Result<StepOutput, TrainError> {
        let engine = &mut self.engine;
        let (next, count) = (engine.clock.step + 1, self.settings.grad_accum_steps);
        let began = Instant::now();
        let batches = engine.compute.fetch(engine.seed, next, count)?;
        let data = began.elapsed();

        let previous = engine.advance(&batches);
        engine.select_due(Some(&previous));
        let backward = engine.backward(batches, &previous)?;
        let loss = backward.loss.clone();
        let Updated { skipped, lrs } = self.update(backward, &previous)?;
        self.compare_replicas(&previous)?;

        let Engine {
            compute,
            observers,
            laps,
            ..
        } = &mut self.engine;
        let timing = Timing {
            step: laps.lap(),
            data,
        };
        observers.overhead.reads += compute.replicas.take_reads();
        observers.overhead.steps += timing.step;
        observers.overhead.num_steps += 1;
        laps.data += timing.data;
        Ok(StepOutput {
            previous: Some(previous),
            loss: Some(loss),
            lrs,
            skipped,
            timing,
        })
    }
}

/// The directory name of a checkpoint that the `checkpoint` cadence asks for.
fn checkpoint_name(step: u64) -> String {
    format!("step_{step:08}")
}
