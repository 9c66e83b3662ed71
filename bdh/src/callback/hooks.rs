//! The names of the hooks, and sets of them.

use std::fmt;

macro_rules! hooks {
    ($($variant:ident $name:literal),+ $(,)?) => {
        /// A moment of a run, named after the method of [`Callback`](crate::Callback) called then.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Hook {
            $(#[doc = concat!("`", $name, "`")] $variant,)+
        }

        impl Hook {
            /// Every hook, in the order of a step.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The method's name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }
    };
}

hooks! {
    OnFitStart "on_fit_start",
    OnStepStart "on_step_start",
    OnMicroBatch "on_micro_batch",
    AfterBackward "after_backward",
    BeforeOptimizerStep "before_optimizer_step",
    AfterOptimizerStep "after_optimizer_step",
    OnStep "on_step",
    OnEvalBatch "on_eval_batch",
    OnEval "on_eval",
    OnCheckpoint "on_checkpoint",
    OnFitEnd "on_fit_end",
}

/// A set of hooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hooks(u16);

impl Hooks {
    /// No hook.
    pub const NONE: Self = Self(0);
    /// Every hook.
    pub const ALL: Self = Self((1 << Hook::ALL.len()) - 1);

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
        Hook::ALL.iter().copied().filter(move |hook| self.contains(*hook))
    }
}

impl fmt::Display for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.iter().map(Hook::name).collect();
        f.write_str(&names.join(" "))
    }
}

/// The type's name without its path: `my_crate::Norms` gives `Norms`.
pub(crate) fn short_type_name<T: ?Sized>() -> String {
    let name = std::any::type_name::<T>();
    let end = name.find('<').unwrap_or(name.len());
    name[..end].rsplit("::").next().unwrap_or(name).to_owned()
}
