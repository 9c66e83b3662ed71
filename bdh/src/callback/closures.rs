//! Callbacks of one hook, made of a closure.

use super::Callback;
use crate::event::{
    AfterBackward, AfterOptimizerStep, BeforeOptimizerStep, Checkpointed, EvalBatch, EvalEnd,
    FitEnd, FitStart, MicroBatch, StepEnd, StepStart,
};
use crate::{HookResult, callback};

macro_rules! closures {
    ($($hook:ident $name:literal $type:ident $event:ident),+ $(,)?) => {$(
        struct $type<F>(F);

        #[callback]
        impl<F: FnMut(&$event<'_>) -> HookResult + Send> Callback for $type<F> {
            fn name(&self) -> String {
                $name.to_owned()
            }

            fn $hook(&mut self, at: &$event<'_>) -> HookResult {
                (self.0)(at)
            }
        }

        #[doc = concat!("Makes a callback of a closure that is called at [`", $name, "`](Callback::", $name, ").")]
        ///
        /// It acts on every step, and a run takes one of its name: [`every`](crate::Attach::every) and
        /// [`named`](crate::Attach::named) change that.
        pub fn $hook<F: FnMut(&$event<'_>) -> HookResult + Send>(hook: F) -> impl Callback {
            $type(hook)
        }
    )+};
}

closures! {
    on_fit_start "on_fit_start" OnFitStart FitStart,
    on_step_start "on_step_start" OnStepStart StepStart,
    on_micro_batch "on_micro_batch" OnMicroBatch MicroBatch,
    after_backward "after_backward" OnBackward AfterBackward,
    before_optimizer_step "before_optimizer_step" OnOptimizer BeforeOptimizerStep,
    after_optimizer_step "after_optimizer_step" OnUpdate AfterOptimizerStep,
    on_step "on_step" OnStep StepEnd,
    on_eval_batch "on_eval_batch" OnEvalBatch EvalBatch,
    on_eval "on_eval" OnEval EvalEnd,
    on_checkpoint "on_checkpoint" OnCheckpoint Checkpointed,
    on_fit_end "on_fit_end" OnFitEnd FitEnd,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Attach, every};

    #[test]
    fn a_closure_has_the_one_hook_that_it_is_named_after() {
        let stop = on_step(|at| {
            at.stop("enough");
            Ok(())
        });
        assert_eq!((stop.name(), stop.hooks().to_string()), ("on_step".into(), "on_step".into()));
        let norm = after_backward(|at| {
            at.log("norm", at.gradients.l2());
            Ok(())
        });
        let norm = norm.every(every(10)).named("norm");
        assert_eq!(
            (norm.name(), norm.hooks().to_string()),
            ("norm".into(), "after_backward".into())
        );
    }
}
