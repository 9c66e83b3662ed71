//! Boxes, lists and options of callbacks, which are callbacks themselves.
//!
//! "Norms only if a flag is set" then needs no `if` around the builder's chain.

use super::forward::{Forward, forward_hooks, forward_methods};
use super::{Callback, ErrorPolicy, Event};
use crate::cadence::Cadence;
use crate::failure::{BoxError, HookResult};
use crate::hook::{Hooks, hook_table};
use crate::plan::Outlook;
use burn::tensor::Tensor;
use serde_json::Value;

impl<C: Callback + ?Sized> Forward for Box<C> {
    fn forward<E: Event>(&mut self, event: &E) -> HookResult {
        event.call(&mut **self)
    }
}

impl<C: Callback + ?Sized> Callback for Box<C> {
    forward_methods!(self, (**self) => name hooks cadence error_policy keys files check wants_activations);
    forward_methods!(self, (**self) => config state load_state weights load_weights);
    hook_table!(forward_hooks);
}

impl<C: Callback> Forward for Vec<C> {
    fn forward<E: Event>(&mut self, event: &E) -> HookResult {
        for member in self {
            // The list is due when any member is, so each member's own cadence decides here.
            let is_due = E::HOOK.is_always_called() || event.ctx().is_due(&member.cadence());
            if is_due && member.hooks().contains(E::HOOK) {
                event.call(member)?;
            }
        }
        Ok(())
    }
}

/// A list of callbacks, which share one name, one row in the overhead table and one error policy.
///
/// Each member keeps its own cadence. A cadence given to the list only narrows the members' own.
impl<C: Callback> Callback for Vec<C> {
    fn name(&self) -> String {
        let names: Vec<_> = self.iter().map(Callback::name).collect();
        names.join("+")
    }

    fn hooks(&self) -> Hooks {
        let mut hooks = Hooks::NONE;
        for member in self {
            hooks = hooks.union(member.hooks());
        }
        hooks
    }

    fn cadence(&self) -> Cadence {
        let cadences = self.iter().map(Callback::cadence);
        let any = cadences.reduce(|any, next| any | next);
        any.unwrap_or(Cadence::Never)
    }

    fn error_policy(&self) -> ErrorPolicy {
        for member in self {
            if member.error_policy() == ErrorPolicy::Abort {
                return ErrorPolicy::Abort;
            }
        }
        ErrorPolicy::Disable
    }

    fn keys(&self) -> Vec<String> {
        self.iter().flat_map(Callback::keys).collect()
    }

    fn files(&self, steps: u64) -> Vec<String> {
        self.iter().flat_map(|member| member.files(steps)).collect()
    }

    fn check(&self, run: &Outlook<'_>) -> Result<(), BoxError> {
        for member in self {
            member.check(run)?;
        }
        Ok(())
    }

    fn wants_activations(&self) -> bool {
        self.iter().any(Callback::wants_activations)
    }

    fn config(&self) -> Value {
        self.iter().map(Callback::config).collect()
    }

    fn state(&self) -> Value {
        self.iter().map(Callback::state).collect()
    }

    fn load_state(&mut self, state: Value) -> Result<(), BoxError> {
        let Value::Array(states) = state else {
            return Err("the state of a list of callbacks must be a JSON array".into());
        };
        if states.len() != self.len() {
            let (saved, now) = (states.len(), self.len());
            return Err(format!("the list had {saved} callbacks and has {now} now").into());
        }
        for (member, state) in self.iter_mut().zip(states) {
            member.load_state(state)?;
        }
        Ok(())
    }

    /// Returns the copy of the one member that keeps any.
    fn weights(&self) -> Option<Vec<Tensor<1>>> {
        self.iter().find_map(Callback::weights)
    }

    fn load_weights(&mut self, weights: Vec<Tensor<1>>) -> Result<(), BoxError> {
        let mut loaded = 0;
        for member in self {
            if member.load_weights(weights.clone()).is_ok() {
                loaded += 1;
            }
        }
        match loaded {
            1 => Ok(()),
            0 => Err("no callback of the list keeps a copy of the parameters".into()),
            // A checkpoint has one file of weights for the list's name, so it cannot hold two copies.
            _ => Err(
                "several callbacks of the list keep a copy of the parameters: add each to the builder by itself"
                    .into(),
            ),
        }
    }

    hook_table!(forward_hooks);
}

impl<C: Callback> Forward for Option<C> {
    fn forward<E: Event>(&mut self, event: &E) -> HookResult {
        // The cadence is not checked: the callback may have been given another one than its own.
        match self {
            Some(inner) => event.call(inner),
            None => Ok(()),
        }
    }
}

/// An optional callback. `None` does nothing.
impl<C: Callback> Callback for Option<C> {
    fn name(&self) -> String {
        match self {
            Some(inner) => inner.name(),
            None => "none".to_owned(),
        }
    }

    fn hooks(&self) -> Hooks {
        match self {
            Some(inner) => inner.hooks(),
            None => Hooks::NONE,
        }
    }

    fn cadence(&self) -> Cadence {
        match self {
            Some(inner) => inner.cadence(),
            None => Cadence::Never,
        }
    }

    fn error_policy(&self) -> ErrorPolicy {
        match self {
            Some(inner) => inner.error_policy(),
            None => ErrorPolicy::Disable,
        }
    }

    fn keys(&self) -> Vec<String> {
        match self {
            Some(inner) => inner.keys(),
            None => Vec::new(),
        }
    }

    fn files(&self, steps: u64) -> Vec<String> {
        match self {
            Some(inner) => inner.files(steps),
            None => Vec::new(),
        }
    }

    fn check(&self, run: &Outlook<'_>) -> Result<(), BoxError> {
        match self {
            Some(inner) => inner.check(run),
            None => Ok(()),
        }
    }

    fn wants_activations(&self) -> bool {
        self.as_ref().is_some_and(Callback::wants_activations)
    }

    fn config(&self) -> Value {
        match self {
            Some(inner) => inner.config(),
            None => Value::Null,
        }
    }

    fn state(&self) -> Value {
        match self {
            Some(inner) => inner.state(),
            None => Value::Null,
        }
    }

    fn load_state(&mut self, state: Value) -> Result<(), BoxError> {
        match self {
            Some(inner) => inner.load_state(state),
            None => Ok(()),
        }
    }

    fn weights(&self) -> Option<Vec<Tensor<1>>> {
        self.as_ref().and_then(Callback::weights)
    }

    fn load_weights(&mut self, weights: Vec<Tensor<1>>) -> Result<(), BoxError> {
        match self {
            Some(inner) => inner.load_weights(weights),
            None => Ok(()),
        }
    }

    hook_table!(forward_hooks);
}
