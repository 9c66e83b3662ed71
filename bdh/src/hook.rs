//! Hooks by name, and sets of hooks.

use std::fmt;

/// Passes the table of hooks to a macro.
///
/// Each row, in the order of a step: documentation, method, variant of [`Hook`], event, and `due` or `always`. Hooks
/// marked `due` follow the callback's cadence. Hooks marked `always` do not belong to one step's training, and are
/// called on every occasion.
///
/// To add a hook, add a row here, its event in `event.rs`, and its call in the trainer.
macro_rules! hook_table {
    ($macro:ident) => {
        $macro! {
            /// Called once, before the run's first step.
            on_fit_start OnFitStart FitStart always,

            /// Called when the step's batches have been loaded, before anything is computed.
            on_step_start OnStepStart StepStart due,

            /// Called after the backward pass of each micro-batch.
            on_micro_batch OnMicroBatch MicroBatch due,

            /// Called with the step's gradients, averaged over its micro-batches, before clipping.
            after_backward AfterBackward AfterBackward due,

            /// Called with the gradients that the optimizer receives, after clipping.
            before_optimizer_step BeforeOptimizerStep BeforeOptimizerStep due,

            /// Called with the update that the optimizer applied.
            ///
            /// On due steps the old parameters stay in memory until then: one more copy of the model.
            after_optimizer_step AfterOptimizerStep AfterOptimizerStep due,

            /// Called when a step is complete. This hook can ask the run to stop, to evaluate or to save.
            on_step OnStep StepEnd due,

            /// Called after each batch of an eval.
            on_eval_batch OnEvalBatch EvalBatch always,

            /// Called with the report of an eval of this step, once for each eval set. This hook can ask the run to stop or to
            /// save.
            on_eval OnEval EvalEnd always,

            /// Called when a checkpoint is complete on disk.
            on_checkpoint OnCheckpoint Checkpointed always,

            /// Called once, at the end of the run, whether it completed, stopped or failed.
            on_fit_end OnFitEnd FitEnd always,
        }
    };
}
pub(crate) use hook_table;

macro_rules! hooks {
    ($($(#[$doc:meta])* $method:ident $hook:ident $event:ident $when:ident,)+) => {
        /// A hook of [`Callback`](crate::Callback), named after its method.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Hook {
            $(#[doc = concat!("`", stringify!($method), "`")] $hook,)+
        }

        impl Hook {
            /// Every hook, in the order of a step.
            pub const ALL: &[Self] = &[$(Self::$hook),+];

            /// Returns the name of the method, such as `on_step`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$hook => stringify!($method)),+ }
            }

            /// Whether the hook ignores the callback's cadence.
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

    /// Returns the hooks among the names of some methods, for `#[callback]`.
    #[doc(hidden)]
    #[must_use]
    pub fn among(methods: &[&str]) -> Self {
        let mut hooks = Self::NONE;
        for hook in Hook::ALL {
            if methods.contains(&hook.name()) {
                hooks = hooks.with(*hook);
            }
        }
        hooks
    }

    /// Returns the hooks of the set that ignore the callback's cadence.
    pub(crate) fn always_called(self) -> Self {
        self.iter()
            .filter(|hook| hook.is_always_called())
            .fold(Self::NONE, Self::with)
    }

    /// Returns the set with one more hook.
    #[must_use]
    pub const fn with(self, hook: Hook) -> Self {
        Self(self.0 | 1 << hook as u16)
    }

    /// Returns the union of two sets.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether a hook is in the set.
    #[must_use]
    pub const fn contains(self, hook: Hook) -> bool {
        self.0 & (1 << hook as u16) != 0
    }

    /// Iterates over the hooks in the set, in the order of a step.
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
    fn hooks_are_found_by_the_names_of_their_methods() {
        for hook in Hook::ALL {
            assert_eq!(
                Hooks::among(&["name", hook.name(), "state"]),
                Hooks::NONE.with(*hook)
            );
        }
        let others = ["cadence", "error_policy", "files"];
        assert_eq!(Hooks::among(&others), Hooks::NONE);
    }

    #[test]
    fn hooks_outside_of_training_ignore_the_cadence() {
        let always = "on_fit_start on_eval_batch on_eval on_checkpoint on_fit_end";
        assert_eq!(Hooks::ALL.always_called().to_string(), always);
    }
}
