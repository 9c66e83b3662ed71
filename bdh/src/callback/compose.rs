//! Boxes, options, lists and attached callbacks are callbacks themselves.
//!
//! "Norms only when asked for" needs no `if` around the builder's chain.

use super::{Attached, Callback, OnError};
use crate::cadence::Cadence;
use crate::failure::{BoxError, HookResult};
use crate::hook::{Hook, Hooks, hook_table};
use crate::names::{is_plain_name, prefixed, prefixed_file};
use crate::plan::Outlook;
use burn::tensor::Tensor;
use serde_json::Value;

/// Writes the hooks of a wrapper, each by a macro that is given `self`, the event, the hook and its method.
macro_rules! forward_hooks {
    ($each:ident: $($(#[$doc:meta])* $method:ident $hook:ident $event:ident $when:ident,)+) => {$(
        fn $method(&mut self, at: &crate::event::$event<'_>) -> HookResult {
            $each!(self, at, Hook::$hook, $method)
        }
    )+};
}
pub(crate) use forward_hooks;

/// Writes the named methods that are no hooks, each as a call of the same method of the inner callback.
macro_rules! forward {
    ($self:ident, $inner:expr => $($method:ident)+) => { $(forward!(@$method $self, $inner);)+ };
    (@name $self:ident, $inner:expr) => {
        fn name(&$self) -> String {
            $inner.name()
        }
    };
    (@hooks $self:ident, $inner:expr) => {
        fn hooks(&$self) -> Hooks {
            $inner.hooks()
        }
    };
    (@cadence $self:ident, $inner:expr) => {
        fn cadence(&$self) -> Cadence {
            $inner.cadence()
        }
    };
    (@on_error $self:ident, $inner:expr) => {
        fn on_error(&$self) -> OnError {
            $inner.on_error()
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
        fn check(&$self, run: &Outlook<'_>) -> Result<(), BoxError> {
            $inner.check(run)
        }
    };
    (@listens $self:ident, $inner:expr) => {
        fn listens(&$self) -> bool {
            $inner.listens()
        }
    };
    (@config $self:ident, $inner:expr) => {
        fn config(&$self) -> Value {
            $inner.config()
        }
    };
    (@state $self:ident, $inner:expr) => {
        fn state(&$self) -> Value {
            $inner.state()
        }
    };
    (@load_state $self:ident, $inner:expr) => {
        fn load_state(&mut $self, state: Value) -> Result<(), BoxError> {
            $inner.load_state(state)
        }
    };
    (@weights $self:ident, $inner:expr) => {
        fn weights(&$self) -> Option<Vec<Tensor<1>>> {
            $inner.weights()
        }
    };
    (@load_weights $self:ident, $inner:expr) => {
        fn load_weights(&mut $self, weights: Vec<Tensor<1>>) -> Result<(), BoxError> {
            $inner.load_weights(weights)
        }
    };
}
pub(crate) use forward;
macro_rules! to_inner {
    ($self:ident, $at:ident, $hook:expr, $method:ident) => {
        (**$self).$method($at)
    };
}

impl<C: Callback + ?Sized> Callback for Box<C> {
    forward!(self, (**self) => name hooks cadence on_error keys files check listens config state load_state);
    forward!(self, (**self) => weights load_weights);
    hook_table!(forward_hooks, to_inner);
}

macro_rules! to_attached {
    ($self:ident, $at:ident, $hook:expr, $method:ident) => {{
        $at.step_log
            .under_prefix($self.prefix.as_deref(), || $self.inner.$method($at))
    }};
}

impl<C: Callback> Callback for Attached<C> {
    fn name(&self) -> String {
        match (&self.name, &self.prefix) {
            (Some(name), _) => name.clone(),
            (None, Some(prefix)) => format!("{}_{prefix}", self.inner.name()),
            (None, None) => self.inner.name(),
        }
    }

    fn cadence(&self) -> Cadence {
        self.cadence.clone().unwrap_or_else(|| self.inner.cadence())
    }

    fn on_error(&self) -> OnError {
        self.on_error.unwrap_or_else(|| self.inner.on_error())
    }

    fn keys(&self) -> Vec<String> {
        let keys = self.inner.keys();
        match &self.prefix {
            Some(prefix) => keys.iter().map(|key| prefixed(key, prefix)).collect(),
            None => keys,
        }
    }

    fn files(&self, steps: u64) -> Vec<String> {
        let files = self.inner.files(steps);
        match &self.prefix {
            Some(prefix) => files
                .iter()
                .map(|file| prefixed_file(file, prefix))
                .collect(),
            None => files,
        }
    }

    fn check(&self, run: &Outlook<'_>) -> Result<(), BoxError> {
        match &self.prefix {
            Some(prefix) if !prefix.split('/').all(is_plain_name) => {
                let expected = "use a name such as `slow`, which is a folder's too where the callback has files";
                Err(format!("its prefix is `{prefix}`; {expected}").into())
            }
            _ => self.inner.check(run),
        }
    }

    forward!(self, self.inner => hooks listens config state load_state weights load_weights);
    hook_table!(forward_hooks, to_attached);
}

macro_rules! to_each {
    ($self:ident, $at:ident, $hook:expr, $method:ident) => {{
        for member in $self.iter_mut() {
            // Members keep their own cadences; the list as a whole is due when any of them is.
            let listens = member.hooks().contains($hook);
            let is_due = $hook.is_always_called() || $at.is_due(&member.cadence());
            if listens && is_due {
                member.$method($at)?;
            }
        }
        Ok(())
    }};
}

/// Members share one name, one line in the overhead table and one fate. Each keeps its own cadence: one
/// given to the list as a whole only narrows them.
impl<C: Callback> Callback for Vec<C> {
    fn name(&self) -> String {
        self.iter()
            .map(Callback::name)
            .collect::<Vec<_>>()
            .join("+")
    }

    fn hooks(&self) -> Hooks {
        self.iter()
            .fold(Hooks::NONE, |hooks, member| hooks.union(member.hooks()))
    }

    fn cadence(&self) -> Cadence {
        let cadences = self.iter().map(Callback::cadence);
        cadences
            .reduce(|any, one| any | one)
            .unwrap_or(Cadence::Never)
    }

    fn on_error(&self) -> OnError {
        let aborts = self
            .iter()
            .any(|member| member.on_error() == OnError::Abort);
        if aborts {
            OnError::Abort
        } else {
            OnError::Disable
        }
    }

    fn keys(&self) -> Vec<String> {
        self.iter().flat_map(Callback::keys).collect()
    }

    fn files(&self, steps: u64) -> Vec<String> {
        self.iter().flat_map(|member| member.files(steps)).collect()
    }

    fn check(&self, run: &Outlook<'_>) -> Result<(), BoxError> {
        self.iter().try_for_each(|member| member.check(run))
    }

    fn listens(&self) -> bool {
        self.iter().any(Callback::listens)
    }

    fn config(&self) -> Value {
        self.iter().map(Callback::config).collect()
    }

    fn state(&self) -> Value {
        self.iter().map(Callback::state).collect()
    }

    fn load_state(&mut self, state: Value) -> Result<(), BoxError> {
        let Value::Array(states) = state else {
            return Err("the state of a list of callbacks is a list".into());
        };
        if states.len() != self.len() {
            let (saved, now) = (states.len(), self.len());
            return Err(format!("the list had {saved} callbacks and has {now} now").into());
        }
        self.iter_mut()
            .zip(states)
            .try_for_each(|(member, state)| member.load_state(state))
    }

    /// The copy of the one member that keeps any.
    fn weights(&self) -> Option<Vec<Tensor<1>>> {
        self.iter().find_map(Callback::weights)
    }

    fn load_weights(&mut self, weights: Vec<Tensor<1>>) -> Result<(), BoxError> {
        let tries = self
            .iter_mut()
            .map(|member| member.load_weights(weights.clone()));
        match tries.flatten().count() {
            1 => Ok(()),
            0 => Err("none of the list keeps a copy of the parameters".into()),
            _ => Err("several of the list keep weights; give each to the builder by itself".into()),
        }
    }

    hook_table!(forward_hooks, to_each);
}

macro_rules! to_some {
    ($self:ident, $at:ident, $hook:expr, $method:ident) => {
        // Without a look at its cadence: where another one was given, that one has decided.
        $self.as_mut().map_or(Ok(()), |inner| inner.$method($at))
    };
}

/// `None` is a callback that does nothing.
impl<C: Callback> Callback for Option<C> {
    fn name(&self) -> String {
        self.as_ref()
            .map_or_else(|| "none".to_owned(), Callback::name)
    }

    fn hooks(&self) -> Hooks {
        self.as_ref().map_or(Hooks::NONE, Callback::hooks)
    }

    fn cadence(&self) -> Cadence {
        self.as_ref().map_or(Cadence::Never, Callback::cadence)
    }

    fn on_error(&self) -> OnError {
        self.as_ref().map_or(OnError::Disable, Callback::on_error)
    }

    fn keys(&self) -> Vec<String> {
        self.iter().flat_map(Callback::keys).collect()
    }

    fn files(&self, steps: u64) -> Vec<String> {
        self.iter().flat_map(|inner| inner.files(steps)).collect()
    }

    fn check(&self, run: &Outlook<'_>) -> Result<(), BoxError> {
        self.iter().try_for_each(|inner| inner.check(run))
    }

    fn listens(&self) -> bool {
        self.as_ref().is_some_and(Callback::listens)
    }

    fn config(&self) -> Value {
        self.as_ref().map_or(Value::Null, Callback::config)
    }

    fn state(&self) -> Value {
        self.as_ref().map_or(Value::Null, Callback::state)
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

    hook_table!(forward_hooks, to_some);
}
