//! One replica, on the thread that owns it.

use super::exchange::{self, Present};
use crate::params::{self, ParamTable};
use crate::pass::{Pass, Sums};
use crate::probe::Probe;
use crate::read;
use crate::task::{Task, Totals};
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use std::sync::Arc;

/// A model on a device, with the weights of the first replica.
pub(super) struct Replica<M> {
    /// Out before it is loaded and while it gets new weights.
    model: Option<M>,
    device: Device,
    table: Arc<ParamTable>,
    /// Between the backward pass and the exchange.
    sums: Option<Sums>,
}

/// Sums over validation batches in host memory: name, sum, weight.
pub(crate) type HostTotals = Vec<(&'static str, f32, f64)>;

impl<M: Module> Replica<M> {
    pub(super) fn on(device: &Device, table: &Arc<ParamTable>) -> Self {
        Self {
            model: None,
            device: device.clone(),
            table: Arc::clone(table),
            sums: None,
        }
    }

    /// Copies a model to its device. On the replica's own thread: on a GPU, memory is that of the thread that asked for it.
    pub(super) fn load(&mut self, model: M) {
        self.model = Some(model.fork(&self.device));
    }

    pub(super) fn device(&self) -> &Device {
        &self.device
    }

    fn model(&self) -> &M {
        self.model
            .as_ref()
            .expect("a replica is loaded before it is asked")
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
        let sums = batches
            .iter()
            .map(run)
            .reduce(|sum, more| sum.add(model, more));
        let sums = sums.expect("each replica has as many micro-batches");
        let present = exchange::present(&sums, model);
        self.sums = Some(sums);
        present
    }

    /// Waits until the backward pass has been taken.
    pub(super) fn prove(&self) -> Result<(), String> {
        let sums = self
            .sums
            .as_ref()
            .expect("a backward pass precedes the exchange");
        exchange::prove(sums, self.model())
    }

    /// Gradients and loss of the backward pass, which are given away.
    fn flat(&mut self, wanted: &Present) -> Vec<Tensor<1>> {
        let sums = self
            .sums
            .take()
            .expect("a backward pass precedes the exchange");
        exchange::flat(&sums, self.model(), &self.table, wanted)
    }

    pub(super) fn read(&mut self, wanted: &Present) -> Result<Vec<TensorData>, String> {
        read::vectors(self.flat(wanted))
    }

    /// Brings gradients and loss to an exchange of which only the first replica needs the result.
    pub(super) fn bring(&mut self, wanted: &Present, devices: &[Device]) {
        exchange::sum_over(devices, self.flat(wanted));
    }

    /// Takes weights that were read from the first replica.
    pub(super) fn take(&mut self, weights: &[TensorData]) {
        let weights = exchange::put(weights, &self.device);
        self.model = self
            .model
            .take()
            .map(|model| params::with_weights(model, weights));
    }

    /// Takes the first replica's weights from an exchange to which the others bring zeros.
    pub(super) fn receive(&mut self, devices: &[Device]) {
        let device = self.device.clone().inner();
        let zeros = self
            .table
            .iter()
            .map(|param| Tensor::zeros([param.num_elements()], &device));
        let weights = exchange::sum_over(devices, zeros.collect());
        self.model = self
            .model
            .take()
            .map(|model| params::with_weights(model, weights));
    }

    pub(super) fn eval<T: Task<Model = M>>(
        &self,
        task: &T,
        share: &[(usize, usize)],
    ) -> Result<HostTotals, String> {
        let model = self.model().valid();
        let mut totals = Totals::default();
        for (_, batch) in share {
            task.eval(&model, &task.val_batches()[*batch], &mut totals);
        }
        totals.read()
    }

    pub(super) fn digests(&self) -> Result<Vec<u64>, String> {
        Ok(params::digests(self.model())?.0)
    }
}
