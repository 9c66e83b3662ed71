//! Evaluation on the validation split.

use super::Engine;
use crate::clock::Clock;
use crate::deferred::Deferred;
use crate::error::TrainError;
use crate::event::{EvalBatch, EvalEnd, EvalReport};
use crate::hook::Hook;
use crate::params;
use crate::task::{Task, Totals};
use burn::module::Module;
use burn::tensor::Tensor;
use std::time::Instant;

impl<T: Task> Engine<T> {
    /// Evaluates the model on the validation split. One device read fetches the metrics and the values logged so far.
    pub(in crate::trainer) fn eval(&mut self, previous: Option<&Clock>) -> Result<(), TrainError> {
        let began = Instant::now();
        let _span = tracing::info_span!("eval", step = self.clock.step).entered();
        let model = self.compute.model.valid();
        let metrics = self.measure(&model, previous)?;
        self.log_metrics(&metrics)?;
        let mut report = EvalReport::default();
        for (name, metric) in metrics {
            let value = metric.value().unwrap_or(f64::NAN);
            report.metrics.push((name, value));
        }
        report.took = began.elapsed();
        self.observers.overhead.eval += report.took;
        self.on_eval(&model, &report, previous)
    }

    /// Evaluates all validation batches on all devices. The metrics stay on the device.
    fn measure(
        &mut self,
        model: &T::Model,
        previous: Option<&Clock>,
    ) -> Result<Vec<(String, Deferred)>, TrainError> {
        let step = self.clock.step;
        let mut totals = Totals::default();
        // Started first: the other devices compute while this thread evaluates its own share.
        let theirs = self.compute.replicas.eval(&self.compute.task);
        self.eval_own(model, &mut totals, previous)?;
        self.compute
            .add_totals(theirs, &mut totals)
            .map_err(|error| error.at_step(step))?;
        Ok(self.compute.task.summarize(&totals))
    }

    /// Logs the metrics, and reads them together with the values logged so far.
    fn log_metrics(&mut self, metrics: &[(String, Deferred)]) -> Result<(), TrainError> {
        // Only now are the names known; a callback may have recorded one of them before the first eval.
        let keys = metrics.iter().map(|(name, _)| format!("val/{name}"));
        self.observers.callbacks.get_mut().keep_for_trainer(keys);
        let log = &self.observers.log;
        for (name, value) in metrics {
            log.log(format!("val/{name}"), value.clone().into());
        }
        log.read().map_err(|error| self.device_failed(error))
    }

    fn on_eval(
        &self,
        model: &T::Model,
        report: &EvalReport,
        previous: Option<&Clock>,
    ) -> Result<(), TrainError> {
        let task = &*self.compute.task;
        let eval_of = |weights: &[Tensor<1>]| {
            let model = params::replaced(model.clone(), &self.compute.table, weights);
            let mut totals = Totals::default();
            for batch in task.val_batches() {
                task.eval(&model, batch, &mut totals);
            }
            task.summarize(&totals)
        };
        self.observers.fire(&EvalEnd {
            ctx: self.ctx(previous),
            report,
            eval_of: &eval_of,
        })
    }

    /// Evaluates this device's share of the validation batches.
    fn eval_own(
        &self,
        model: &T::Model,
        totals: &mut Totals,
        previous: Option<&Clock>,
    ) -> Result<(), TrainError> {
        let batches = self.compute.task.val_batches();
        let num_devices = self.compute.replicas.count();
        for (index, batch) in batches.iter().enumerate().step_by(num_devices) {
            self.compute.task.eval(model, batch, totals);
            if self.observers.want(Hook::OnEvalBatch) {
                self.observers.fire(&EvalBatch {
                    ctx: self.ctx(previous),
                    index,
                    count: batches.len(),
                })?;
            }
        }
        Ok(())
    }
}
