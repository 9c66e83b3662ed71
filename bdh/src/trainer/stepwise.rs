//! A run that advances step by step, for loops of your own. [`Trainer::fit`] is its plain case.

use super::Trainer;
use super::engine::StepOutput;
use crate::clock::Clock;
use crate::context::Context;
use crate::deferred::Deferred;
use crate::error::TrainError;
use crate::failure::BoxError;
use crate::outcome::{Outcome, StopReason, TrainResult};
use crate::record::Logged;
use crate::task::Task;
use crate::turn;
use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

/// A run in progress, returned by [`Trainer::start`]: you call [`step`](Self::step), and between two steps you have the
/// model, the data and the task.
///
/// Hooks, records, checkpoints and resume work as in [`Trainer::fit`]. A run that is dropped ends as stopped.
///
/// # Examples
///
/// ```
/// let trainer = bdh::testing::tiny_run(20).build()?;
/// let mut run = trainer.start()?;
/// while let Some(step) = run.step()? {
///     if step.loss.read()? < 0.5 {
///         run.stop("the loss is low enough");
///     }
/// }
/// let result = run.finish()?;
/// # let _ = result.model;
/// # Ok::<(), bdh::BoxError>(())
/// ```
#[must_use = "a run does nothing until `step` is called"]
pub struct Run<T: Task> {
    /// `None` after an error, which has ended the run.
    trainer: Option<Trainer<T>>,
    /// The way in which the run ended, once it has.
    outcome: Option<Outcome>,
    /// The clock before the last step; `None` in a new run without a step that starts at step 0.
    previous: Option<Clock>,
    /// Whether the run was complete before it was started; then nothing is opened, and nothing is closed.
    was_complete: bool,
    span: tracing::Span,
}

/// A completed step of a [`Run`].
#[derive(Debug, Clone)]
pub struct Step {
    /// Number of the step; 1 is the first.
    pub number: u64,
    /// Mean loss. Known if the step recorded it (see [`log`](crate::TrainerBuilder::log)), otherwise still on the
    /// device.
    pub loss: Deferred,
    /// Name and learning rate of each group.
    pub lrs: Vec<(String, f64)>,
    /// Whether an intervention skipped the update.
    pub skipped: bool,
}

impl<T: Task> fmt::Debug for Run<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run")
            .field("trainer", &self.trainer)
            .field("outcome", &self.outcome)
            .finish_non_exhaustive()
    }
}

/// Guarantee behind the panics of the accessors: they are documented to panic after an error.
const HAS_ENDED: &str = "the run has ended with an error, which `step` returned";

impl<T: Task> Run<T> {
    /// Begins the run: run directory, sinks, `on_fit_start`, and step 0 of an untrained model.
    pub(super) fn begin(trainer: Trainer<T>) -> Result<Self, TrainError> {
        let (span, clock) = (trainer.engine.span(), trainer.engine.clock);
        let was_complete = trainer.was_complete();
        let previous = match trainer.engine.io.info.resumed_at {
            Some(_) => Some(clock), // no cadence is due before the next step
            None => trainer.eval_pending_since,
        };
        let mut run = Self {
            trainer: Some(trainer),
            outcome: None,
            previous,
            was_complete,
            span,
        };
        if was_complete {
            run.report_complete();
            return Ok(run);
        }
        run.open()?;
        let stop = run.call(Trainer::begin)?;
        run.end_if(stop);
        Ok(run)
    }

    /// Reports a complete run that is started again. Its files stay as they are.
    fn report_complete(&mut self) {
        let _span = self.span.enter();
        self.outcome = Some(Outcome::Completed);
        if let Some(trainer) = &mut self.trainer {
            let step = trainer.engine.clock.step;
            trainer.engine.io.report_complete(step);
        }
    }

    /// Opens the run directory and the sinks.
    fn open(&mut self) -> Result<(), TrainError> {
        let _span = self.span.enter();
        // Taken out meanwhile: a run that cannot be opened, or whose sink panics, never began, so nothing is closed.
        if let Some(mut trainer) = self.trainer.take() {
            trainer.engine.open()?;
            self.trainer = Some(trainer);
        }
        Ok(())
    }

    /// Takes the next step: batches from the training data, forward and backward, update, eval, checkpoint, record.
    ///
    /// Returns `None` if the run is over: all steps are taken, or a callback, a sink or a signal asked to stop.
    ///
    /// # Errors
    ///
    /// [`TrainError`], after callbacks and sinks have been notified. The run is over then.
    ///
    /// # Panics
    ///
    /// Resumes a panic of the task or the model, after notifying callbacks and sinks.
    pub fn step(&mut self) -> Result<Option<Step>, TrainError> {
        self.advance(None)
    }

    /// Takes the next step on these micro-batches instead of the training data's, such as those of a rollout.
    ///
    /// # Errors
    ///
    /// The errors of [`step`](Self::step); [`TrainError::Data`] if there is no micro-batch, or several devices cannot
    /// share them evenly.
    ///
    /// # Panics
    ///
    /// Resumes a panic of the task or the model, after notifying callbacks and sinks.
    pub fn step_on(&mut self, batches: Vec<T::Batch>) -> Result<Option<Step>, TrainError> {
        self.advance(Some(batches))
    }

    fn advance(&mut self, batches: Option<Vec<T::Batch>>) -> Result<Option<Step>, TrainError> {
        let Some(trainer) = &self.trainer else {
            return Ok(None);
        };
        if self.outcome.is_none() && trainer.is_over() {
            self.outcome = Some(Outcome::Completed);
        }
        if self.outcome.is_some() {
            return Ok(None);
        }
        let (output, stop) = self.call(|trainer| trainer.advance(batches))?;
        self.end_if(stop);
        let StepOutput {
            previous,
            loss,
            lrs,
            skipped,
            ..
        } = output;
        self.previous = previous;
        Ok(Some(Step {
            number: self.clock().step,
            loss: loss.unwrap_or_else(|| f64::NAN.into()),
            lrs,
            skipped,
        }))
    }

    fn end_if(&mut self, stop: Option<StopReason>) {
        if let Some(reason) = stop {
            self.outcome = Some(Outcome::Stopped(reason));
        }
    }

    /// Calls the trainer. An error or a panic ends the run, which is closed.
    fn call<R>(
        &mut self,
        part: impl FnOnce(&mut Trainer<T>) -> Result<R, TrainError>,
    ) -> Result<R, TrainError> {
        turn::wait(); // a run that `resume_exact` checks has the random numbers of the CPU to itself
        let trainer = self.trainer.as_mut().expect(HAS_ENDED);
        let span = self.span.clone().entered();
        let failed = match catch_unwind(AssertUnwindSafe(|| part(trainer))) {
            Ok(Ok(result)) => return Ok(result),
            Ok(Err(error)) => Ok(Err(error)),
            Err(panic) => Err(panic),
        };
        drop(span);
        match self.close(failed) {
            Err(error) => Err(error),
            Ok(_) => Err(TrainError::Ended), // not reached: a failed run has no result
        }
    }

    fn close(
        &mut self,
        ended: thread::Result<Result<Outcome, TrainError>>,
    ) -> Result<TrainResult<T::Model>, TrainError> {
        let _span = self.span.enter();
        match self.trainer.take() {
            Some(trainer) if self.was_complete => {
                Ok(trainer.engine.into_result(Outcome::Completed))
            }
            Some(trainer) => trainer.engine.close(ended),
            None => Err(TrainError::Ended),
        }
    }

    /// Asks the run to stop: [`step`](Self::step) then returns `None`.
    pub fn stop(&mut self, why: impl Into<String>) {
        self.outcome.get_or_insert(stopped(why));
    }

    /// Ends the run: waits for checkpoints and sinks, calls `on_fit_end`, and returns the model.
    ///
    /// A run whose steps are not all taken ends as stopped by the program.
    ///
    /// # Errors
    ///
    /// [`TrainError::Unsaved`] if the last checkpoint could not be written, [`TrainError::Ended`] after an error of
    /// [`step`](Self::step), or any error of the end of a run.
    pub fn finish(mut self) -> Result<TrainResult<T::Model>, TrainError> {
        let outcome = self.take_outcome("it finished the run before its last step");
        self.close(Ok(Ok(outcome)))
    }

    /// Takes the outcome. A run whose steps are not all taken is stopped by the program, for this reason.
    fn take_outcome(&mut self, why: &str) -> Outcome {
        if let Some(outcome) = self.outcome.take() {
            return outcome;
        }
        match &self.trainer {
            Some(trainer) if trainer.is_over() => Outcome::Completed,
            _ => stopped(why),
        }
    }

    fn trainer(&self) -> &Trainer<T> {
        self.trainer.as_ref().expect(HAS_ENDED)
    }

    /// Returns the model as the last step left it.
    ///
    /// # Panics
    ///
    /// If the run has ended with an error; so do the other methods that return a part of the run.
    #[must_use]
    pub fn model(&self) -> &T::Model {
        &self.trainer().engine.compute.model
    }

    /// Returns the task.
    ///
    /// # Panics
    ///
    /// If the run has ended with an error.
    #[must_use]
    pub fn task(&self) -> &T {
        &self.trainer().engine.compute.task
    }

    /// Returns the training data, if its type is `D`.
    ///
    /// # Panics
    ///
    /// If the run has ended with an error.
    pub fn data<D: Any>(&mut self) -> Option<&mut D> {
        self.model_and_data().map(|(_, data)| data)
    }

    /// Returns the model and the training data, if its type is `D`: for data that depends on the model.
    ///
    /// # Panics
    ///
    /// If the run has ended with an error.
    pub fn model_and_data<D: Any>(&mut self) -> Option<(&T::Model, &mut D)> {
        let trainer = self.trainer.as_mut().expect(HAS_ENDED);
        let compute = &mut trainer.engine.compute;
        let data: &mut dyn Any = &mut *compute.data;
        Some((&compute.model, data.downcast_mut()?))
    }

    /// Returns the work that is completed.
    ///
    /// # Panics
    ///
    /// If the run has ended with an error.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.trainer().engine.clock
    }

    /// Returns the context that hooks get too: its files and seeds, and the cadences that are due on the last step.
    ///
    /// # Panics
    ///
    /// If the run has ended with an error.
    #[must_use]
    pub fn ctx(&self) -> Context<'_> {
        self.trainer().engine.ctx(self.previous.as_ref())
    }

    /// Records a value with the next step, under a key such as `rollout/reward`. Costs no device read of its own.
    ///
    /// # Panics
    ///
    /// If the run has ended with an error.
    pub fn log(&self, key: impl Into<String>, value: impl Into<Logged>) {
        self.trainer()
            .engine
            .observers
            .log
            .log(key.into(), value.into());
    }

    /// Evaluates every eval set now. Nothing is recorded, and no hook is called. Costs one device read for each set.
    ///
    /// # Errors
    ///
    /// If an eval set cannot be read, a metric cannot be computed, or the device failed. The run continues.
    ///
    /// # Panics
    ///
    /// If the run has ended with an error.
    pub fn evaluate(&self) -> Result<Vec<(String, f64)>, BoxError> {
        self.trainer().evaluate()
    }
}

/// Returns the outcome of a run that the program stops.
fn stopped(why: impl Into<String>) -> Outcome {
    let (by, why) = ("program".to_owned(), why.into());
    Outcome::Stopped(StopReason::Asked { by, why })
}

/// Ends a run that was neither finished nor ended by an error, such as one left by `?`.
impl<T: Task> Drop for Run<T> {
    fn drop(&mut self) {
        let Some(trainer) = &self.trainer else {
            return;
        };
        let step = trainer.engine.clock.step;
        let ended = if thread::panicking() {
            let text = "the program panicked between two steps".to_owned();
            Err(TrainError::Panic { step, text })
        } else {
            Ok(self.take_outcome("it dropped the run before its end"))
        };
        let _ = self.close(Ok(ended)); // a drop returns no error; sinks and `run.json` have it
    }
}
