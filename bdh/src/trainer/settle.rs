//! Between two steps: eval, requests, checkpoints, and the one record.

use super::{Done, MODEL_IS_IN, Trainer, checkpoint_name};
use crate::cadence::Cadence;
use crate::checkpoint::CheckpointRequest;
use crate::deferred;
use crate::error::TrainError;
use crate::event::{Bus, Cx, EvalBatch, EvalEnd, EvalReport, StepEnd, Timing};
use crate::hook::Hook;
use crate::outcome::{Problem, StopReason};
use crate::params;
use crate::record::{Logged, Record, Value};
use crate::signal::SignalWatch;
use crate::stats::Stats;
use crate::task::{Task, Totals};
use burn::module::Module;
use burn::tensor::Tensor;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

impl Done {
    /// What there is to settle before the first step.
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

impl<T: Task> Trainer<T> {
    pub(super) fn on_step(&mut self, done: &Done) -> Result<(), TrainError> {
        let (Some(loss), true) = (&done.loss, self.callbacks.want(Hook::OnStep)) else {
            return Ok(());
        };
        let model = self.model.as_ref().expect(MODEL_IS_IN);
        let cx = cx!(self, &self.clock, done.previous.as_ref(), model);
        let flops_per_token = self.progress.flops_per_token;
        let (skipped, timing) = (done.skipped, done.timing);
        let timing_total = Timing { step: self.progress.overhead.steps, data: self.progress.data };
        let weights = Stats::new(&self.table, || params::weights(model));
        let weights = &weights;
        let event = StepEnd { cx, loss, weights, skipped, timing, timing_total, flops_per_token };
        self.callbacks.fire(&event)
    }

    /// Evaluates, heeds requests, saves, and records. Tells why the run is to stop, if it is.
    pub(super) fn settle(&mut self, done: &Done) -> Result<Option<StopReason>, TrainError> {
        let asked_to_evaluate = self.bus.requests.borrow().evaluate;
        if asked_to_evaluate || self.is_due(&self.settings.eval, done) {
            let began = Instant::now();
            self.eval(done)?;
            self.progress.away += began.elapsed();
        }
        let signalled = self.progress.signals.as_ref().is_some_and(SignalWatch::asked);
        let mut requests = std::mem::take(&mut *self.bus.requests.borrow_mut());
        let from_outside = signalled || self.progress.writers.stop.is_some();
        if self.is_due(&self.settings.checkpoint, done) || (from_outside && self.info.dir.is_some())
        {
            let name = checkpoint_name(self.clock.step);
            let own = CheckpointRequest { name, pinned: false };
            requests.ask_for_checkpoint("checkpoint".to_owned(), own);
        }
        let stop = match requests.stop {
            Some((by, why)) => Some(StopReason::Asked { by, why }),
            None if signalled => Some(StopReason::Signal),
            None => self.progress.writers.stop.take(),
        };
        if !requests.checkpoints.is_empty() {
            let began = Instant::now();
            self.save(done, requests.checkpoints)?;
            self.progress.away += began.elapsed();
        }
        // After the checkpoint, whose record is that of a run which goes on: a resume takes these values back.
        let is_extra = stop.is_some() && !self.is_due(&self.settings.record, done);
        if is_extra && self.settings.log != Cadence::Never {
            self.log_values(done);
        }
        if self.progress.saver.is_done() {
            self.wait_for_saver();
        }
        self.record()?;
        self.progress.writers.hear(&mut self.progress.problems); // also where nothing was recorded
        self.hear_problems();
        Ok(stop)
    }

    /// Logs the trainer's own keys, on the steps of the `log` cadence and on the last.
    pub(super) fn log_own(&mut self, done: &Done) {
        if self.is_due(&self.settings.record, done) {
            self.log_values(done);
        }
    }

    fn log_values(&mut self, done: &Done) {
        let Some(loss) = &done.loss else { return };
        let mut own = vec![("train/loss".to_owned(), Logged::from(loss.clone()))];
        if let Some((_, lr)) = done.lrs.first() {
            own.push(("lr".to_owned(), Logged::from(*lr)));
        }
        if done.lrs.len() > 1 {
            own.extend(done.lrs.iter().map(|(name, lr)| (format!("lr/{name}"), Logged::from(*lr))));
        }
        if done.skipped {
            own.push(("train/skipped".to_owned(), Logged::from(1.0)));
        }
        self.bus.logged.borrow_mut().splice(0..0, own);
    }

    fn is_due(&self, cadence: &Cadence, done: &Done) -> bool {
        cadence.is_due(done.previous.as_ref(), &self.clock, self.settings.steps)
    }

    /// Measures the validation split; one device read brings it and all that the step has logged.
    pub(super) fn eval(&mut self, done: &Done) -> Result<(), TrainError> {
        let began = Instant::now();
        let step = self.clock.step;
        let model = self.model.as_ref().expect(MODEL_IS_IN);
        let cx = cx!(self, &self.clock, done.previous.as_ref(), model);

        let without_tape = model.valid();
        let batches = self.task.val_batches();
        let theirs = self.replicas.eval(&self.task);
        let mut totals = Totals::default();
        for (index, batch) in batches.iter().enumerate().step_by(self.replicas.count()) {
            self.task.eval(&without_tape, batch, &mut totals);
            if self.callbacks.want(Hook::OnEvalBatch) {
                let event = EvalBatch { cx, index, count: batches.len() };
                self.callbacks.fire(&event)?;
            }
        }
        let summed = self.replicas.add_up(theirs, &mut totals, &self.device);
        summed.map_err(|lost| self.lost(lost))?;
        let metrics = self.task.summarize(&totals);
        // Now that their names are known: a callback may have recorded one before the first eval.
        self.callbacks.keep_for_trainer(metrics.iter().map(|(name, _)| format!("val/{name}")));
        for (name, value) in &metrics {
            cx.log(format!("val/{name}"), value.clone());
        }
        read(&self.bus, step, &mut self.progress.overhead.reads)?;
        let value = |deferred: &crate::deferred::Deferred| deferred.value().unwrap_or(f64::NAN);
        let metrics = metrics.iter().map(|(name, metric)| (name.clone(), value(metric))).collect();
        let report = EvalReport { metrics, took: began.elapsed() };
        self.progress.overhead.eval += report.took;

        let eval_of = |weights: &[Tensor<1>]| {
            let model = params::replaced(without_tape.clone(), &self.table, weights);
            let mut totals = Totals::default();
            for batch in self.task.val_batches() {
                self.task.eval(&model, batch, &mut totals);
            }
            self.task.summarize(&totals)
        };
        let event = EvalEnd { cx, report: &report, eval_of: &eval_of };
        self.callbacks.fire(&event)
    }

    /// Sends the step's record to the sinks: whatever was logged, read together.
    pub(super) fn record(&mut self) -> Result<(), TrainError> {
        let values = self.take_logged()?;
        if !values.is_empty() {
            let record = Arc::new(Record { clock: self.clock, values });
            self.progress.last = Some(Arc::clone(&record));
            self.progress.writers.write(&record);
        }
        self.pass_on_lines();
        Ok(())
    }

    /// Lets the sinks hear what callbacks said; the numbers in it have been read.
    pub(super) fn pass_on_lines(&mut self) {
        for line in self.bus.said.take() {
            self.progress.writers.remark(&(line.text)());
        }
    }

    /// Everything logged since the last record, with its values.
    pub(super) fn take_logged(&mut self) -> Result<Vec<(String, Value)>, TrainError> {
        self.read()?;
        Ok(resolve(std::mem::take(&mut *self.bus.logged.borrow_mut())))
    }

    /// The record of this step as it stands, its values read but left where they are; with them what
    /// callbacks wait for, which may be part of their state.
    pub(super) fn record_so_far(&mut self) -> Result<Record, TrainError> {
        self.read()?;
        let awaited = self.bus.awaited.take();
        let step = self.clock.step;
        let was_needed =
            deferred::read(awaited.iter()).map_err(|reason| TrainError::Device { step, reason })?;
        self.progress.overhead.reads += u64::from(was_needed);
        let logged = self.bus.logged.borrow().clone();
        Ok(Record { clock: self.clock, values: resolve(logged) })
    }

    fn read(&mut self) -> Result<(), TrainError> {
        read(&self.bus, self.clock.step, &mut self.progress.overhead.reads)
    }

    /// Passes on what failed in callbacks: to the sinks, and to the outcome.
    pub(super) fn hear_problems(&mut self) {
        for problem in std::mem::take(&mut self.callbacks.untold) {
            self.tell(problem);
        }
    }

    /// Tells the sinks, and in the outcome, of something that failed without ending the run.
    pub(super) fn tell(&mut self, problem: Problem) {
        self.progress.writers.tell(&problem);
        self.progress.problems.push(problem);
    }
}

/// The values of what was logged and read: a key logged twice keeps its first place and its last value.
fn resolve(logged: Vec<(String, Logged)>) -> Vec<(String, Value)> {
    let mut places = HashMap::with_capacity(logged.len());
    let first = |(index, (key, _))| *places.entry(key).or_insert(index);
    let logged_at: Vec<usize> =
        logged.iter().map(|(key, value)| (key.as_str(), value)).enumerate().map(first).collect();

    let mut values: Vec<Option<(String, Value)>> = Vec::new();
    values.resize_with(logged.len(), || None);
    for ((key, logged), place) in logged.into_iter().zip(logged_at) {
        let value = match logged {
            Logged::Ready(value) => value,
            Logged::Deferred(value) => Value::Scalar(value.value().unwrap_or(f64::NAN)),
            Logged::Histogram(value) => Value::Histogram(value.value().unwrap_or_default()),
            Logged::Picture(picture) => {
                picture.begin();
                Value::Picture(picture)
            }
        };
        values[place] = Some((key, value));
    }
    values.into_iter().flatten().collect()
}

/// Reads, in one device read, all that was logged or said and is still on the device.
fn read(bus: &Bus, step: u64, reads: &mut u64) -> Result<(), TrainError> {
    let (logged, said) = (bus.logged.borrow(), bus.said.borrow());
    let values = logged.iter().filter_map(|(_, logged)| match logged {
        Logged::Deferred(value) => Some(value),
        _ => None,
    });
    let histograms = logged.iter().flat_map(|(_, logged)| match logged {
        Logged::Histogram(value) => vec![value.clone()],
        Logged::Picture(picture) => picture.histograms(),
        _ => Vec::new(),
    });
    let histograms: Vec<_> = histograms.collect();
    let values = values.chain(said.iter().flat_map(|line| &line.values));
    let along = bus.awaited.borrow();
    let was_needed = deferred::read_all(values, histograms.iter(), along.iter())
        .map_err(|reason| TrainError::Device { step, reason })?;
    drop(along);
    if was_needed {
        bus.awaited.take();
    }
    *reads += u64::from(was_needed);
    Ok(())
}
