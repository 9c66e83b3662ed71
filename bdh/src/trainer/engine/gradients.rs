//! Forward and backward: from batches to the mean gradients of a step.

use super::Engine;
use crate::clock::Clock;
use crate::deferred::Deferred;
use crate::error::TrainError;
use crate::event::{AfterBackward, MicroBatch, StepStart};
use crate::hook::Hook;
use crate::params;
use crate::pass::Sums;
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
    /// Activations of the last micro-batch; of several devices, the first one's last.
    taps: Vec<Tap>,
}

impl<T: Task> Engine<T> {
    /// Moves the clock to the end of the step on these batches; gives the clock before.
    pub(in crate::trainer) fn advance(&mut self, batches: &[(T::Batch, BatchSize)]) -> Clock {
        let sum = |count: fn(&BatchSize) -> usize| -> u64 {
            batches.iter().map(|(_, size)| count(size) as u64).sum()
        };
        let previous = self.clock;
        self.clock = Clock {
            step: previous.step + 1,
            // A checkpoint says where they stand; one that somebody crafted must not overflow them.
            micro_batches: previous.micro_batches.saturating_add(batches.len() as u64),
            tokens: previous.tokens.saturating_add(sum(|size| size.tokens)),
            samples: previous.samples.saturating_add(sum(|size| size.samples)),
            // Fixed here, so that cadences by time are decided once for the whole step.
            elapsed: self
                .elapsed_before
                .saturating_add(self.observers.overhead.steps),
        };
        previous
    }

    /// Forward and backward for each micro-batch; their means stay on the device.
    pub(in crate::trainer) fn backward(
        &mut self,
        batches: Vec<(T::Batch, BatchSize)>,
        previous: &Clock,
    ) -> Result<Backward, TrainError> {
        let step = self.clock.step;
        let cx = self.cx(Some(previous));
        self.observers.fire(&StepStart { cx })?;

        let compute = &self.compute;
        let model = &*compute.model;
        let count = batches.len();
        let pass = compute.replicas.pass(self.seed, step, count);
        let (batches, sizes): (Vec<_>, Vec<_>) = batches.into_iter().unzip();
        let mut shares = compute.replicas.deal(batches).into_iter();
        let own = shares.next().expect("the first replica is always there");
        let theirs = compute.replicas.backward(&compute.task, &pass, shares);

        let taps = RefCell::default();
        let last = own.last().map(|(index, _)| *index);
        let mut sums: Option<Sums> = None;
        for (index, batch) in own {
            let listens = self.observers.listen() && Some(index) == last;
            let probe = if listens {
                Probe::into_taps(&taps)
            } else {
                Probe::off()
            };
            let more = pass.run(
                (&*compute.task, model),
                &compute.device,
                (index, &batch),
                &probe,
            );
            if self.observers.want(Hook::OnMicroBatch) {
                let loss = Deferred::from(more.loss.clone());
                let gradients =
                    Stats::new(&compute.table, || params::gradients(model, &more.grads));
                let (gradients, size) = (&gradients, sizes[index]);
                self.observers.fire(&MicroBatch {
                    cx,
                    index,
                    count,
                    size,
                    loss: &loss,
                    gradients,
                })?;
            }
            sums = Some(match sums.take() {
                None => more,
                Some(sums) => sums.add(model, more),
            });
        }
        let sums = sums.expect("the builder refuses 0 micro-batches");
        let Sums { loss, grads } = self
            .compute
            .reduce(theirs, sums)
            .map_err(|lost| lost.at_step(step))?;
        if grads.is_empty() {
            return Err(TrainError::NoGradients { step });
        }
        let loss = Deferred::from(loss) / count as f64;
        Ok(Backward {
            loss,
            grads,
            taps: taps.into_inner(),
        })
    }

    /// Shows the mean gradients, before clipping, to the callbacks that are due.
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
            cx: self.cx(Some(previous)),
            loss: &backward.loss,
            weights: &weights,
            gradients,
            activations: &backward.taps,
        })
    }
}
