//! Measures the validation split.

use super::Engine;
use crate::clock::Clock;
use crate::error::TrainError;
use crate::event::{EvalBatch, EvalEnd, EvalReport};
use crate::hook::Hook;
use crate::params;
use crate::task::{Task, Totals};
use burn::module::Module;
use burn::tensor::Tensor;
use std::time::Instant;

impl<T: Task> Engine<T> {
    /// Measures the validation split; one device read brings its metrics and all values that the step has logged.
    pub(in crate::trainer) fn eval(&mut self, previous: Option<&Clock>) -> Result<(), TrainError> {
        let began = Instant::now();
        let step = self.clock.step;
        let without_tape = self.compute.model.valid();
        let mut totals = Totals::default();
        let theirs = self.compute.replicas.eval(&self.compute.task);
        self.eval_own(&without_tape, &mut totals, previous)?;
        self.compute
            .add_up(theirs, &mut totals)
            .map_err(|lost| lost.at_step(step))?;

        let task = &*self.compute.task;
        let metrics = task.summarize(&totals);
        // Now that their names are known: a callback may have recorded one before the first eval.
        let keys = metrics.iter().map(|(name, _)| format!("val/{name}"));
        self.observers.callbacks.get_mut().keep_for_trainer(keys);
        for (name, value) in &metrics {
            self.observers
                .log
                .log(format!("val/{name}"), value.clone().into());
        }
        self.observers
            .log
            .read()
            .map_err(|reason| self.device_failed(reason))?;
        let metrics = metrics
            .into_iter()
            .map(|(name, metric)| (name, metric.value().unwrap_or(f64::NAN)));
        let report = EvalReport {
            metrics: metrics.collect(),
            took: began.elapsed(),
        };
        self.observers.overhead.eval += report.took;

        let eval_of = |weights: &[Tensor<1>]| {
            let model = params::replaced(without_tape.clone(), &self.compute.table, weights);
            let mut totals = Totals::default();
            for batch in task.val_batches() {
                task.eval(&model, batch, &mut totals);
            }
            task.summarize(&totals)
        };
        self.observers.fire(&EvalEnd {
            cx: self.cx(previous),
            report: &report,
            eval_of: &eval_of,
        })
    }

    /// Measures this device's part of the validation batches.
    fn eval_own(
        &self,
        model: &T::Model,
        totals: &mut Totals,
        previous: Option<&Clock>,
    ) -> Result<(), TrainError> {
        let batches = self.compute.task.val_batches();
        let cx = self.cx(previous);
        for (index, batch) in batches
            .iter()
            .enumerate()
            .step_by(self.compute.replicas.count())
        {
            self.compute.task.eval(model, batch, totals);
            if self.observers.want(Hook::OnEvalBatch) {
                self.observers.fire(&EvalBatch {
                    cx,
                    index,
                    count: batches.len(),
                })?;
            }
        }
        Ok(())
    }
}
