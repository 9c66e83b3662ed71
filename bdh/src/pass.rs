//! Forward and backward passes of micro-batches.

use crate::params;
use crate::probe::Probe;
use crate::seed;
use crate::task::Task;
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use std::sync::{Arc, Mutex, PoisonError};

/// Parameters that all passes of a step share, on all devices.
#[derive(Clone)]
pub(crate) struct MicroBatchPass {
    pub(crate) seed: u64,
    pub(crate) step: u64,
    /// Number of micro-batches of the step, on all devices together.
    pub(crate) count: usize,
    /// Lock of the random number generator, held during forward passes if replicas share a device. On the CPU this makes
    /// dropout repeatable. On GPUs it does not: burn has one generator for all, and draws from it when an operation runs,
    /// which may be after the lock is released.
    pub(crate) draws: Option<Arc<Mutex<()>>>,
}

/// Summed losses and gradients of micro-batches.
pub(crate) struct GradSums {
    /// Sum of the mean loss of each micro-batch, `[1]`.
    pub(crate) loss: Tensor<1>,
    /// Sum of gradients, each divided by the number of micro-batches of the step.
    pub(crate) grads: GradientsParams,
}

impl MicroBatchPass {
    /// Runs the forward and the backward pass of micro-batch `index` of the step.
    pub(crate) fn run<T: Task>(
        &self,
        task: &T,
        model: &T::Model,
        device: &Device,
        index: usize,
        batch: &T::Batch,
        probe: &Probe<'_>,
    ) -> GradSums {
        let draws = self.draws.as_deref();
        let lock = draws.map(|draws| draws.lock().unwrap_or_else(PoisonError::into_inner));
        // The seed depends on (seed, step, micro-batch) alone, so evals, samples and callbacks do not change it.
        device.seed(seed::forward(self.seed, self.step, index as u64));
        let mut loss = task.loss(model, batch, probe);
        drop(lock);
        let value = loss.clone().inner();

        // Backward sums over micro-batches; this makes it their mean.
        if self.count > 1 {
            loss = loss / self.count as f64;
        }
        GradSums {
            loss: value,
            grads: GradientsParams::from_grads(loss.backward(), model),
        }
    }
}

impl GradSums {
    /// Adds the sums of further micro-batches.
    pub(crate) fn add<M: Module>(self, model: &M, more: Self) -> Self {
        let Self { loss, mut grads } = self;
        params::accumulate(model, &mut grads, more.grads);
        Self {
            loss: loss + more.loss,
            grads,
        }
    }
}
