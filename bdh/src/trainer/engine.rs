//! The three parts of a run, and the hooks in which they meet. A trainer and a replay are both made of it.

mod eval;
mod gradients;

pub(super) use gradients::Backward;

use super::compute::Compute;
use super::observers::Observers;
use super::run_io::RunIo;
use crate::clock::Clock;
use crate::context::Cx;
use crate::deferred::Deferred;
use crate::error::{ConfigError, TrainError};
use crate::event::{FitEnd, FitStart, StepEnd, Timing};
use crate::failure::{panic_text, with_causes};
use crate::hook::Hook;
use crate::outcome::{Fitted, Outcome};
use crate::params;
use crate::plan::Plan;
use crate::record::Record;
use crate::stats::Stats;
use crate::step_log::Flushed;
use crate::task::Task;
use std::panic::resume_unwind;
use std::thread;
use std::time::{Duration, Instant};

pub(super) struct Engine<T: Task> {
    pub(super) compute: Compute<T>,
    pub(super) observers: Observers,
    pub(super) io: RunIo,
    pub(super) plan: Plan,
    pub(super) clock: Clock,
    /// Training time of the run that this one continues.
    pub(super) elapsed_before: Duration,
    pub(super) seed: u64,
    pub(super) laps: Laps,
    flops_per_token: Option<f64>,
}

/// The wall time of the run, and which of it belongs to steps.
#[derive(Default)]
pub(super) struct Laps {
    run_began: Option<Instant>,
    /// When the last step ended.
    lap_began: Option<Instant>,
    /// Time since then that belongs to no step: evals and checkpoints.
    pub(super) away: Duration,
    /// Waiting for data so far.
    pub(super) data: Duration,
}

impl Laps {
    /// The time since the last lap, and the beginning of a new one.
    ///
    /// From one step's end to the next: the wait for the device comes after a step, in the read of its logged values,
    /// and would otherwise be attributed to no step.
    pub(super) fn lap(&mut self) -> Duration {
        let now = Instant::now();
        let since = self
            .lap_began
            .replace(now)
            .map_or(Duration::ZERO, |began| now - began);
        since.saturating_sub(std::mem::take(&mut self.away))
    }
}

/// The result of one step, for everything that follows it.
pub(super) struct StepOutput {
    /// The clock before the step; `None` for the untrained model, which no step precedes.
    pub(super) previous: Option<Clock>,
    pub(super) loss: Option<Deferred>,
    pub(super) lrs: Vec<(String, f64)>,
    pub(super) skipped: bool,
    pub(super) timing: Timing,
}

impl StepOutput {
    /// The output of no step, before the first.
    pub(super) fn untrained() -> Self {
        Self {
            previous: None,
            loss: None,
            lrs: Vec::new(),
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
        Self {
            compute,
            observers,
            io,
            plan,
            clock: Clock::default(),
            elapsed_before: Duration::ZERO,
            seed,
            laps: Laps::default(),
            flops_per_token: None,
        }
    }

    /// The context of a hook; `previous` is the clock before the step under way.
    pub(super) fn cx<'a>(&'a self, previous: Option<&'a Clock>) -> Cx<'a> {
        Cx {
            clock: &self.clock,
            previous,
            steps: self.plan.steps,
            all_due: self.observers.all_due,
            seed: self.seed,
            device: &self.compute.device,
            num_devices: self.compute.devices.len().max(1),
            run_dir: self.io.info.dir.as_deref(),
            step_log: &self.observers.log,
            model: &*self.compute.model,
            text: &self.compute,
        }
    }

    /// Decides which callbacks are due on the step that the clock shows.
    pub(super) fn select_due(&mut self, previous: Option<&Clock>) {
        self.observers
            .select_due(previous, &self.clock, self.plan.steps);
    }

    /// Begins the run: run directory, replicas, sinks, signals.
    pub(super) fn open(&mut self) -> Result<(), ConfigError> {
        self.laps.run_began = Some(Instant::now());
        self.io
            .open(&self.plan.notes, || self.compute.start_replicas())
    }

    pub(super) fn on_fit_start(&mut self) -> Result<(), TrainError> {
        self.flops_per_token = self.compute.task.flops_per_token(&self.compute.model);
        let cx = self.cx(None);
        let resumed = self.io.info.resumed_at.is_some();
        let (plan, params) = (&self.plan, &*self.compute.table);
        self.observers.fire(&FitStart {
            cx,
            plan,
            params,
            resumed,
        })
    }

    pub(super) fn on_step(&self, done: &StepOutput) -> Result<(), TrainError> {
        let (Some(loss), true) = (&done.loss, self.observers.want(Hook::OnStep)) else {
            return Ok(());
        };
        let weights = Stats::new(&self.compute.table, || {
            params::weights(&*self.compute.model)
        });
        self.observers.fire(&StepEnd {
            cx: self.cx(done.previous.as_ref()),
            loss,
            weights: &weights,
            skipped: done.skipped,
            timing: done.timing,
            timing_total: Timing {
                step: self.observers.overhead.steps,
                data: self.laps.data,
            },
            flops_per_token: self.flops_per_token,
        })
    }

    /// Sends the step's record to the sinks: all values that were logged, read together, and the lines.
    pub(super) fn record(&mut self) -> Result<(), TrainError> {
        let Flushed { values, lines } = self.flush()?;
        if !values.is_empty() {
            self.io.write(Record {
                clock: self.clock,
                values,
            });
        }
        self.io.remark(lines);
        Ok(())
    }

    fn flush(&self) -> Result<Flushed, TrainError> {
        self.observers
            .log
            .flush()
            .map_err(|reason| self.device_failed(reason))
    }

    /// The error for a device that failed in the step under way.
    pub(super) fn device_failed(&self, reason: String) -> TrainError {
        TrainError::Device {
            step: self.clock.step,
            reason,
        }
    }

    /// Reports failures of callbacks, to the sinks and in the outcome.
    pub(super) fn report_problems(&mut self) {
        for problem in self.observers.take_problems() {
            self.io.tell(problem);
        }
    }

    /// Ends the run: calls `on_fit_end`, writes `run.json`, waits for the sinks.
    ///
    /// # Panics
    ///
    /// With the panic that ended the loop, after callbacks and sinks have been notified.
    pub(super) fn close(
        self,
        ended: thread::Result<Result<Outcome, TrainError>>,
    ) -> Result<Fitted<T::Model>, TrainError> {
        match ended {
            Ok(ended) => self.finish(ended),
            Err(panic) => {
                let (text, step) = (panic_text(&*panic), self.clock.step);
                let _ = self.finish(Err(TrainError::Panic { step, text })); // the panic says it all
                resume_unwind(panic)
            }
        }
    }

    fn finish(
        mut self,
        mut ended: Result<Outcome, TrainError>,
    ) -> Result<Fitted<T::Model>, TrainError> {
        let total = self
            .laps
            .run_began
            .map(|began| began.elapsed())
            .unwrap_or_default();
        self.compute.stop_replicas();
        if ended.is_err() {
            let _ = self.record(); // the values that the failing step had logged; it failed already
        }
        self.io.wait_for_saver();
        let step = self.clock.step;
        let is_there = self.io.check_dir(step);
        let unsaved = self.io.take_unsaved();
        ended = ended.and_then(|outcome| is_there.map(|()| outcome));
        ended = ended.and_then(|outcome| unsaved.map_or(Ok(outcome), Err));
        let called = self.on_fit_end(&outcome_of(&ended));
        ended = ended.and_then(|outcome| called.map(|()| outcome));
        self.report_problems();

        let outcome = outcome_of(&ended);
        self.observers.overhead.total = total;
        let overhead = self.observers.overhead();
        self.io.close(&outcome, step, &overhead);
        let is_there = self.io.check_dir(step);
        ended.and_then(|outcome| is_there.map(|()| outcome))?;
        let model = self.compute.model.into_inner();
        let (last, problems) = self.io.into_result();
        Ok(Fitted {
            model,
            outcome,
            last,
            overhead,
            problems,
        })
    }

    /// Values logged here join the last record in [`Fitted::last`] and in `run.json`; the sinks have theirs already.
    fn on_fit_end(&mut self, outcome: &Outcome) -> Result<(), TrainError> {
        // A panic of the optimizer takes the model along; then there is none to show.
        if self.compute.model.get().is_none() {
            return Ok(());
        }
        self.observers.fire(&FitEnd {
            cx: self.cx(None),
            outcome,
        })?;
        let Flushed { values, lines } = self.flush()?;
        self.io.remark(lines);
        self.io.add_to_last(values);
        Ok(())
    }
}

fn outcome_of(ended: &Result<Outcome, TrainError>) -> Outcome {
    match ended {
        Ok(outcome) => outcome.clone(),
        Err(error) => Outcome::Failed(with_causes(error)),
    }
}
