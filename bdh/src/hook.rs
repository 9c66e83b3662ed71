//! The names of the hooks, and sets of them.

use std::fmt;

/// The table of hooks, in the order of a step, handed to a macro (after an argument of its own): what the hook is for, its method, its name as a type,
/// its event, and the steps on which it is called. `due` ones follow the callback's cadence; `always` ones are not about
/// one step's training.
///
/// A new hook is a line here, its event in `event.rs`, and its call in the trainer.
macro_rules! hook_table {
    ($macro:ident $(, $argument:ident)?) => {
        $macro! { $($argument:)?
            /// Called once, before the first step.
            on_fit_start OnFitStart FitStart always,

            /// Called when the step's batches are there.
            on_step_start OnStepStart StepStart due,

            /// Called after each micro-batch's backward pass.
            on_micro_batch OnMicroBatch MicroBatch due,

            /// Called with the step's mean gradients, before clipping.
            after_backward AfterBackward AfterBackward due,

            /// Called with the gradients that the optimizer gets, after clipping.
            before_optimizer_step BeforeOptimizerStep BeforeOptimizerStep due,

            /// Called with the update that was applied. On its due steps the old parameters are kept until then: one copy
            /// of the model.
            after_optimizer_step AfterOptimizerStep AfterOptimizerStep due,

            /// Called when a step is complete. Here the run can be asked to stop, eval or save.
            on_step OnStep StepEnd due,

            /// Called after each validation batch.
            on_eval_batch OnEvalBatch EvalBatch always,

            /// Called with the report of an eval of this very step. Here the run can be asked to stop or save.
            on_eval OnEval EvalEnd always,

            /// Called when a checkpoint is complete on disk.
            on_checkpoint OnCheckpoint Checkpointed always,

            /// Called once at the end, whether the run completed, stopped or failed.
            on_fit_end OnFitEnd FitEnd always,
        }
    };
}
pub(crate) use hook_table;

macro_rules! hooks {
    ($($(#[$doc:meta])* $method:ident $hook:ident $event:ident $when:ident,)+) => {
        /// A moment of a run, named after the method of [`Callback`](crate::Callback) called then.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Hook {
            $(#[doc = concat!("`", stringify!($method), "`")] $hook,)+
        }

        impl Hook {
            /// Every hook, in the order of a step.
            pub const ALL: &[Self] = &[$(Self::$hook),+];

            /// The method's name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$hook => stringify!($method)),+ }
            }

            /// Whether it is called whatever the callback's cadence.
            pub(crate) const fn is_always_called(self) -> bool {
                match self { $(Self::$hook => hooks!(@is_always $when)),+ }
            }
        }
    };
    (@is_always always) => { true };
    (@is_always due) => { false };
}

hook_table!(hooks);

/// A set of hooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hooks(u16);

impl Hooks {
    /// No hook.
    pub const NONE: Self = Self(0);
    /// Every hook.
    pub const ALL: Self = Self((1 << Hook::ALL.len()) - 1);

    /// The hooks among the names of some methods, for `#[callback]`.
    #[doc(hidden)]
    #[must_use]
    pub fn among(methods: &[&str]) -> Self {
        let hooks = Hook::ALL
            .iter()
            .filter(|hook| methods.contains(&hook.name()));
        hooks.fold(Self::NONE, |hooks, hook| hooks.with(*hook))
    }

    /// The hooks of the set that are called whatever the callback's cadence.
    pub(crate) fn always_called(self) -> Self {
        self.iter()
            .filter(|hook| hook.is_always_called())
            .fold(Self::NONE, Self::with)
    }

    /// This set and one more hook.
    #[must_use]
    pub const fn with(self, hook: Hook) -> Self {
        Self(self.0 | 1 << hook as u16)
    }

    /// Both sets together.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether a hook is in the set.
    #[must_use]
    pub const fn contains(self, hook: Hook) -> bool {
        self.0 & (1 << hook as u16) != 0
    }

    /// The hooks in the set, in the order of a step.
    pub fn iter(self) -> impl Iterator<Item = Hook> {
        Hook::ALL
            .iter()
            .copied()
            .filter(move |hook| self.contains(*hook))
    }
}

impl fmt::Display for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.iter().map(Hook::name).collect();
        f.write_str(&names.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_hook_is_found_by_the_name_of_its_method_and_no_other_method_is_a_hook() {
        for hook in Hook::ALL {
            assert_eq!(
                Hooks::among(&["name", hook.name(), "state"]),
                Hooks::NONE.with(*hook)
            );
        }
        assert_eq!(Hooks::among(&["cadence", "on_error", "files"]), Hooks::NONE);
    }

    #[test]
    fn hooks_that_are_about_one_steps_training_follow_the_cadence() {
        let always = "on_fit_start on_eval_batch on_eval on_checkpoint on_fit_end";
        assert_eq!(Hooks::ALL.always_called().to_string(), always);
    }
}
