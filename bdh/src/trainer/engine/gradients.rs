//! Forward and backward passes: from batches to the mean gradients of a step.

use super::Engine;
use crate::clock::Clock;
use crate::deferred::Deferred;
use crate::error::TrainError;
use crate::event::{AfterBackward, MicroBatch, StepStart};
use crate::hook::Hook;
use crate::params;
use crate::pass::{GradSums, MicroBatchPass};
use crate::probe::{Probe, Tap};
use crate::stats::Stats;
use crate::task::{BatchSize, Task};
use burn::optim::GradientsParams;
use std::cell::RefCell;

/// The result of a step's backward passes.
pub(in crate::trainer) struct Backward {
    /// The mean loss.
    pub(in crate::trainer) loss: Deferred,
    /// The mean gradients.
    pub(in crate::trainer) grads: GradientsParams,
    /// Activations of the last micro-batch on the first device.
    taps: Vec<Tap>,
}

impl<T: Task> Engine<T> {
    /// Moves the clock to the end of the step on these batches. Returns the clock before it.
    pub(in crate::trainer) fn advance(&mut self, batches: &[(T::Batch, BatchSize)]) -> Clock {
        let (mut tokens, mut samples) = (0, 0);
        for (_, size) in batches {
            tokens += size.tokens as u64;
            samples += size.samples as u64;
        }
        let previous = self.clock;
        self.clock = Clock {
            step: previous.step + 1,
            // Saturating: the counts come from a checkpoint, and a crafted one must not overflow them.
            micro_batches: previous.micro_batches.saturating_add(batches.len() as u64),
            tokens: previous.tokens.saturating_add(tokens),
            samples: previous.samples.saturating_add(samples),
            // Fixed here, so that cadences on time are decided once for the whole step.
            elapsed: self
                .elapsed_before
                .saturating_add(self.observers.overhead.steps),
        };
        previous
    }

    /// Runs forward and backward on each micro-batch. The mean loss and gradients stay on the device.
    pub(in crate::trainer) fn backward(
        &mut self,
        batches: Vec<(T::Batch, BatchSize)>,
        previous: &Clock,
    ) -> Result<Backward, TrainError> {
        let ctx = self.ctx(Some(previous));
        self.observers.fire(&StepStart { ctx })?;

        let step = self.clock.step;
        let count = batches.len();
        let taps = RefCell::default();
        let GradSums { loss, grads } = self.sum_gradients(batches, &taps, previous)?;
        if grads.is_empty() {
            return Err(TrainError::NoGradients { step });
        }
        Ok(Backward {
            loss: Deferred::from(loss) / count as f64,
            grads,
            taps: taps.into_inner(),
        })
    }

    /// Sums the losses and gradients of the micro-batches, over all devices.
    fn sum_gradients(
        &mut self,
        batches: Vec<(T::Batch, BatchSize)>,
        taps: &RefCell<Vec<Tap>>,
        previous: &Clock,
    ) -> Result<GradSums, TrainError> {
        let step = self.clock.step;
        let count = batches.len();
        let (batches, sizes): (Vec<_>, Vec<_>) = batches.into_iter().unzip();
        let replicas = &self.compute.replicas;
        let pass = replicas.pass(self.seed, step, count);
        let mut shares = replicas.shard(batches).into_iter();
        let own = shares.next().expect("the first share is this device's");
        // Started first: the other devices compute while this thread runs its own share.
        let theirs = replicas.backward(&self.compute.task, &pass, shares);
        let own = self.own_backward(&pass, own, &sizes, taps, previous)?;
        self.compute
            .reduce(theirs, own)
            .map_err(|error| error.at_step(step))
    }

    /// Runs forward and backward on this device's share of the micro-batches.
    fn own_backward(
        &self,
        pass: &MicroBatchPass,
        batches: Vec<(usize, T::Batch)>,
        sizes: &[BatchSize],
        taps: &RefCell<Vec<Tap>>,
        previous: &Clock,
    ) -> Result<GradSums, TrainError> {
        let compute = &self.compute;
        let model = &*compute.model;
        let (task, device) = (&*compute.task, &compute.device);
        let last = batches.last().map(|(index, _)| *index);
        let mut sums: Option<GradSums> = None;
        for (index, batch) in batches {
            let probe = if self.observers.listen() && Some(index) == last {
                Probe::into_taps(taps)
            } else {
                Probe::off()
            };
            let more = pass.run(task, model, device, index, &batch, &probe);
            self.on_micro_batch(pass, index, sizes[index], &more, previous)?;
            sums = Some(match sums {
                None => more,
                Some(sums) => sums.add(model, more),
            });
        }
        Ok(sums.expect("a step has at least one micro-batch for each device"))
    }

    fn on_micro_batch(
        &self,
        pass: &MicroBatchPass,
        index: usize,
        size: BatchSize,
        sums: &GradSums,
        previous: &Clock,
    ) -> Result<(), TrainError> {
        if !self.observers.want(Hook::OnMicroBatch) {
            return Ok(());
        }
        let gradients = Stats::new(&self.compute.table, || {
            params::gradients(&*self.compute.model, &sums.grads)
        });
        self.observers.fire(&MicroBatch {
            ctx: self.ctx(Some(previous)),
            index,
            count: pass.count,
            size,
            loss: &Deferred::from(sums.loss.clone()),
            gradients: &gradients,
        })
    }

    /// Calls `after_backward` with the mean gradients, before clipping.
    pub(in crate::trainer) fn after_backward(
        &self,
        backward: &Backward,
        gradients: &Stats<'_>,
        previous: &Clock,
    ) -> Result<(), TrainError> {
        if !self.observers.want(Hook::AfterBackward) {
            return Ok(());
        }
        let weights = Stats::new(&self.compute.table, || {
            params::weights(&*self.compute.model)
        });
        self.observers.fire(&AfterBackward {
            ctx: self.ctx(Some(previous)),
            loss: &backward.loss,
            weights: &weights,
            gradients,
            activations: &backward.taps,
        })
    }
}
