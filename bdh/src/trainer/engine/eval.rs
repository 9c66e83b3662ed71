//! Evaluation of the model on the eval sets.

use super::Engine;
use crate::clock::Clock;
use crate::error::TrainError;
use crate::event::{EvalBatch, EvalEnd, EvalReport};
use crate::failure::BoxError;
use crate::hook::Hook;
use crate::metrics::{self, Metrics, PendingMetric, Results};
use crate::params;
use crate::task::Task;
use crate::trainer::compute::Compute;
use burn::module::Module;
use burn::tensor::Tensor;
use std::time::Instant;

impl<T: Task> Engine<T> {
    /// Evaluates the model on the eval set at `index`. One device read fetches the metrics and the values logged so far.
    pub(in crate::trainer) fn eval(
        &mut self,
        index: usize,
        previous: Option<&Clock>,
    ) -> Result<EvalReport, TrainError> {
        let began = Instant::now();
        let set = self.compute.eval_sets[index].name.clone();
        let _span = tracing::info_span!("eval", step = self.clock.step, set).entered();
        let model = self.compute.model.valid();
        let metrics = self.eval_batches(index, &model, previous)?;
        let Results { scalars, others } = self.read_metrics(&set, metrics)?;
        let report = EvalReport {
            set,
            is_first: index == 0,
            metrics: scalars,
            tables: others,
            took: began.elapsed(),
        };
        self.log_report(&report);
        self.observers.overhead.eval += report.took;
        self.on_eval(index, &model, &report, previous)?;
        Ok(report)
    }

    /// Evaluates the batches of a set, one on each device at a time. Returns the metrics of this device.
    fn eval_batches(
        &self,
        index: usize,
        model: &T::Model,
        previous: Option<&Clock>,
    ) -> Result<Metrics, TrainError> {
        let compute = &self.compute;
        let set = &compute.eval_sets[index];
        let (step, num_devices) = (self.clock.step, compute.replicas.count());
        let mut batches = set.data.batches().enumerate();
        let mut metrics = Metrics::default();
        let mut num_batches = 0;
        loop {
            let mut round = Vec::new();
            for (batch, data) in batches.by_ref().take(num_devices) {
                round.push(self.checked(&set.name, batch, data)?);
            }
            let mut round = round.into_iter();
            let Some(own) = round.next() else { break };
            // Started first: the other devices compute while this thread evaluates its own batch.
            let theirs = compute.replicas.eval(&compute.task, round);
            compute.task.eval(model, &own, &mut metrics);
            if self.observers.want(Hook::OnEvalBatch) {
                self.observers.fire(&EvalBatch {
                    ctx: self.ctx(previous),
                    index: num_batches,
                    count: set.data.num_batches(),
                })?;
            }
            theirs.finish().map_err(|error| error.at_step(step))?;
            num_batches += num_devices;
        }
        if num_batches == 0 {
            let set = set.name.clone();
            return Err(TrainError::EmptyEval { set, step });
        }
        Ok(metrics)
    }

    /// Checks that a batch was read, and that the model can process it.
    fn checked(
        &self,
        set: &str,
        batch: usize,
        data: Result<T::Batch, BoxError>,
    ) -> Result<T::Batch, TrainError> {
        let Compute { task, model, .. } = &self.compute;
        let checked = data.and_then(|data| task.check(model, &data).map(|()| data));
        checked.map_err(|source| TrainError::EvalData {
            set: set.to_owned(),
            batch,
            step: self.clock.step,
            source,
        })
    }

    /// Reads the metrics of all devices, on this one together with the values logged so far.
    fn read_metrics(&mut self, set: &str, own: Metrics) -> Result<Results, TrainError> {
        let step = self.clock.step;
        let theirs = self.compute.replicas.ask_for_metrics();
        let pending = own.into_pending();
        let log = &self.observers.log;
        for metric in &pending {
            log.read_along(&metric.input());
        }
        log.read_all().map_err(|error| self.device_failed(error))?;
        let own = pending.into_iter().map(PendingMetric::into_host);
        let mut devices = vec![own.collect()];
        let theirs = self.compute.replicas.wait_for_metrics(theirs);
        devices.extend(theirs.map_err(|error| error.at_step(step))?);
        metrics::compute(devices).map_err(|source| TrainError::Metric {
            set: set.to_owned(),
            step,
            source,
        })
    }

    /// Logs the results of an eval under the trainer's own keys.
    fn log_report(&mut self, report: &EvalReport) {
        let set = &report.set;
        let mut values = Vec::new();
        for (name, metric) in &report.metrics {
            values.push((format!("{set}/{name}"), (*metric).into()));
        }
        for (name, value) in &report.tables {
            values.push((format!("{set}/{name}"), value.clone().into()));
        }
        // Only now are the names known; a callback may have recorded one of them before the first eval.
        let keys = values.iter().map(|(key, _)| key.clone());
        self.observers.callbacks.get_mut().keep_for_trainer(keys);
        for (key, value) in values {
            self.observers.log.log(key, value);
        }
    }

    fn on_eval(
        &self,
        index: usize,
        model: &T::Model,
        report: &EvalReport,
        previous: Option<&Clock>,
    ) -> Result<(), TrainError> {
        let eval_of = |weights: &[Tensor<1>]| {
            let model = params::replaced(model.clone(), &self.compute.table, weights);
            self.compute.eval_set(index, &model)
        };
        self.observers.fire(&EvalEnd {
            ctx: self.ctx(previous),
            report,
            eval_of: &eval_of,
        })
    }
}
