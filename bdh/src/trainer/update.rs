//! Inside one step: from batches to moved parameters.

use super::{MODEL_IS_IN, Trainer};
use crate::callback::{Callback, Hook};
use crate::event::{
    AfterBackward, AfterOptimizerStep, BeforeOptimizerStep, Cx, MicroBatch, StepStart,
};
use crate::intervention::{Intervene, Verdict};
use crate::stats::Stats;
use crate::task::{BatchSize, Task};
use crate::{Clock, Deferred, Probe, Tap, TrainError, params, seed};
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
    /// What the model showed during the last micro-batch.
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

/// What clipping did, on the device.
struct Clipping {
    norm: Deferred,
    coefficient: Deferred,
    factor: Tensor<1>,
}

impl<T: Task> Trainer<T> {
    /// The step's micro-batches, all of them before anything is computed: who is due may depend on how
    /// many tokens they hold.
    pub(super) fn fetch(&mut self) -> Result<Vec<(T::Batch, BatchSize)>, TrainError> {
        let step = self.clock.step + 1;
        self.device.seed(seed::data(self.settings.seed, step));
        let task = &mut self.task;
        let model = self.model.as_ref().expect(MODEL_IS_IN);
        let mut next = || {
            let batch = task
                .next_batch()
                .and_then(|batch| task.check(model, &batch).map(|()| batch))
                .map_err(|source| TrainError::Data { step, source })?;
            let size = task.size(&batch);
            Ok((batch, size))
        };
        (0..self.settings.grad_accum_steps).map(|_| next()).collect()
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
        batches: &[(T::Batch, BatchSize)],
        previous: &Clock,
    ) -> Result<Backward, TrainError> {
        let step = self.clock.step;
        let model = self.model.as_ref().expect(MODEL_IS_IN);
        let cx = cx!(self, &self.clock, Some(previous), model);
        let event = StepStart { cx };
        self.callbacks.fire(Hook::OnStepStart, &self.bus, step, |c| c.on_step_start(&event))?;

        let count = batches.len();
        let taps = RefCell::default();
        let mut sum: Option<(Tensor<1>, GradientsParams)> = None;
        for (index, (batch, size)) in batches.iter().enumerate() {
            // From (seed, step, micro-batch) and nothing else: no eval, sample or callback shifts it.
            self.device.seed(seed::forward(self.settings.seed, step, index as u64));
            let listens = self.callbacks.listening && index + 1 == count;
            let probe = if listens { Probe::into_taps(&taps) } else { Probe::off() };
            let loss = self.task.loss(model, batch, &probe);
            let value = loss.clone().inner();

            // Backward sums over micro-batches; this makes it their mean.
            let share = if count > 1 { loss / count as f64 } else { loss };
            let grads = GradientsParams::from_grads(share.backward(), model);
            if self.callbacks.want(Hook::OnMicroBatch) {
                let loss = Deferred::from(value.clone());
                let gradients = Stats::new(&self.table, || params::gradients(model, &grads));
                let gradients = &gradients;
                let event = MicroBatch { cx, index, count, size: *size, loss: &loss, gradients };
                let call = |c: &mut dyn Callback| c.on_micro_batch(&event);
                self.callbacks.fire(Hook::OnMicroBatch, &self.bus, step, call)?;
            }
            sum = Some(match sum.take() {
                None => (value, grads),
                Some((total, mut all)) => {
                    params::accumulate(model, &mut all, grads);
                    (total + value, all)
                }
            });
        }
        let (total, grads) = sum.expect("the builder refuses 0 micro-batches");
        if grads.is_empty() {
            return Err(TrainError::NoGradients { step });
        }
        let loss = Deferred::from(total) / count as f64;
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
        self.model = Some(match verdict {
            Verdict::Apply => self.optimizers.step(model, grads, &rates),
            Verdict::Skip => model,
        });
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

    /// The factor that brings the gradients down to the largest norm allowed, if there is one, without
    /// waiting for the norm.
    ///
    /// Source: PyTorch's `clip_grad_norm_`, its `1e-6` included.
    fn clipping(&self, gradients: &Stats<'_>) -> Option<Clipping> {
        let max = self.settings.clip_grad_norm?;
        let norm = gradients.l2_on(&self.device.clone().inner());
        let factor = ((norm + 1e-6).recip() * max).clamp_max(1.0);
        let coefficient = Deferred::from(factor.clone());
        Some(Clipping { norm: gradients.l2(), coefficient, factor })
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
        let call = |c: &mut dyn Callback| c.after_backward(&event);
        self.callbacks.fire(Hook::AfterBackward, &self.bus, self.clock.step, call)
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
                Err(format!("it panicked: {}", crate::sink::panic_text(&*panic)).into())
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
        let call = |c: &mut dyn Callback| c.before_optimizer_step(&event);
        self.callbacks.fire(Hook::BeforeOptimizerStep, &self.bus, self.clock.step, call)
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
        let call = |c: &mut dyn Callback| c.after_optimizer_step(&event);
        self.callbacks.fire(Hook::AfterOptimizerStep, &self.bus, self.clock.step, call)
    }
}
