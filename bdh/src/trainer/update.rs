//! The optimizer update: from gradients to updated parameters.

use super::Trainer;
use super::engine::Backward;
use crate::clip::ClipFactor;
use crate::clock::Clock;
use crate::error::TrainError;
use crate::event::{AfterOptimizerStep, BeforeOptimizerStep, EvalReport};
use crate::failure::{BoxError, panic_text};
use crate::hook::Hook;
use crate::intervention::{Intervention, InterventionContext, UpdateDecision};
use crate::params;
use crate::replicas::Divergence;
use crate::schedule::{Progress, is_rate};
use crate::seed;
use crate::stats::Stats;
use crate::task::Task;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The optimizer's input.
struct Ready {
    grads: GradientsParams,
    decision: UpdateDecision,
    lrs: Vec<(String, f64)>,
}

/// The result of an update.
pub(super) struct Updated {
    pub(super) skipped: bool,
    pub(super) lrs: Vec<(String, f64)>,
}

impl<T: Task> Trainer<T> {
    /// Updates the parameters from raw gradients, and calls the hooks on the way.
    pub(super) fn update(
        &mut self,
        backward: Backward,
        previous: &Clock,
    ) -> Result<Updated, TrainError> {
        let Ready {
            grads,
            decision,
            lrs,
        } = self.prepare(backward, previous)?;
        let skipped = decision == UpdateDecision::Skip;
        if skipped {
            self.after_optimizer_step(&self.engine.compute.model, previous)?;
        } else {
            self.apply(grads, &lrs, previous)?;
        }
        Ok(Updated { skipped, lrs })
    }

    /// Updates the parameters on every device.
    fn apply(
        &mut self,
        grads: GradientsParams,
        lrs: &[(String, f64)],
        previous: &Clock,
    ) -> Result<(), TrainError> {
        // Only on request: handles to the old values keep the optimizer from working in place.
        let is_wanted = self.engine.observers.want(Hook::AfterOptimizerStep);
        let before = is_wanted.then(|| T::Model::clone(&self.engine.compute.model));
        let rates: Vec<_> = lrs.iter().map(|(_, lr)| *lr).collect();
        let step = self.engine.clock.step;
        self.engine
            .compute
            .step(grads, &rates)
            .map_err(|error| error.at_step(step))?;
        if let Some(before) = before {
            self.after_optimizer_step(&before, previous)?;
        }
        Ok(())
    }

    /// Prepares the optimizer's input: hooks, interventions, clipping, learning rates.
    fn prepare(&mut self, mut backward: Backward, previous: &Clock) -> Result<Ready, TrainError> {
        let clipping = self.after_backward(&backward, previous)?;
        let mut lrs = self.lrs(previous);
        let decision = self.intervene(previous, &mut backward.grads, &mut lrs)?;
        check_rates(&lrs, self.engine.clock.step)?;
        let mut grads = backward.grads;
        let clipping = self.clip(&mut grads, clipping);
        self.before_optimizer_step(previous, &grads, clipping.as_ref(), &lrs)?;
        Ok(Ready {
            grads,
            decision,
            lrs,
        })
    }

    /// Calls `after_backward`. Returns the clipping of the gradients, unless an intervention may still change them.
    fn after_backward(
        &self,
        backward: &Backward,
        previous: &Clock,
    ) -> Result<Option<ClipFactor>, TrainError> {
        let compute = &self.engine.compute;
        let gradients = Stats::new(&compute.table, || {
            params::gradients(&*compute.model, &backward.grads)
        });
        self.engine.after_backward(backward, &gradients, previous)?;
        if !self.interventions.is_empty() {
            return Ok(None);
        }
        // From the same statistics, so that clipping reuses a norm that callbacks have already computed.
        Ok(self.clipping(&gradients))
    }

    /// Scales the gradients down to the maximum norm, if one is set and they exceed it.
    fn clip(&self, grads: &mut GradientsParams, known: Option<ClipFactor>) -> Option<ClipFactor> {
        let compute = &self.engine.compute;
        let model = &*compute.model;
        let clipping = match known {
            Some(clipping) => clipping,
            None => self.clipping(&Stats::new(&compute.table, || {
                params::gradients(model, grads)
            }))?,
        };
        params::scale_gradients(model, grads, clipping.factor.clone());
        Some(clipping)
    }

    /// Compares the replicas if that is due. Replicas that differ are an error.
    pub(super) fn compare_replicas(&mut self, previous: &Clock) -> Result<(), TrainError> {
        let compute = &mut self.engine.compute;
        let clock = &self.engine.clock;
        let is_due =
            self.settings
                .check_replicas
                .is_due(Some(previous), clock, self.settings.length);
        if !is_due || compute.replicas.count() == 1 {
            return Ok(());
        }
        let step = clock.step;
        let found = compute
            .replicas
            .first_divergence(&compute.model)
            .map_err(|error| error.at_step(step))?;
        if let Some(Divergence { replica, param }) = found {
            return Err(TrainError::ReplicasApart {
                replica,
                param,
                step,
            });
        }
        Ok(())
    }

    /// Returns the clipping of these gradients, if a maximum norm is set.
    fn clipping(&self, gradients: &Stats<'_>) -> Option<ClipFactor> {
        let max = self.settings.clip_grad_norm?;
        Some(ClipFactor::new(max, gradients, &self.engine.compute.device))
    }

    /// Returns the name and learning rate of each group in the current step, by the schedules.
    fn lrs(&self, previous: &Clock) -> Vec<(String, f64)> {
        let progress = Progress::at(previous, self.settings.length);
        self.engine.compute.optimizers.lrs(&progress)
    }

    /// Runs all interventions, which may change gradients and learning rates. Returns whether to apply the update.
    fn intervene(
        &mut self,
        previous: &Clock,
        grads: &mut GradientsParams,
        lrs: &mut [(String, f64)],
    ) -> Result<UpdateDecision, TrainError> {
        let Self {
            engine,
            interventions,
            ..
        } = self;
        let mut decision = UpdateDecision::Apply;
        let ctx = engine.ctx(Some(previous));
        let (model, step) = (&*engine.compute.model, engine.clock.step);
        for (index, intervention) in interventions.iter_mut().enumerate() {
            // Seeded anew, so that its random numbers do not depend on what callbacks drew before.
            engine
                .compute
                .device
                .seed(seed::intervention(engine.seed, step, index as u64));
            let mut replace = |make: &mut dyn FnMut(usize, Tensor<1>) -> Tensor<1>| {
                params::replace_gradients(model, grads, make);
            };
            let mut context = InterventionContext {
                ctx,
                table: &engine.compute.table,
                replace: &mut replace,
                lrs: &mut *lrs,
            };
            let called = caught(|| intervention.intervene(&mut context));
            let failed = |source| failure(&**intervention, "intervene", step, source);
            if called.map_err(failed)? == UpdateDecision::Skip {
                decision = UpdateDecision::Skip;
            }
        }
        Ok(decision)
    }

    /// Passes the result of an eval to all interventions.
    pub(super) fn intervene_on_eval(&mut self, report: &EvalReport) -> Result<(), TrainError> {
        let step = self.engine.clock.step;
        for intervention in &mut self.interventions {
            let called = caught(|| {
                intervention.on_eval(report);
                Ok(())
            });
            called.map_err(|source| failure(&**intervention, "on_eval", step, source))?;
        }
        Ok(())
    }

    fn before_optimizer_step(
        &self,
        previous: &Clock,
        grads: &GradientsParams,
        clipping: Option<&ClipFactor>,
        lrs: &[(String, f64)],
    ) -> Result<(), TrainError> {
        if !self.engine.observers.want(Hook::BeforeOptimizerStep) {
            return Ok(());
        }
        let compute = &self.engine.compute;
        // Dropped with this function: the optimizer needs the only handle to the gradients to work in place.
        let gradients = Stats::new(&compute.table, || params::gradients(&*compute.model, grads));
        self.engine.observers.fire(&BeforeOptimizerStep {
            ctx: self.engine.ctx(Some(previous)),
            gradients: &gradients,
            grad_norm: clipping.map(|clipping| &clipping.norm),
            clip_coefficient: clipping.map(|clipping| &clipping.coefficient),
            lrs,
        })
    }

    fn after_optimizer_step(&self, before: &T::Model, previous: &Clock) -> Result<(), TrainError> {
        if !self.engine.observers.want(Hook::AfterOptimizerStep) {
            return Ok(());
        }
        let compute = &self.engine.compute;
        let model = &*compute.model;
        let weights = Stats::new(&compute.table, || params::weights(model));
        let updates = Stats::new(&compute.table, || params::updates(before, model));
        self.engine.observers.fire(&AfterOptimizerStep {
            ctx: self.engine.ctx(Some(previous)),
            weights: &weights,
            updates: &updates,
        })
    }
}

/// Checks that the learning rates of a step can be applied.
fn check_rates(lrs: &[(String, f64)], step: u64) -> Result<(), TrainError> {
    match lrs.iter().find(|(_, lr)| !is_rate(*lr)) {
        Some((group, lr)) => Err(TrainError::LearningRate {
            group: group.clone(),
            lr: *lr,
            step,
        }),
        None => Ok(()),
    }
}

/// Calls an intervention. A panic becomes an error.
fn caught<R>(call: impl FnOnce() -> Result<R, BoxError>) -> Result<R, BoxError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(called) => called,
        Err(panic) => Err(format!("it panicked: {}", panic_text(&*panic)).into()),
    }
}

/// Returns the error of a run whose intervention failed.
fn failure(
    intervention: &dyn Intervention,
    hook: &'static str,
    step: u64,
    source: BoxError,
) -> TrainError {
    TrainError::Callback {
        callback: intervention.name(),
        hook,
        step,
        source,
    }
}

#[cfg(test)]
mod tests {
    use crate::clock::Clock;
    use crate::error::TrainError;
    use crate::params;
    use crate::testing;

    #[test]
    fn differing_replicas_end_the_run_when_they_are_compared() {
        let devices = crate::device::devices("cpu:0-1").expect("the CPU");
        let run = testing::tiny_run(10).grad_accum_steps(2).devices(devices);
        let mut trainer = run
            .check_replicas(crate::cadence::every(5))
            .build()
            .expect("a valid run");
        trainer.engine.open().expect("nothing to write");
        trainer.engine.compute.model.change(|model| {
            let weights = params::weights(&model).into_iter().flatten();
            let halved = weights.map(|weight| weight.flat() / 2.0).collect();
            (params::with_weights(model, halved), ())
        });
        let mut compare = |step| {
            let previous = Clock {
                step: step - 1,
                ..Clock::default()
            };
            trainer.engine.clock.step = step;
            trainer.compare_replicas(&previous)
        };
        assert!(compare(4).is_ok());
        let Err(TrainError::ReplicasApart {
            replica: 1,
            param,
            step: 5,
        }) = compare(5)
        else {
            panic!("they differ")
        };
        assert_eq!(param, "embed.weight");
    }
}
