//! Inside one step: from batches to moved parameters.

use super::{MODEL_IS_IN, Trainer};
use crate::clip::Clipping;
use crate::clock::Clock;
use crate::deferred::Deferred;
use crate::error::TrainError;
use crate::event::{
    AfterBackward, AfterOptimizerStep, BeforeOptimizerStep, Cx, MicroBatch, StepStart,
};
use crate::hook::Hook;
use crate::intervention::{Intervene, Verdict};
use crate::params;
use crate::pass::Sums;
use crate::probe::{Probe, Tap};
use crate::seed;
use crate::stats::Stats;
use crate::task::{BatchSize, Task};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// What the backward passes of a step gave.
pub(super) struct Backward {
    /// The mean loss.
    pub(super) loss: Deferred,
    /// The mean gradients.
    grads: GradientsParams,
    /// What the model showed during the last micro-batch, of several devices' the first one's last.
    taps: Vec<Tap>,
}

/// What the optimizer is about to do.
struct Ready {
    grads: GradientsParams,
    verdict: Verdict,
    lrs: Vec<(String, f64)>,
}

/// How the update went.
pub(super) struct Updated {
    pub(super) skipped: bool,
    pub(super) lrs: Vec<(String, f64)>,
}

impl<T: Task> Trainer<T> {
    /// The step's micro-batches, all of them before anything is computed: who is due may depend on how
    /// many tokens they hold.
    pub(super) fn fetch(&mut self) -> Result<Vec<(T::Batch, BatchSize)>, TrainError> {
        let step = self.clock.step + 1;
        self.device.seed(seed::data(self.settings.seed, step));
        let task = super::task_mut(&mut self.task);
        let model = self.model.as_ref().expect(MODEL_IS_IN);
        let mut next = || {
            let batch = task
                .next_batch()
                .and_then(|batch| task.check(model, &batch).map(|()| batch))
                .map_err(|source| TrainError::Data { step, source })?;
            let size = task.size(&batch);
            Ok((batch, size))
        };
        let count = self.settings.grad_accum_steps;
        let batches = (0..count).map(|_| next()).collect::<Result<Vec<_>, TrainError>>()?;
        let others = batches.iter().filter(|_| self.replicas.count() > 1);
        match others.map(|(_, size)| *size).find(|size| size.samples != batches[0].1.samples) {
            Some(other) => {
                Err(TrainError::Data { step, source: uneven(batches[0].1, other).into() })
            }
            None => Ok(batches),
        }
    }

    /// The clock as it stands when the step on these batches is complete.
    pub(super) fn clock_after(&self, batches: &[(T::Batch, BatchSize)]) -> Clock {
        let sum = |count: fn(&BatchSize) -> usize| -> u64 {
            batches.iter().map(|(_, size)| count(size) as u64).sum()
        };
        Clock {
            step: self.clock.step + 1,
            // A checkpoint says where they stand; one that somebody crafted must not overflow them.
            micro_batches: self.clock.micro_batches.saturating_add(batches.len() as u64),
            tokens: self.clock.tokens.saturating_add(sum(|size| size.tokens)),
            samples: self.clock.samples.saturating_add(sum(|size| size.samples)),
            // Fixed here, so that what is due by time is decided once for the whole step.
            elapsed: self.elapsed_before.saturating_add(self.progress.overhead.steps),
        }
    }

    /// Forward and backward for each micro-batch; their means stay on the device.
    pub(super) fn backward(
        &mut self,
        batches: Vec<(T::Batch, BatchSize)>,
        previous: &Clock,
    ) -> Result<Backward, TrainError> {
        let step = self.clock.step;
        let model = self.model.as_ref().expect(MODEL_IS_IN);
        let cx = cx!(self, &self.clock, Some(previous), model);
        let event = StepStart { cx };
        self.callbacks.fire(&event)?;

        let count = batches.len();
        let pass = self.replicas.pass(self.settings.seed, step, count);
        let (batches, sizes): (Vec<_>, Vec<_>) = batches.into_iter().unzip();
        let mut shares = self.replicas.deal(batches).into_iter();
        let own = shares.next().expect("the first replica is always there");
        let theirs = self.replicas.backward(&self.task, &pass, shares);

        let taps = RefCell::default();
        let last = own.last().map(|(index, _)| *index);
        let mut sums: Option<Sums> = None;
        for (index, batch) in own {
            let listens = self.callbacks.listening && Some(index) == last;
            let probe = if listens { Probe::into_taps(&taps) } else { Probe::off() };
            let more = pass.run((&*self.task, model), &self.device, (index, &batch), &probe);
            if self.callbacks.want(Hook::OnMicroBatch) {
                let loss = Deferred::from(more.loss.clone());
                let gradients = Stats::new(&self.table, || params::gradients(model, &more.grads));
                let (gradients, size) = (&gradients, sizes[index]);
                let event = MicroBatch { cx, index, count, size, loss: &loss, gradients };
                self.callbacks.fire(&event)?;
            }
            sums = Some(match sums.take() {
                None => more,
                Some(sums) => sums.add(model, more),
            });
        }
        let sums = sums.expect("the builder refuses 0 micro-batches");
        let sums = self.replicas.reduce(theirs, sums, (model, &self.device));
        let Sums { loss, grads } = sums.map_err(|lost| self.lost(lost))?;
        if grads.is_empty() {
            return Err(TrainError::NoGradients { step });
        }
        let loss = Deferred::from(loss) / count as f64;
        Ok(Backward { loss, grads, taps: taps.into_inner() })
    }

    /// From raw gradients to moved parameters, each state of them shown to whoever is due.
    pub(super) fn update(
        &mut self,
        backward: Backward,
        previous: &Clock,
    ) -> Result<Updated, TrainError> {
        let model = self.model.take().expect(MODEL_IS_IN);
        let ready = self.prepare(&model, backward, previous);
        let Ready { grads, verdict, lrs } = match ready {
            Ok(ready) => ready,
            Err(error) => {
                self.model = Some(model); // `on_fit_end` is to see it
                return Err(error);
            }
        };
        // Handles to the old values keep the optimizer from working in place; so only on request.
        let before = self.callbacks.want(Hook::AfterOptimizerStep).then(|| model.clone());
        let rates: Vec<_> = lrs.iter().map(|(_, lr)| *lr).collect();
        let (model, followed) = match verdict {
            Verdict::Apply => self.replicas.follow(self.optimizers.step(model, grads, &rates)),
            Verdict::Skip => (model, Ok(())),
        };
        self.model = Some(model);
        followed.map_err(|lost| self.lost(lost))?;
        if let Some(before) = before {
            self.after_optimizer_step(&before, previous)?;
        }
        Ok(Updated { skipped: verdict == Verdict::Skip, lrs })
    }

    /// Shows gradients that no optimizer gets.
    pub(super) fn show_gradients(
        &mut self,
        backward: Backward,
        previous: &Clock,
    ) -> Result<(), TrainError> {
        let Backward { loss, grads, taps } = backward;
        let model = self.model.take().expect(MODEL_IS_IN);
        let table = Arc::clone(&self.table);
        let raw = Stats::new(&table, || params::gradients(&model, &grads));
        let shown = self.after_backward(&model, previous, &loss, &raw, &taps);
        drop(raw);
        self.model = Some(model);
        shown
    }

    /// Everything about a step that comes between the backward pass and the optimizer.
    fn prepare(
        &mut self,
        model: &T::Model,
        backward: Backward,
        previous: &Clock,
    ) -> Result<Ready, TrainError> {
        let Backward { loss, mut grads, taps } = backward;
        let table = Arc::clone(&self.table);
        let raw = Stats::new(&table, || params::gradients(model, &grads));
        self.after_backward(model, previous, &loss, &raw, &taps)?;
        // Without interventions, clipping shares the norm that callbacks have asked for.
        let of_raw = if self.interventions.is_empty() { self.clipping(&raw) } else { None };
        drop(raw);

        let (verdict, lr_factor) = self.intervene(model, previous, &mut grads)?;
        let clipping = of_raw
            .or_else(|| self.clipping(&Stats::new(&table, || params::gradients(model, &grads))));
        if let Some(clipping) = &clipping {
            params::scale_gradients(model, &mut grads, clipping.factor.clone());
        }
        let lrs = self.lrs(lr_factor);
        let given = Stats::new(&table, || params::gradients(model, &grads));
        self.before_optimizer_step(model, previous, &given, clipping.as_ref(), &lrs)?;
        drop(given); // the optimizer shall be the last to hold the gradients
        Ok(Ready { grads, verdict, lrs })
    }

    /// Ends the run if the replicas are no longer equal, on the steps on which they are compared.
    pub(super) fn compare_replicas(&mut self, previous: &Clock) -> Result<(), TrainError> {
        let (step, steps) = (self.clock.step, self.settings.steps);
        let is_due = self.settings.check_replicas.is_due(Some(previous), &self.clock, steps);
        if !is_due || self.replicas.count() == 1 {
            return Ok(());
        }
        let model = self.model.as_ref().expect(MODEL_IS_IN);
        match self.replicas.apart(model).map_err(|lost| self.lost(lost))? {
            Some((replica, param)) => Err(TrainError::ReplicasApart { replica, param, step }),
            None => Ok(()),
        }
    }

    /// What clipping does to these gradients, if there is a largest norm.
    fn clipping(&self, gradients: &Stats<'_>) -> Option<Clipping> {
        let max = self.settings.clip_grad_norm?;
        Some(Clipping::to(max, gradients, &self.device))
    }

    /// Each group's learning rate for the step under way.
    fn lrs(&self, factor: f64) -> Vec<(String, f64)> {
        let lrs = self.optimizers.lrs(self.clock.step - 1, self.settings.steps);
        lrs.into_iter().map(|(name, lr)| (name.to_owned(), lr * factor)).collect()
    }

    fn after_backward(
        &mut self,
        model: &T::Model,
        previous: &Clock,
        loss: &Deferred,
        gradients: &Stats<'_>,
        activations: &[Tap],
    ) -> Result<(), TrainError> {
        if !self.callbacks.want(Hook::AfterBackward) {
            return Ok(());
        }
        let cx = cx!(self, &self.clock, Some(previous), model);
        let weights = Stats::new(&self.table, || params::weights(model));
        let event = AfterBackward { cx, loss, weights: &weights, gradients, activations };
        self.callbacks.fire(&event)
    }

    /// Lets every intervention act; whether to go on with the step, and the factor on learning rates.
    fn intervene(
        &mut self,
        model: &T::Model,
        previous: &Clock,
        grads: &mut GradientsParams,
    ) -> Result<(Verdict, f64), TrainError> {
        let (mut verdict, mut lr_factor) = (Verdict::Apply, 1.0);
        let cx = cx!(self, &self.clock, Some(previous), model);
        for (index, intervention) in self.interventions.iter_mut().enumerate() {
            // So that what it draws does not depend on what observers drew before.
            self.device.seed(seed::intervention(self.settings.seed, self.clock.step, index as u64));
            let mut replace = |make: &mut dyn FnMut(usize, Tensor<1>) -> Tensor<1>| {
                params::replace_gradients(model, grads, make);
            };
            let (table, lr_factor) = (&*self.table, &mut lr_factor);
            let mut at = Intervene { cx, table, replace: &mut replace, lr_factor };
            let result = catch_unwind(AssertUnwindSafe(|| intervention.intervene(&mut at)));
            let result = result.unwrap_or_else(|panic| {
                Err(format!("it panicked: {}", crate::failure::panic_text(&*panic)).into())
            });
            let answer = result.map_err(|source| TrainError::Callback {
                callback: intervention.name(),
                hook: "intervene",
                step: self.clock.step,
                source,
            })?;
            if answer == Verdict::Skip {
                verdict = Verdict::Skip;
            }
        }
        Ok((verdict, lr_factor))
    }

    fn before_optimizer_step(
        &mut self,
        model: &T::Model,
        previous: &Clock,
        gradients: &Stats<'_>,
        clipping: Option<&Clipping>,
        lrs: &[(String, f64)],
    ) -> Result<(), TrainError> {
        if !self.callbacks.want(Hook::BeforeOptimizerStep) {
            return Ok(());
        }
        let cx = cx!(self, &self.clock, Some(previous), model);
        let grad_norm = clipping.map(|clipping| &clipping.norm);
        let clip_coefficient = clipping.map(|clipping| &clipping.coefficient);
        let event = BeforeOptimizerStep { cx, gradients, grad_norm, clip_coefficient, lrs };
        self.callbacks.fire(&event)
    }

    fn after_optimizer_step(
        &mut self,
        before: &T::Model,
        previous: &Clock,
    ) -> Result<(), TrainError> {
        let model = self.model.as_ref().expect(MODEL_IS_IN);
        let cx = cx!(self, &self.clock, Some(previous), model);
        let weights = Stats::new(&self.table, || params::weights(model));
        let updates = Stats::new(&self.table, || params::updates(before, model));
        let event = AfterOptimizerStep { cx, weights: &weights, updates: &updates };
        self.callbacks.fire(&event)
    }
}

/// Why devices do not share a step evenly. On one device uneven micro-batches are as they were put together.
fn uneven(first: BatchSize, other: BatchSize) -> String {
    format!(
        "several devices need micro-batches of one size; one has {} sample(s), another {}",
        first.samples, other.samples
    )
}

#[cfg(test)]
mod tests {
    use crate::clock::Clock;
    use crate::error::TrainError;
    use crate::params;
    use crate::testing;

    #[test]
    fn replicas_that_differ_end_the_run_on_the_steps_on_which_they_are_compared() {
        let devices = crate::device::devices("cpu:0-1").expect("the CPU");
        let run = testing::tiny_run(10).grad_accum_steps(2).devices(devices);
        let mut trainer =
            run.check_replicas(crate::cadence::every(5)).build().expect("a valid run");
        trainer.open().expect("nothing to write");
        let model = trainer.model.take().expect("between steps it is in");
        let halved =
            params::weights(&model).into_iter().flatten().map(|weight| weight.flat() / 2.0);
        let halved = halved.collect();
        trainer.model = Some(params::with_weights(model, halved));
        let mut compare = |step| {
            let previous = Clock { step: step - 1, ..Clock::default() };
            trainer.clock.step = step;
            trainer.compare_replicas(&previous)
        };
        assert!(compare(4).is_ok());
        let Err(TrainError::ReplicasApart { replica: 1, param, step: 5 }) = compare(5) else {
            panic!("they differ")
        };
        assert_eq!(param, "embed.weight");
    }
}
