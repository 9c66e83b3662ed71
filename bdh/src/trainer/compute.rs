//! The model and everything that computes with it: task, devices, optimizers. Callbacks and sinks are not used here.

use super::eval_sets::EvalSet;
use super::model_slot::ModelSlot;
use crate::data::TrainData;
use crate::device;
use crate::error::{ConfigError, TrainError};
use crate::evaluate;
use crate::failure::BoxError;
use crate::freeze::FrozenParams;
use crate::optim::Optimizers;
use crate::params::ParamTable;
use crate::pass::GradSums;
use crate::replicas::{Answers, Passed, ReplicaError, Replicas, Transport};
use crate::seed;
use crate::task::{BatchSize, Task};
use crate::text::{Generated, Sampling, TextModel, TokenScore};
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Device;
use std::sync::Arc;

pub(super) struct Compute<T: Task> {
    /// Shared with the replicas while they compute.
    pub(super) task: Arc<T>,
    pub(super) data: Box<dyn TrainData<Batch = T::Batch>>,
    pub(super) eval_sets: Vec<EvalSet<T::Batch>>,
    pub(super) model: ModelSlot<T::Model>,
    pub(super) device: Device,
    /// All devices that train, starting with `device`; empty for single-device runs.
    pub(super) devices: Vec<Device>,
    pub(super) transport: Transport,
    /// Copies of the model on the other devices; empty until the run begins.
    pub(super) replicas: Replicas<T>,
    pub(super) table: Arc<ParamTable>,
    /// Parameters and buffers of the model that a checkpoint holds, frozen ones included.
    pub(super) saved: ParamTable,
    pub(super) optimizers: Optimizers,
    pub(super) frozen: FrozenParams,
}

impl<T: Task> Compute<T> {
    /// Creates the parts of a single-device run, without an optimizer.
    pub(super) fn new(
        task: T,
        model: T::Model,
        table: Arc<ParamTable>,
        data: Box<dyn TrainData<Batch = T::Batch>>,
        eval_sets: Vec<EvalSet<T::Batch>>,
    ) -> Self {
        Self {
            task: Arc::new(task),
            data,
            eval_sets,
            device: device::of(&model),
            devices: Vec::new(),
            transport: Transport::Host,
            replicas: Replicas::none(&table),
            table,
            saved: ParamTable::with_frozen(&model),
            optimizers: Optimizers::default(),
            frozen: FrozenParams::default(),
            model: ModelSlot::new(model),
        }
    }

    /// Returns the model as a text model, if the task has text.
    pub(super) fn as_text(&self) -> Option<&dyn TextModel> {
        self.task.text().map(|_| self as &dyn TextModel)
    }

    /// Copies the model to the other devices, after a resume has restored it.
    pub(super) fn start_replicas(&mut self) -> Result<(), ConfigError> {
        if self.devices.len() < 2 {
            return Ok(());
        }
        match Replicas::start(&self.devices, self.transport.clone(), &self.table) {
            Ok(replicas) => self.replicas = replicas,
            Err(error) => {
                let text = format!("the thread of a replica could not be started: {error}");
                return Err(ConfigError::Device(text));
            }
        }
        self.try_exchange()?;
        if let Err(ReplicaError { replica, text }) = self.replicas.load(&self.model) {
            let text = format!("the model could not be copied to replica {replica}: {text}");
            return Err(ConfigError::Device(text));
        }
        Ok(())
    }

    /// Tries an exchange between the devices, before the model is copied to them.
    fn try_exchange(&mut self) -> Result<(), ConfigError> {
        if let Err(ReplicaError { text, .. }) = self.replicas.try_exchange(&self.device) {
            return Err(ConfigError::Device(format!(
                "these GPUs cannot exchange gradients with NCCL: {text}; NCCL needs libnccl.so, \
                 `exchange_on_host(true)` or `--exchange-on-host` works without it"
            )));
        }
        Ok(())
    }

    /// Frees the replicas' memory and ends their threads.
    pub(super) fn stop_replicas(&mut self) {
        self.replicas = Replicas::none(&self.table);
    }

    /// Draws the micro-batches of a step, each with its size.
    ///
    /// All are drawn before anything is computed: which callbacks are due may depend on the number of tokens.
    pub(super) fn fetch(
        &mut self,
        seed: u64,
        step: u64,
        count: usize,
    ) -> Result<Vec<(T::Batch, BatchSize)>, TrainError> {
        self.device.seed(seed::data(seed, step));
        self.draw(count)
            .map_err(|source| TrainError::Data { step, source })
    }

    fn draw(&mut self, count: usize) -> Result<Vec<(T::Batch, BatchSize)>, BoxError> {
        // No capacity: a replay reads the count from a checkpoint, which may hold any number.
        let mut batches = Vec::new();
        for _ in 0..count {
            let batch = self.data.next_batch()?;
            batches.push(self.sized(batch)?);
        }
        if self.replicas.count() > 1 {
            check_even(&batches)?;
        }
        Ok(batches)
    }

    /// Checks the micro-batches that a program gives for a step, and returns each with its size.
    pub(super) fn take_given(
        &self,
        step: u64,
        given: Vec<T::Batch>,
    ) -> Result<Vec<(T::Batch, BatchSize)>, TrainError> {
        self.check_given(given)
            .map_err(|source| TrainError::Data { step, source })
    }

    fn check_given(&self, given: Vec<T::Batch>) -> Result<Vec<(T::Batch, BatchSize)>, BoxError> {
        let (count, devices) = (given.len(), self.replicas.count());
        if count == 0 || !count.is_multiple_of(devices) {
            let needed = match devices {
                1 => "a step needs at least 1".to_owned(),
                _ => format!("{devices} devices need {devices} or a multiple of it"),
            };
            return Err(format!("`step_on` got {count} micro-batches; {needed}").into());
        }
        let mut batches = Vec::new();
        for batch in given {
            batches.push(self.sized(batch)?);
        }
        if devices > 1 {
            check_even(&batches)?;
        }
        Ok(batches)
    }

    /// Checks a micro-batch, and returns it with its size.
    fn sized(&self, batch: T::Batch) -> Result<(T::Batch, BatchSize), BoxError> {
        self.task.check(&self.model, &batch)?;
        let size = self.task.size(&batch);
        Ok((batch, size))
    }

    /// Evaluates another model on an eval set, on this device. Costs one device read.
    pub(super) fn eval_set(
        &self,
        index: usize,
        model: &T::Model,
    ) -> Result<Vec<(String, f64)>, BoxError> {
        evaluate::without_autodiff(&*self.task, model, &*self.eval_sets[index].data)
    }

    /// Adds the sums of all replicas to this device's.
    pub(super) fn reduce(
        &mut self,
        theirs: Answers<Passed>,
        own: GradSums,
    ) -> Result<GradSums, ReplicaError> {
        self.replicas.reduce(theirs, own, &self.model, &self.device)
    }

    /// Updates the parameters on every device; `rates` has one learning rate for each group.
    pub(super) fn step(
        &mut self,
        grads: GradientsParams,
        rates: &[f64],
    ) -> Result<(), ReplicaError> {
        let Self {
            model,
            optimizers,
            replicas,
            ..
        } = self;
        model.change(|model| replicas.broadcast_weights(optimizers.step(model, grads, rates)))
    }
}

/// Uses the model without autodiff: text needs no gradients.
impl<T: Task> TextModel for Compute<T> {
    fn generate(&self, prompts: &[(&str, Sampling)]) -> Result<Vec<Generated>, BoxError> {
        let text = self.task.text().ok_or(NO_TEXT)?;
        text.generate(&self.model.valid(), prompts)
    }

    fn score(&self, rows: &[&[i32]]) -> Result<Vec<Vec<TokenScore>>, BoxError> {
        let text = self.task.text().ok_or(NO_TEXT)?;
        text.score(&self.model.valid(), rows)
    }
}

const NO_TEXT: &str = "the task has no text";

/// Refuses micro-batches of different sizes, which several devices cannot average. One device takes any sizes.
fn check_even<B>(batches: &[(B, BatchSize)]) -> Result<(), BoxError> {
    let Some(((_, first), others)) = batches.split_first() else {
        return Ok(());
    };
    for (_, other) in others {
        if other.samples == first.samples {
            continue;
        }
        let error = format!(
            "micro-batches have different sizes, {} and {} samples; several devices need micro-batches of one size",
            first.samples, other.samples
        );
        return Err(error.into());
    }
    Ok(())
}
