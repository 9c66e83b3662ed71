//! One replica, on the thread that owns it.

use super::reduce::{self, Exchanged, HostVectors, Present};
use crate::Probe;
use crate::clip::Clipping;
use crate::intervention::Verdict;
use crate::optim::Optimizers;
use crate::params::{self, ParamTable};
use crate::pass::{Pass, Sums};
use crate::stats::Stats;
use crate::task::{Task, Totals};
use burn::module::Module;
use burn::tensor::Device;
use std::sync::Arc;

/// A model with its optimizer on a device.
pub(crate) struct Replica<M> {
    /// Out only while the optimizer has it.
    model: Option<M>,
    optimizers: Optimizers,
    device: Device,
    table: Arc<ParamTable>,
    /// Between the backward pass and the update.
    sums: Option<Sums>,
}

/// What makes every replica take the same step.
pub(crate) struct Update {
    pub(crate) verdict: Verdict,
    pub(crate) lrs: Vec<f64>,
    /// Largest norm of the gradients.
    pub(crate) clip_grad_norm: Option<f64>,
    /// The gradients that interventions made, where they made any.
    pub(crate) replaced: Option<Replaced>,
}

/// Gradients in host memory, and whose.
pub(crate) type Replaced = (Present, HostVectors);

/// Sums over validation batches in host memory: name, sum, weight.
pub(crate) type HostTotals = Vec<(&'static str, f32, f64)>;

const MODEL_IS_IN: &str = "the model is out only while the optimizer has it";
const SUMS_ARE_IN: &str = "a backward pass precedes whatever is done with its gradients";

impl<M: Module> Replica<M> {
    /// A copy of a model, and of what its optimizers remember.
    pub(super) fn of(
        model: &M,
        optimizers: &Optimizers,
        device: &Device,
        table: &Arc<ParamTable>,
    ) -> Result<Self, String> {
        Ok(Self {
            model: Some(model.clone().fork(device)),
            optimizers: optimizers.copy_to(table, &device.clone().inner())?,
            device: device.clone(),
            table: Arc::clone(table),
            sums: None,
        })
    }

    fn model(&self) -> &M {
        self.model.as_ref().expect(MODEL_IS_IN)
    }

    fn sums(&self) -> &Sums {
        self.sums.as_ref().expect(SUMS_ARE_IN)
    }

    pub(super) fn backward<T: Task<Model = M>>(
        &mut self,
        task: &T,
        pass: &Pass,
        batches: &[(usize, T::Batch)],
    ) -> Present {
        let model = self.model();
        let run = |(index, batch): &(usize, _)| {
            pass.run((task, model), &self.device, (*index, batch), &Probe::off())
        };
        let sums = batches.iter().map(run).reduce(|sum, more| sum.add(model, more));
        let sums = sums.expect("each replica has as many micro-batches");
        let present = reduce::present(&sums.grads, model);
        self.sums = Some(sums);
        present
    }

    fn exchanged<'a>(&'a self, wanted: &'a Present) -> Exchanged<'a, M> {
        Exchanged { model: self.model(), table: &self.table, wanted }
    }

    pub(super) fn read(&self, wanted: &Present) -> Result<HostVectors, String> {
        self.exchanged(wanted).read(self.sums())
    }

    pub(super) fn put(&mut self, wanted: &Present, sums: &HostVectors) {
        self.sums = Some(self.exchanged(wanted).put(sums, &self.device));
    }

    pub(super) fn exchange(&mut self, wanted: &Present, devices: &[Device]) {
        self.sums = Some(self.exchanged(wanted).exchange(self.sums(), devices));
    }

    /// Clips and takes the step, as the trainer does with its own model.
    pub(super) fn update(&mut self, update: &Update) {
        let own = self.sums.take().expect(SUMS_ARE_IN).grads;
        if update.verdict == Verdict::Skip {
            return;
        }
        let mut grads = match &update.replaced {
            Some((wanted, values)) => self.exchanged(wanted).put_gradients(values, &self.device),
            None => own,
        };
        let model = self.model.take().expect(MODEL_IS_IN);
        if let Some(max) = update.clip_grad_norm {
            let stats = Stats::new(&self.table, || params::gradients(&model, &grads));
            let clipping = Clipping::to(max, &stats, &self.device);
            drop(stats);
            params::scale_gradients(&model, &mut grads, clipping.factor);
        }
        self.model = Some(self.optimizers.step(model, grads, &update.lrs));
    }

    pub(super) fn eval<T: Task<Model = M>>(
        &self,
        task: &T,
        share: &[(usize, usize)],
    ) -> Result<HostTotals, String> {
        let model = self.model().valid();
        let mut totals = Totals::default();
        for (index, _) in share {
            task.eval(&model, &task.val_batches()[*index], &mut totals);
        }
        totals.read()
    }

    pub(super) fn digests(&self) -> Result<Vec<u64>, String> {
        params::digests(self.model())
    }
}
