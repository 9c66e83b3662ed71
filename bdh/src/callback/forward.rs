//! Forwarding from a wrapper to the callbacks inside it.

use super::Event;
use crate::failure::HookResult;

/// A wrapper of callbacks, which passes each event on to them.
pub(crate) trait Forward {
    /// Calls the hook of the callbacks inside.
    fn forward<E: Event>(&mut self, event: &E) -> HookResult;
}

/// Writes all hooks of a wrapper: each calls [`Forward::forward`].
macro_rules! forward_hooks {
    ($($(#[$doc:meta])* $method:ident $hook:ident $event:ident $when:ident,)+) => {$(
        fn $method(&mut self, ctx: &$crate::event::$event<'_>) -> $crate::failure::HookResult {
            $crate::callback::Forward::forward(self, ctx)
        }
    )+};
}
pub(crate) use forward_hooks;

/// Writes the listed methods of a wrapper, except hooks: each calls the same method of the inner callback.
///
/// `self` is a parameter, because the caller's expression for the inner callback contains it.
macro_rules! forward_methods {
    ($self:ident, $inner:expr => $($method:ident)+) => {
        $(forward_methods!(@$method $self, $inner);)+
    };
    (@name $self:ident, $inner:expr) => {
        fn name(&$self) -> String {
            $inner.name()
        }
    };
    (@hooks $self:ident, $inner:expr) => {
        fn hooks(&$self) -> $crate::hook::Hooks {
            $inner.hooks()
        }
    };
    (@cadence $self:ident, $inner:expr) => {
        fn cadence(&$self) -> $crate::cadence::Cadence {
            $inner.cadence()
        }
    };
    (@error_policy $self:ident, $inner:expr) => {
        fn error_policy(&$self) -> $crate::callback::ErrorPolicy {
            $inner.error_policy()
        }
    };
    (@keys $self:ident, $inner:expr) => {
        fn keys(&$self) -> Vec<String> {
            $inner.keys()
        }
    };
    (@files $self:ident, $inner:expr) => {
        fn files(&$self, steps: u64) -> Vec<String> {
            $inner.files(steps)
        }
    };
    (@check $self:ident, $inner:expr) => {
        fn check(&$self, run: &$crate::plan::Outlook<'_>) -> Result<(), $crate::failure::BoxError> {
            $inner.check(run)
        }
    };
    (@wants_activations $self:ident, $inner:expr) => {
        fn wants_activations(&$self) -> bool {
            $inner.wants_activations()
        }
    };
    (@config $self:ident, $inner:expr) => {
        fn config(&$self) -> serde_json::Value {
            $inner.config()
        }
    };
    (@state $self:ident, $inner:expr) => {
        fn state(&$self) -> serde_json::Value {
            $inner.state()
        }
    };
    (@load_state $self:ident, $inner:expr) => {
        fn load_state(&mut $self, state: serde_json::Value) -> Result<(), $crate::failure::BoxError> {
            $inner.load_state(state)
        }
    };
    (@weights $self:ident, $inner:expr) => {
        fn weights(&$self) -> Option<Vec<burn::tensor::Tensor<1>>> {
            $inner.weights()
        }
    };
    (@load_weights $self:ident, $inner:expr) => {
        fn load_weights(
            &mut $self,
            weights: Vec<burn::tensor::Tensor<1>>,
        ) -> Result<(), $crate::failure::BoxError> {
            $inner.load_weights(weights)
        }
    };
}
pub(crate) use forward_methods;
