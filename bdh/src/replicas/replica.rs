//! A replica, used by the thread that owns it.

use super::exchange::{self, Present};
use crate::device_read::{self, DeviceError};
use crate::loss_context::LossLog;
use crate::metrics::{HostMetric, Metrics};
use crate::params::{self, ParamTable};
use crate::pass::{GradSums, MicroBatchPass};
use crate::task::Task;
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
    /// Numbers that the task logged in the backward pass, until they are read.
    logged: LossLog,
    /// The model without autodiff and the metrics so far, during an eval.
    eval: Option<(M, Metrics)>,
}

/// Result of a replica's backward pass.
pub(crate) struct Passed {
    /// Parameters that have a gradient.
    pub(crate) present: Present,
    /// Whether the task logged numbers, which are to be read.
    pub(crate) has_logged: bool,
}

impl<M: Module> Replica<M> {
    pub(super) fn new(device: &Device, table: &Arc<ParamTable>) -> Self {
        Self {
            model: None,
            device: device.clone(),
            table: Arc::clone(table),
            sums: None,
            logged: LossLog::default(),
            eval: None,
        }
    }

    /// Copies a model to the replica's device. Call it on the replica's thread: GPU memory belongs to the thread that
    /// allocates it.
    pub(super) fn load(&mut self, model: M) {
        self.model = Some(params::forked(model, &self.device));
    }

    pub(super) fn device(&self) -> &Device {
        &self.device
    }

    fn model(&self) -> &M {
        self.model
            .as_ref()
            .expect("a replica is loaded before its first job")
    }

    /// Runs forward and backward on micro-batches.
    pub(super) fn backward<T: Task<Model = M>>(
        &mut self,
        task: &T,
        pass: &MicroBatchPass,
        batches: &[(usize, T::Batch)],
    ) -> Passed {
        let model = self.model();
        let mut sums: Option<GradSums> = None;
        for (index, batch) in batches {
            let more = pass.run(task, model, &self.device, *index, batch, None);
            sums = Some(match sums {
                None => more,
                Some(sums) => sums.add(model, more),
            });
        }
        let mut sums =
            sums.expect("each replica gets the same number of micro-batches, at least one");
        let present = exchange::present(&sums, model);
        let logged = std::mem::take(&mut sums.logged);
        let has_logged = !logged.is_empty();
        self.logged = logged;
        self.sums = Some(sums);
        Passed {
            present,
            has_logged,
        }
    }

    /// Reads the numbers that the task logged in the backward pass, in one device read.
    pub(super) fn read_logged(&mut self) -> Result<Vec<(String, f32, usize)>, DeviceError> {
        std::mem::take(&mut self.logged).read()
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

    /// Evaluates a batch, and adds it to the metrics of the eval.
    pub(super) fn eval<T: Task<Model = M>>(&mut self, task: &T, batch: &T::Batch) {
        let (model, mut metrics) = match self.eval.take() {
            Some(eval) => eval,
            None => (self.model().valid(), Metrics::default()),
        };
        task.eval(&model, batch, &mut metrics);
        self.eval = Some((model, metrics));
    }

    /// Reads the metrics of the eval, in one device read, and ends it.
    pub(super) fn take_metrics(&mut self) -> Result<Vec<HostMetric>, DeviceError> {
        match self.eval.take() {
            Some((_, metrics)) => metrics.read(),
            None => Ok(Vec::new()),
        }
    }

    /// Returns a digest of each parameter and buffer.
    pub(super) fn digests(&self) -> Result<Vec<u64>, DeviceError> {
        Ok(params::digests(self.model())?.0)
    }
}
