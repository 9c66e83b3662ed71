//! The model and everything that computes with it: task, devices, optimizers. Nothing here knows of callbacks.

use super::model_slot::ModelSlot;
use crate::context::TextModel;
use crate::device;
use crate::error::{ConfigError, TrainError};
use crate::failure::BoxError;
use crate::optim::Optimizers;
use crate::params::ParamTable;
use crate::pass::Sums;
use crate::replicas::{Answers, HostTotals, Lost, Present, Replicas, Transport};
use crate::seed;
use crate::task::{BatchSize, Task, Totals};
use crate::text::{Generated, Sampling, TokenScore};
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Device;
use std::sync::Arc;

pub(super) struct Compute<T: Task> {
    /// Shared with the replicas while they compute.
    pub(super) task: Arc<T>,
    pub(super) model: ModelSlot<T::Model>,
    pub(super) device: Device,
    /// All devices that train, starting with `device`; empty for single-device runs.
    pub(super) devices: Vec<Device>,
    pub(super) transport: Transport,
    /// None until the run begins.
    pub(super) replicas: Replicas<T>,
    pub(super) table: Arc<ParamTable>,
    /// Everything of the model that a checkpoint holds.
    pub(super) saved: ParamTable,
    pub(super) optimizers: Optimizers,
}

impl<T: Task> Compute<T> {
    /// A model on its own device, without an optimizer.
    pub(super) fn new(task: T, model: T::Model, table: Arc<ParamTable>) -> Self {
        Self {
            task: Arc::new(task),
            device: device::of(&model),
            devices: Vec::new(),
            transport: Transport::Host,
            replicas: Replicas::none(&table),
            table,
            saved: ParamTable::with_frozen(&model),
            optimizers: Optimizers::default(),
            model: ModelSlot::new(model),
        }
    }

    /// The task, for what only the trainer does with it.
    pub(super) fn task_mut(&mut self) -> &mut T {
        task_mut(&mut self.task)
    }

    /// Copies the model, as it stands after a resume, to the other devices.
    pub(super) fn start_replicas(&mut self) -> Result<(), ConfigError> {
        if self.devices.len() < 2 {
            return Ok(());
        }
        let replicas = Replicas::start(&self.devices, self.transport.clone(), &self.table);
        self.replicas = replicas.map_err(|error| {
            ConfigError::Device(format!("no thread for a replica could be started: {error}"))
        })?;
        self.replicas.try_exchange(&self.device).map_err(|why| {
            ConfigError::Device(format!(
                "these GPUs cannot exchange by NCCL, for which libnccl.so is needed ({why}); \
                 `exchange_on_host(true)`, or `--exchange-on-host`, does without"
            ))
        })?;
        self.replicas
            .load(&self.model)
            .map_err(|Lost { replica, text }| {
                ConfigError::Device(format!(
                    "replica {replica} could not be given the model: {text}"
                ))
            })
    }

    /// Frees the replicas' memory and ends their threads.
    pub(super) fn stop_replicas(&mut self) {
        self.replicas = Replicas::none(&self.table);
    }

    /// The micro-batches of a step, all of them before anything is computed: the callbacks that are due may depend on
    /// how many tokens they hold.
    pub(super) fn fetch(
        &mut self,
        seed: u64,
        step: u64,
        count: usize,
    ) -> Result<Vec<(T::Batch, BatchSize)>, TrainError> {
        self.device.seed(seed::data(seed, step));
        let mut batches = Vec::new(); // a replay has the count from a checkpoint, which may be anything
        for _ in 0..count {
            let task = task_mut(&mut self.task);
            let failed = |source| TrainError::Data { step, source };
            let batch = task.next_batch().map_err(failed)?;
            task.check(&self.model, &batch).map_err(failed)?;
            let size = task.size(&batch);
            batches.push((batch, size));
        }
        if self.replicas.count() > 1 {
            check_even(&batches).map_err(|source| TrainError::Data { step, source })?;
        }
        Ok(batches)
    }

    /// Adds the sums of all replicas to this device's.
    pub(super) fn reduce(&mut self, theirs: Answers<Present>, own: Sums) -> Result<Sums, Lost> {
        let Self {
            model,
            replicas,
            device,
            ..
        } = self;
        replicas.reduce(theirs, own, (&**model, device))
    }

    /// Adds the totals of all replicas to this device's.
    pub(super) fn add_up(
        &mut self,
        theirs: Answers<Result<HostTotals, String>>,
        totals: &mut Totals,
    ) -> Result<(), Lost> {
        self.replicas.add_up(theirs, totals, &self.device)
    }

    /// Moves the parameters against the gradients, on every device; `rates` has a learning rate for each group.
    pub(super) fn step(&mut self, grads: GradientsParams, rates: &[f64]) -> Result<(), Lost> {
        let Self {
            model,
            optimizers,
            replicas,
            ..
        } = self;
        model.change(|model| replicas.follow(optimizers.step(model, grads, rates)))
    }
}

fn task_mut<T>(task: &mut Arc<T>) -> &mut T {
    Arc::get_mut(task).expect("replicas let go of the task before they answer")
}

/// The model without its tape, for callbacks that have it write or score texts.
impl<T: Task> TextModel for Compute<T> {
    fn generate(&self, prompts: &[(&str, Sampling)]) -> Option<Result<Vec<Generated>, BoxError>> {
        self.task.generate(&self.model.valid(), prompts)
    }

    fn score(&self, rows: &[&[i32]]) -> Option<Result<Vec<Vec<TokenScore>>, BoxError>> {
        self.task.score(&self.model.valid(), rows)
    }
}

/// Refuses micro-batches that several devices cannot share evenly. On one device they are as they were put together.
fn check_even<B>(batches: &[(B, BatchSize)]) -> Result<(), BoxError> {
    let Some(((_, first), others)) = batches.split_first() else {
        return Ok(());
    };
    match others
        .iter()
        .find(|(_, size)| size.samples != first.samples)
    {
        None => Ok(()),
        Some((_, other)) => Err(format!(
            "several devices need micro-batches of one size; one has {} sample(s), another {}",
            first.samples, other.samples
        )
        .into()),
    }
}
