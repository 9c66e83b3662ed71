//! The update: from gradients to moved parameters.

use super::Trainer;
use super::engine::Backward;
use crate::clip::Clipping;
use crate::clock::Clock;
use crate::error::TrainError;
use crate::event::{AfterOptimizerStep, BeforeOptimizerStep};
use crate::failure::panic_text;
use crate::hook::Hook;
use crate::intervention::{Intervene, Verdict};
use crate::params;
use crate::seed;
use crate::stats::Stats;
use crate::task::Task;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// The optimizer's input.
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
    /// From raw gradients to moved parameters, each state of them shown to the callbacks that are due.
    pub(super) fn update(
        &mut self,
        backward: Backward,
        previous: &Clock,
    ) -> Result<Updated, TrainError> {
        let Ready {
            grads,
            verdict,
            lrs,
        } = self.prepare(backward, previous)?;
        if verdict == Verdict::Skip {
            self.after_optimizer_step(&self.engine.compute.model, previous)?;
            return Ok(Updated { skipped: true, lrs });
        }
        // Handles to the old values keep the optimizer from working in place; so only on request.
        let is_wanted = self.engine.observers.want(Hook::AfterOptimizerStep);
        let before = is_wanted.then(|| T::Model::clone(&self.engine.compute.model));
        let rates: Vec<_> = lrs.iter().map(|(_, lr)| *lr).collect();
        let step = self.engine.clock.step;
        self.engine
            .compute
            .step(grads, &rates)
            .map_err(|lost| lost.at_step(step))?;
        if let Some(before) = before {
            self.after_optimizer_step(&before, previous)?;
        }
        Ok(Updated {
            skipped: false,
            lrs,
        })
    }

    /// Everything about a step that comes between the backward pass and the optimizer.
    fn prepare(&mut self, mut backward: Backward, previous: &Clock) -> Result<Ready, TrainError> {
        let table = Arc::clone(&self.engine.compute.table);
        // Without interventions, clipping shares the norm that callbacks have asked for.
        let mut clipping = None;
        {
            let model = &*self.engine.compute.model;
            let raw = Stats::new(&table, || params::gradients(model, &backward.grads));
            self.engine.after_backward(&backward, &raw, previous)?;
            if self.interventions.is_empty() {
                clipping = self.clipping(&raw);
            }
        }
        let (verdict, lr_factor) = self.intervene(previous, &mut backward.grads)?;
        let mut grads = backward.grads;
        let model = &*self.engine.compute.model;
        if clipping.is_none() {
            clipping = self.clipping(&Stats::new(&table, || params::gradients(model, &grads)));
        }
        if let Some(clipping) = &clipping {
            params::scale_gradients(model, &mut grads, clipping.factor.clone());
        }
        let lrs = self.lrs(lr_factor);
        let given = Stats::new(&table, || params::gradients(model, &grads));
        self.before_optimizer_step(previous, &given, clipping.as_ref(), &lrs)?;
        drop(given); // the optimizer shall be the last to hold the gradients
        Ok(Ready {
            grads,
            verdict,
            lrs,
        })
    }

    /// Ends the run if the replicas are no longer equal, on the steps on which they are compared.
    pub(super) fn compare_replicas(&mut self, previous: &Clock) -> Result<(), TrainError> {
        let compute = &mut self.engine.compute;
        let clock = &self.engine.clock;
        let is_due =
            self.settings
                .check_replicas
                .is_due(Some(previous), clock, self.settings.steps);
        if !is_due || compute.replicas.count() == 1 {
            return Ok(());
        }
        let step = clock.step;
        let apart = compute
            .replicas
            .apart(&compute.model)
            .map_err(|lost| lost.at_step(step))?;
        match apart {
            Some((replica, param)) => Err(TrainError::ReplicasApart {
                replica,
                param,
                step,
            }),
            None => Ok(()),
        }
    }

    /// The clipping of these gradients, if there is a largest norm.
    fn clipping(&self, gradients: &Stats<'_>) -> Option<Clipping> {
        let max = self.settings.clip_grad_norm?;
        Some(Clipping::to(max, gradients, &self.engine.compute.device))
    }

    /// Each group's learning rate for the step under way.
    fn lrs(&self, factor: f64) -> Vec<(String, f64)> {
        let done = self.engine.clock.step - 1;
        let lrs = self
            .engine
            .compute
            .optimizers
            .lrs(done, self.settings.steps);
        lrs.into_iter()
            .map(|(name, lr)| (name.to_owned(), lr * factor))
            .collect()
    }

    /// Lets every intervention act; returns whether to go on with the step, and the factor on learning rates.
    fn intervene(
        &mut self,
        previous: &Clock,
        grads: &mut GradientsParams,
    ) -> Result<(Verdict, f64), TrainError> {
        let Self {
            engine,
            interventions,
            ..
        } = self;
        let (mut verdict, mut lr_factor) = (Verdict::Apply, 1.0);
        let cx = engine.cx(Some(previous));
        let (model, step) = (&*engine.compute.model, engine.clock.step);
        for (index, intervention) in interventions.iter_mut().enumerate() {
            // So that its draws do not depend on what observers drew before.
            engine
                .compute
                .device
                .seed(seed::intervention(engine.seed, step, index as u64));
            let mut replace = |make: &mut dyn FnMut(usize, Tensor<1>) -> Tensor<1>| {
                params::replace_gradients(model, grads, make);
            };
            let (table, lr_factor) = (&*engine.compute.table, &mut lr_factor);
            let mut at = Intervene {
                cx,
                table,
                replace: &mut replace,
                lr_factor,
            };
            let result = catch_unwind(AssertUnwindSafe(|| intervention.intervene(&mut at)));
            let result = result.unwrap_or_else(|panic| {
                Err(format!("it panicked: {}", panic_text(&*panic)).into())
            });
            let answer = result.map_err(|source| TrainError::Callback {
                callback: intervention.name(),
                hook: "intervene",
                step,
                source,
            })?;
            if answer == Verdict::Skip {
                verdict = Verdict::Skip;
            }
        }
        Ok((verdict, lr_factor))
    }

    fn before_optimizer_step(
        &self,
        previous: &Clock,
        gradients: &Stats<'_>,
        clipping: Option<&Clipping>,
        lrs: &[(String, f64)],
    ) -> Result<(), TrainError> {
        if !self.engine.observers.want(Hook::BeforeOptimizerStep) {
            return Ok(());
        }
        self.engine.observers.fire(&BeforeOptimizerStep {
            cx: self.engine.cx(Some(previous)),
            gradients,
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
            cx: self.engine.cx(Some(previous)),
            weights: &weights,
            updates: &updates,
        })
    }
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
