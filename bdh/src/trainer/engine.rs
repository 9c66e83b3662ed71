//! The engine of a run: computation, observers and files, and the hooks that connect them. [`Trainer`](super::Trainer)
//! and [`Replay`](super::Replay) are built on it.

mod eval;
mod gradients;

pub(super) use gradients::Backward;

use super::compute::Compute;
use super::observers::Observers;
use super::run_io::RunIo;
use crate::clock::Clock;
use crate::context::Context;
use crate::deferred::Deferred;
use crate::device_read::DeviceError;
use crate::error::{ConfigError, TrainError};
use crate::event::{FitEnd, FitStart, StepEnd, Timing};
use crate::failure::{panic_text, with_causes};
use crate::hook::Hook;
use crate::outcome::{Outcome, TrainResult};
use crate::params;
use crate::plan::Plan;
use crate::record::Record;
use crate::stats::Stats;
use crate::step_log::Flushed;
use crate::task::{BatchSize, Task};
use std::panic::resume_unwind;
use std::thread;
use std::time::{Duration, Instant};

pub(super) struct Engine<T: Task> {
    pub(super) compute: Compute<T>,
    pub(super) observers: Observers,
    pub(super) io: RunIo,
    pub(super) plan: Plan,
    pub(super) clock: Clock,
    /// Training time before the resume; zero in a new run.
    pub(super) elapsed_before: Duration,
    pub(super) seed: u64,
    pub(super) laps: Laps,
    pub(super) flops_per_token: Option<f64>,
    has_warned_of_reserved: bool,
}

/// Wall-clock time of the run, and the part of it that belongs to steps.
#[derive(Default)]
pub(super) struct Laps {
    run_began: Option<Instant>,
    /// When the last step ended.
    lap_began: Option<Instant>,
    /// Time since the last step that belongs to no step: evals and checkpoints.
    pub(super) away: Duration,
    /// Total time spent waiting for data.
    pub(super) data: Duration,
}

impl Laps {
    /// Starts a new lap. Returns the time of the last one, without evals and checkpoints.
    ///
    /// Laps run from the end of one step to the end of the next: the wait for the device comes after a step, in the
    /// read of its logged values, and would otherwise be attributed to no step.
    pub(super) fn lap(&mut self) -> Duration {
        let now = Instant::now();
        let away = std::mem::take(&mut self.away);
        match self.lap_began.replace(now) {
            Some(began) => (now - began).saturating_sub(away),
            None => Duration::ZERO,
        }
    }

    /// Returns the wall-clock time of the run so far.
    fn total(&self) -> Duration {
        match self.run_began {
            Some(began) => began.elapsed(),
            None => Duration::ZERO,
        }
    }
}

/// The result of one step, for everything that follows it.
pub(super) struct StepOutput {
    /// The clock before the step; `None` for the untrained model, which no step precedes.
    pub(super) previous: Option<Clock>,
    pub(super) loss: Option<Deferred>,
    pub(super) lrs: Vec<(String, f64)>,
    /// Numbers that the task logged with the loss, by key.
    pub(super) logged: Vec<(String, Deferred)>,
    pub(super) skipped: bool,
    pub(super) timing: Timing,
}

impl StepOutput {
    /// Returns the output before the first step.
    pub(super) fn untrained() -> Self {
        Self {
            previous: None,
            loss: None,
            lrs: Vec::new(),
            logged: Vec::new(),
            skipped: false,
            timing: Timing::default(),
        }
    }
}

impl<T: Task> Engine<T> {
    pub(super) fn new(
        compute: Compute<T>,
        observers: Observers,
        io: RunIo,
        plan: Plan,
        seed: u64,
    ) -> Self {
        let clock = Clock {
            batches_per_epoch: compute.data.batches_per_epoch().unwrap_or(0),
            ..Clock::default()
        };
        Self {
            compute,
            observers,
            io,
            plan,
            clock,
            elapsed_before: Duration::ZERO,
            seed,
            laps: Laps::default(),
            flops_per_token: None,
            has_warned_of_reserved: false,
        }
    }

    /// Returns the context of a hook; `previous` is the clock before the step under way.
    pub(super) fn ctx<'a>(&'a self, previous: Option<&'a Clock>) -> Context<'a> {
        Context {
            clock: &self.clock,
            previous,
            length: self.plan.length,
            all_due: self.observers.all_due,
            seed: self.seed,
            device: &self.compute.device,
            num_devices: self.compute.devices.len().max(1),
            run_dir: self.io.info.dir.as_deref(),
            step_log: &self.observers.log,
            model: &*self.compute.model,
            text: self.compute.as_text(),
        }
    }

    /// Selects the callbacks that are due on the current step.
    pub(super) fn select_due(&mut self, previous: Option<&Clock>) {
        self.observers
            .select_due(previous, &self.clock, self.plan.length);
    }

    /// Opens the run: run directory, replicas, sinks, signals.
    pub(super) fn open(&mut self) -> Result<(), ConfigError> {
        self.laps.run_began = Some(Instant::now());
        self.io
            .open(&self.plan.notes, || self.compute.start_replicas())
    }

    pub(super) fn on_fit_start(&mut self) -> Result<(), TrainError> {
        let ctx = self.ctx(None);
        let resumed = self.io.info.resumed_at.is_some();
        let (plan, params) = (&self.plan, &*self.compute.table);
        self.observers.fire(&FitStart {
            ctx,
            plan,
            params,
            resumed,
        })
    }

    /// Returns the `tracing` span of the whole run.
    pub(super) fn span(&self) -> tracing::Span {
        let (name, steps) = (&self.io.info.name, self.plan.length.steps()); // absent if limited by time
        tracing::info_span!("run", name, steps, seed = self.seed)
    }

    pub(super) fn on_step(&self, output: &StepOutput) -> Result<(), TrainError> {
        let (Some(loss), true) = (&output.loss, self.observers.want(Hook::OnStep)) else {
            return Ok(());
        };
        let weights = Stats::new(&self.compute.table, || {
            params::weights(&*self.compute.model)
        });
        self.observers.fire(&StepEnd {
            ctx: self.ctx(output.previous.as_ref()),
            loss,
            weights: &weights,
            skipped: output.skipped,
            timing: output.timing,
            timing_total: Timing {
                step: self.observers.overhead.steps,
                data: self.laps.data,
            },
            flops_per_token: self.flops_per_token,
        })
    }

    /// Asks the task for the operations per token, on the first batch of the run.
    pub(super) fn count_flops(&mut self, batches: &[(T::Batch, BatchSize)]) {
        if let (0, Some((batch, _))) = (self.observers.overhead.num_steps, batches.first()) {
            let Compute { task, model, .. } = &self.compute;
            self.flops_per_token = task.flops_per_token(model, batch);
        }
    }

    /// Ends the lap of a step, and counts its time and device reads.
    pub(super) fn end_lap(&mut self, data: Duration) -> Timing {
        let step = self.laps.lap();
        self.laps.data += data;
        let overhead = &mut self.observers.overhead;
        overhead.reads += self.compute.replicas.take_reads();
        overhead.steps += step;
        overhead.num_steps += 1;
        Timing { step, data }
    }

    /// Sends the step's record and notices to the sinks. One device read fetches all logged values.
    pub(super) fn record(&mut self) -> Result<(), TrainError> {
        let Flushed { values, notices } = self.flush()?;
        if !values.is_empty() {
            self.io.write(Record {
                clock: self.clock,
                values,
            });
        }
        for text in notices {
            self.io.notice(text());
        }
        Ok(())
    }

    fn flush(&self) -> Result<Flushed, TrainError> {
        self.observers
            .log
            .flush()
            .map_err(|error| self.device_failed(error))
    }

    /// Returns the error of a device that failed in the current step.
    pub(super) fn device_failed(&self, error: DeviceError) -> TrainError {
        TrainError::Device {
            step: self.clock.step,
            reason: error.reason,
        }
    }

    /// Reports failures of callbacks to the sinks and in the result.
    pub(super) fn report_warnings(&mut self) {
        for warning in self.observers.take_warnings() {
            self.io.warn(warning);
        }
    }

    /// Ends the run: calls `on_fit_end`, writes `run.json`, waits for the sinks.
    ///
    /// # Panics
    ///
    /// Resumes the panic that ended the loop, after notifying callbacks and sinks.
    pub(super) fn close(
        self,
        ended: thread::Result<Result<Outcome, TrainError>>,
    ) -> Result<TrainResult<T::Model>, TrainError> {
        match ended {
            Ok(ended) => self.finish(ended),
            Err(panic) => {
                let (text, step) = (panic_text(&*panic), self.clock.step);
                let _ = self.finish(Err(TrainError::Panic { step, text })); // the caller gets the panic itself
                resume_unwind(panic)
            }
        }
    }

    fn finish(
        mut self,
        ended: Result<Outcome, TrainError>,
    ) -> Result<TrainResult<T::Model>, TrainError> {
        self.observers.overhead.total = self.laps.total();
        let ended = self.end(ended);
        let outcome = outcome_of(&ended);
        let step = self.clock.step;
        let overhead = self.observers.overhead();
        self.io.close(&outcome, step, &overhead);
        first_error(ended, self.io.check_dir(step))?;
        self.observers.overhead = overhead;
        Ok(self.into_result(outcome))
    }

    /// Returns the result of a run that is closed, or that was complete before it was started.
    pub(super) fn into_result(self, outcome: Outcome) -> TrainResult<T::Model> {
        let best_checkpoint = self.observers.log.best_checkpoint.take();
        let (last, warnings) = self.io.into_result();
        TrainResult {
            model: self.compute.model.into_inner(),
            outcome,
            last,
            best_checkpoint,
            overhead: self.observers.overhead,
            warnings,
        }
    }

    /// Ends replicas, checkpoints and callbacks. Returns the outcome, or the first error.
    fn end(&mut self, mut ended: Result<Outcome, TrainError>) -> Result<Outcome, TrainError> {
        self.compute.stop_replicas();
        // Values logged by the failing step; its own error is the one to return. A step that failed before it began
        // leaves the clock at the step before, whose record is written.
        if ended.is_err() && !self.io.has_recorded(self.clock.step) {
            let _ = self.record();
        }
        self.io.wait_for_saver();
        // All of these run even after a failure.
        ended = first_error(ended, self.io.check_dir(self.clock.step));
        ended = first_error(ended, self.io.take_unsaved());
        let called = self.on_fit_end(&outcome_of(&ended));
        self.report_warnings();
        first_error(ended, called)
    }

    /// Calls `on_fit_end`. Values logged there join the last record in [`TrainResult::last`] and in `run.json`; the
    /// sinks have received that record already.
    fn on_fit_end(&mut self, outcome: &Outcome) -> Result<(), TrainError> {
        // A panic in the optimizer loses the model, so there is no model to show.
        if self.compute.model.get().is_none() {
            return Ok(());
        }
        self.observers.fire(&FitEnd {
            ctx: self.ctx(None),
            outcome,
        })?;
        let Flushed { values, notices } = self.flush()?;
        for text in notices {
            self.io.notice(text());
        }
        self.io.add_to_last(values);
        Ok(())
    }
}

/// Adds the result of a later part of a run to its outcome.
fn first_error(
    ended: Result<Outcome, TrainError>,
    later: Result<(), TrainError>,
) -> Result<Outcome, TrainError> {
    let outcome = ended?;
    later?;
    Ok(outcome)
}

fn outcome_of(ended: &Result<Outcome, TrainError>) -> Outcome {
    match ended {
        Ok(outcome) => outcome.clone(),
        Err(error) => Outcome::Failed(with_causes(error)),
    }
}
