//! Forward and backward passes of micro-batches.

use crate::loss_context::{LossContext, LossLog};
use crate::params;
use crate::probe::Tap;
use crate::seed;
use crate::task::Task;
use crate::turn;
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use std::cell::RefCell;
use std::sync::{Arc, Mutex, PoisonError};

/// Parameters that all passes of a step share, on all devices.
#[derive(Clone)]
pub(crate) struct MicroBatchPass {
    pub(crate) seed: u64,
    pub(crate) step: u64,
    /// Number of micro-batches of the step, on all devices together.
    pub(crate) count: usize,
    /// Share of the run that was done before the step, 0 to 1.
    pub(crate) share: f64,
    /// Lock of the random number generator, held during forward passes if replicas share a device. On the CPU this makes
    /// dropout repeatable. On GPUs it does not: burn has one generator for all, and draws from it when an operation runs,
    /// which may be after the lock is released.
    pub(crate) draws: Option<Arc<Mutex<()>>>,
    /// Whether a number is drawn after each forward pass, which other draws in the process would change.
    pub(crate) is_traced: bool,
}

/// Summed losses and gradients of micro-batches.
pub(crate) struct GradSums {
    /// Sum of the mean loss of each micro-batch, `[1]`.
    pub(crate) loss: Tensor<1>,
    /// Sum of gradients, each divided by the number of micro-batches of the step.
    pub(crate) grads: GradientsParams,
    /// Numbers that the task logged while it computed the losses.
    pub(crate) logged: LossLog,
}

impl MicroBatchPass {
    /// Runs the forward and the backward pass of micro-batch `index` of the step. Activations go to `taps`.
    pub(crate) fn run<T: Task>(
        &self,
        task: &T,
        model: &T::Model,
        device: &Device,
        index: usize,
        batch: &T::Batch,
        taps: Option<&RefCell<Vec<Tap>>>,
    ) -> GradSums {
        let draws = self.draws.as_deref();
        let lock = draws.map(|draws| draws.lock().unwrap_or_else(PoisonError::into_inner));
        // The seed depends on (seed, step, micro-batch) alone, so evals, samples and callbacks do not change it.
        device.seed(seed::forward(self.seed, self.step, index as u64));
        let logged = RefCell::default();
        let context = LossContext::new(self.step, self.share, taps, &logged);
        let mut loss = task.loss(model, batch, &context);
        if self.is_traced {
            turn::trace(device, self.step, index);
        }
        drop(lock);
        let value = loss.clone().inner();

        // Backward sums over micro-batches; this makes it their mean.
        if self.count > 1 {
            loss = loss / self.count as f64;
        }
        GradSums {
            loss: value,
            grads: GradientsParams::from_grads(loss.backward(), model),
            logged: logged.into_inner(),
        }
    }
}

impl GradSums {
    /// Adds the sums of further micro-batches.
    pub(crate) fn add<M: Module>(self, model: &M, more: Self) -> Self {
        let Self {
            loss,
            mut grads,
            mut logged,
        } = self;
        logged.merge(more.logged);
        params::accumulate(model, &mut grads, more.grads);
        Self {
            loss: loss + more.loss,
            grads,
            logged,
        }
    }
}
