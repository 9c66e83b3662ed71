//! A replica, used by the thread that owns it.

use super::exchange::{self, Present};
use crate::device_read::{self, DeviceError};
use crate::params::{self, ParamTable};
use crate::pass::{GradSums, MicroBatchPass};
use crate::probe::Probe;
use crate::task::{Task, Totals};
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use std::sync::Arc;

/// A copy of the trainer's model on another device.
pub(super) struct Replica<M> {
    /// `None` until it is loaded, and while new weights are put in.
    model: Option<M>,
    device: Device,
    table: Arc<ParamTable>,
    /// Loss and gradients, from the backward pass until the exchange.
    sums: Option<GradSums>,
}

/// Sums over validation batches, read to the host: name, sum, weight.
pub(crate) type HostTotals = Vec<(&'static str, f32, f64)>;

impl<M: Module> Replica<M> {
    pub(super) fn new(device: &Device, table: &Arc<ParamTable>) -> Self {
        Self {
            model: None,
            device: device.clone(),
            table: Arc::clone(table),
            sums: None,
        }
    }

    /// Copies a model to the replica's device. Call it on the replica's thread: GPU memory belongs to the thread that
    /// allocates it.
    pub(super) fn load(&mut self, model: M) {
        self.model = Some(model.fork(&self.device));
    }

    pub(super) fn device(&self) -> &Device {
        &self.device
    }

    fn model(&self) -> &M {
        self.model
            .as_ref()
            .expect("a replica is loaded before its first job")
    }

    /// Runs forward and backward on micro-batches. Returns which parameters have a gradient.
    pub(super) fn backward<T: Task<Model = M>>(
        &mut self,
        task: &T,
        pass: &MicroBatchPass,
        batches: &[(usize, T::Batch)],
    ) -> Present {
        let model = self.model();
        let mut sums: Option<GradSums> = None;
        for (index, batch) in batches {
            let more = pass.run(task, model, &self.device, *index, batch, &Probe::off());
            sums = Some(match sums {
                None => more,
                Some(sums) => sums.add(model, more),
            });
        }
        let sums = sums.expect("each replica gets the same number of micro-batches, at least one");
        let present = exchange::present(&sums, model);
        self.sums = Some(sums);
        present
    }

    /// Waits until the gradients have been computed, with one small device read.
    pub(super) fn wait_for_gradients(&self) -> Result<(), DeviceError> {
        let sums = self
            .sums
            .as_ref()
            .expect("a backward pass precedes the exchange");
        exchange::wait_for_gradients(sums, self.model())
    }

    /// Takes the flattened gradients and loss of the backward pass.
    fn flat(&mut self, wanted: &Present) -> Vec<Tensor<1>> {
        let sums = self
            .sums
            .take()
            .expect("a backward pass precedes the exchange");
        exchange::flat(&sums, self.model(), &self.table, wanted)
    }

    /// Reads gradients and loss to the host, in one device read.
    pub(super) fn read(&mut self, wanted: &Present) -> Result<Vec<TensorData>, DeviceError> {
        device_read::vectors(self.flat(wanted))
    }

    /// Contributes gradients and loss to an NCCL sum. Only the trainer's replica uses the result.
    pub(super) fn contribute(&mut self, wanted: &Present, devices: &[Device]) {
        exchange::sum_over(devices, self.flat(wanted));
    }

    /// Loads weights that were read from the trainer's model.
    pub(super) fn load_weights(&mut self, weights: &[TensorData]) {
        self.set_weights(exchange::put(weights, &self.device));
    }

    /// Receives the trainer's weights from an NCCL sum to which all other replicas contribute zeros.
    pub(super) fn receive(&mut self, devices: &[Device]) {
        let device = self.device.clone().inner();
        let zeros = self
            .table
            .iter()
            .map(|param| Tensor::zeros([param.num_elements()], &device));
        self.set_weights(exchange::sum_over(devices, zeros.collect()));
    }

    fn set_weights(&mut self, weights: Vec<Tensor<1>>) {
        if let Some(model) = self.model.take() {
            self.model = Some(params::with_weights(model, weights));
        }
    }

    /// Evaluates a share of the validation batches, given by index.
    pub(super) fn eval<T: Task<Model = M>>(
        &self,
        task: &T,
        share: &[(usize, usize)],
    ) -> Result<HostTotals, DeviceError> {
        let model = self.model().valid();
        let mut totals = Totals::default();
        for (_, batch) in share {
            task.eval(&model, &task.val_batches()[*batch], &mut totals);
        }
        totals.read()
    }

    /// Returns a digest of each parameter and buffer.
    pub(super) fn digests(&self) -> Result<Vec<u64>, DeviceError> {
        Ok(params::digests(self.model())?.0)
    }
}
