//! Forward and backward passes of a step's micro-batches.

use crate::params;
use crate::probe::Probe;
use crate::seed;
use crate::task::Task;
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use std::sync::{Arc, Mutex, PoisonError};

/// What all passes of a step have in common, on whichever device they run.
#[derive(Clone)]
pub(crate) struct Pass {
    pub(crate) seed: u64,
    pub(crate) step: u64,
    /// Micro-batches of the step, on all devices together.
    pub(crate) count: usize,
    /// Held while a model draws, where replicas share a device: on the CPU, that makes dropout repeatable. burn has one
    /// generator for all GPUs, and draws from it when an operation runs, which may be after this is let go of.
    pub(crate) draws: Option<Arc<Mutex<()>>>,
}

/// Losses and gradients of some of a step's micro-batches.
pub(crate) struct Sums {
    /// The sum of their mean losses, `[1]`.
    pub(crate) loss: Tensor<1>,
    /// The sum of their shares in the step's mean gradients.
    pub(crate) grads: GradientsParams,
}

impl Pass {
    /// Takes micro-batch `index` of the step forward and backward.
    pub(crate) fn run<T: Task>(
        &self,
        (task, model): (&T, &T::Model),
        device: &Device,
        (index, batch): (usize, &T::Batch),
        probe: &Probe<'_>,
    ) -> Sums {
        let draws = self.draws.as_deref();
        let turn = draws.map(|draws| draws.lock().unwrap_or_else(PoisonError::into_inner));
        // From (seed, step, micro-batch) and nothing else: no eval, sample or callback shifts it.
        device.seed(seed::forward(self.seed, self.step, index as u64));
        let loss = task.loss(model, batch, probe);
        drop(turn);
        let value = loss.clone().inner();

        // Backward sums over micro-batches; this makes it their mean.
        let share = if self.count > 1 {
            loss / self.count as f64
        } else {
            loss
        };
        Sums {
            loss: value,
            grads: GradientsParams::from_grads(share.backward(), model),
        }
    }
}

impl Sums {
    /// Adds those of further micro-batches.
    pub(crate) fn add<M: Module>(self, model: &M, more: Self) -> Self {
        let Self { loss, mut grads } = self;
        params::accumulate(model, &mut grads, more.grads);
        Self {
            loss: loss + more.loss,
            grads,
        }
    }
}
