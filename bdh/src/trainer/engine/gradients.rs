//! Forward and backward passes: from batches to the mean gradients of a step.

use super::Engine;
use crate::clock::Clock;
use crate::deferred::Deferred;
use crate::error::TrainError;
use crate::event::{AfterBackward, MicroBatch, StepStart};
use crate::hook::Hook;
use crate::outcome::Warning;
use crate::params;
use crate::pass::{GradSums, MicroBatchPass};
use crate::probe::Tap;
use crate::stats::Stats;
use crate::task::{BatchSize, Task};
use crate::trainer::compute::Compute;
use burn::optim::GradientsParams;
use std::cell::RefCell;

/// Names that a task cannot log, because the trainer records other values under their keys.
const RESERVED: [&str; 2] = ["loss", "skipped"];

/// The result of a step's backward passes.
pub(in crate::trainer) struct Backward {
    /// The mean loss.
    pub(in crate::trainer) loss: Deferred,
    /// The mean gradients.
    pub(in crate::trainer) grads: GradientsParams,
    /// Numbers that the task logged with its losses, by name: means over the micro-batches.
    pub(in crate::trainer) logged: Vec<(String, Deferred)>,
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
            batches_per_epoch: previous.batches_per_epoch,
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
        let GradSums {
            loss,
            mut grads,
            logged,
        } = self.sum_gradients(batches, &taps, previous)?;
        if grads.is_empty() {
            return Err(TrainError::NoGradients { step });
        }
        let Compute { model, frozen, .. } = &self.compute;
        frozen.remove_frozen(&**model, &mut grads, previous, self.plan.length);
        Ok(Backward {
            loss: Deferred::from(loss) / count as f64,
            grads,
            logged: logged.means(),
            taps: taps.into_inner(),
        })
    }

    /// Returns the task's numbers under their keys, which are the trainer's from now on.
    ///
    /// Numbers with a name of the trainer's own values are left out, with a warning.
    pub(in crate::trainer) fn keys_of_logged(
        &mut self,
        logged: Vec<(String, Deferred)>,
    ) -> Vec<(String, Deferred)> {
        let mut kept = Vec::new();
        for (name, value) in logged {
            if RESERVED.contains(&name.as_str()) {
                self.warn_of_reserved(&name);
            } else {
                kept.push((format!("train/{name}"), value));
            }
        }
        let keys = kept.iter().map(|(key, _)| key.clone());
        self.observers.callbacks.get_mut().keep_for_trainer(keys);
        kept
    }

    /// Warns, once in a run, that the task logs a number under a key of the trainer.
    fn warn_of_reserved(&mut self, name: &str) {
        if std::mem::replace(&mut self.has_warned_of_reserved, true) {
            return;
        }
        self.io.warn(Warning {
            source: "task".to_owned(),
            phase: "loss".to_owned(),
            step: self.clock.step,
            cause: format!("it logs `{name}`, and `train/{name}` is recorded by the trainer"),
            consequence: "such values of the task are left out; log them under another name"
                .to_owned(),
        });
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
        let share = self.plan.length.share(previous);
        let pass = replicas.pass(self.seed, step, count, share);
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
            let wants_taps = self.observers.listen() && Some(index) == last;
            let taps = wants_taps.then_some(taps);
            let more = pass.run(task, model, device, index, &batch, taps);
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
        let Compute {
            model,
            table,
            frozen,
            ..
        } = &self.compute;
        let gradients = Stats::new(table, || {
            let mut gradients = params::gradients(&**model, &sums.grads);
            frozen.leave_out(table, &mut gradients, previous, self.plan.length);
            gradients
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
