//! Cadence, name, prefix and error policy, chosen where a callback is added.

use super::forward::{Forward, forward_hooks, forward_methods};
use super::{Callback, ErrorPolicy, Event};
use crate::cadence::Cadence;
use crate::failure::{BoxError, HookResult};
use crate::hook::hook_table;
use crate::names::{is_plain_name, prefixed, prefixed_file};
use crate::plan::Outlook;

/// A callback with a cadence, name, prefix or error policy of its own; [`CallbackExt`] makes it.
#[derive(Debug)]
pub struct Configured<C> {
    inner: C,
    name: Option<String>,
    prefix: Option<String>,
    cadence: Option<Cadence>,
    on_error: Option<ErrorPolicy>,
}

/// Settings that every callback takes: cadence, name, prefix, error policy.
///
/// # Examples
///
/// ```
/// use bdh::cadence::{every, last};
/// use bdh::{Callback, CallbackExt, callback};
/// # #[derive(Default)] struct Norms;
/// # #[callback] impl Callback for Norms {}
///
/// let norms = Norms::default().on(every(10) | last()).named("norms of the teacher");
/// assert_eq!(norms.cadence().to_string(), "every 10 steps | last");
/// ```
pub trait CallbackExt: Callback + Sized {
    /// Sets the steps on which the callback acts, in place of its default; `100` means every 100 steps.
    fn on(self, cadence: impl Into<Cadence>) -> Configured<Self> {
        Configured {
            cadence: Some(cadence.into()),
            ..unchanged(self)
        }
    }

    /// Sets the callback's name. Two callbacks of one type need two names.
    fn named(self, name: impl Into<String>) -> Configured<Self> {
        Configured {
            name: Some(name.into()),
            ..unchanged(self)
        }
    }

    /// Adds a prefix to the keys that the callback records, after their group: `val/ema_loss` becomes
    /// `val/slow/ema_loss`. Two callbacks of one type can then record in the same run.
    ///
    /// The callback's files go to a folder of that name: `samples/500.md` becomes `samples/slow/500.md` (see
    /// [`Context::file`](crate::Context::file)). The prefix also ends the callback's name (`ema_slow`), unless
    /// [`named`](Self::named) is called afterwards. Checkpoints that the callback requests keep their names.
    fn prefix(self, prefix: impl Into<String>) -> Configured<Self> {
        Configured {
            prefix: Some(prefix.into()),
            ..unchanged(self)
        }
    }

    /// Sets the effect of the callback's failure on the run.
    fn on_error(self, policy: ErrorPolicy) -> Configured<Self> {
        Configured {
            on_error: Some(policy),
            ..unchanged(self)
        }
    }
}

impl<C: Callback> CallbackExt for C {}

fn unchanged<C>(inner: C) -> Configured<C> {
    Configured {
        inner,
        name: None,
        prefix: None,
        cadence: None,
        on_error: None,
    }
}

impl<C: Callback> Forward for Configured<C> {
    fn forward<E: Event>(&mut self, event: &E) -> HookResult {
        let log = event.ctx().step_log;
        log.under_prefix(self.prefix.as_deref(), || event.call(&mut self.inner))
    }
}

impl<C: Callback> Callback for Configured<C> {
    fn name(&self) -> String {
        match (&self.name, &self.prefix) {
            (Some(name), _) => name.clone(),
            (None, Some(prefix)) => format!("{}_{prefix}", self.inner.name()),
            (None, None) => self.inner.name(),
        }
    }

    fn cadence(&self) -> Cadence {
        match &self.cadence {
            Some(cadence) => cadence.clone(),
            None => self.inner.cadence(),
        }
    }

    fn error_policy(&self) -> ErrorPolicy {
        self.on_error.unwrap_or_else(|| self.inner.error_policy())
    }

    fn keys(&self) -> Vec<String> {
        let mut keys = self.inner.keys();
        if let Some(prefix) = &self.prefix {
            for key in &mut keys {
                *key = prefixed(key, prefix);
            }
        }
        keys
    }

    fn files(&self, steps: u64) -> Vec<String> {
        let mut files = self.inner.files(steps);
        if let Some(prefix) = &self.prefix {
            for file in &mut files {
                *file = prefixed_file(file, prefix);
            }
        }
        files
    }

    fn check(&self, run: &Outlook<'_>) -> Result<(), BoxError> {
        if let Some(prefix) = &self.prefix
            && !prefix.split('/').all(is_plain_name)
        {
            // The prefix is also the name of a folder, for the callback's files.
            return Err(format!(
                "the prefix `{prefix}` is not a plain name: use one such as `slow`"
            )
            .into());
        }
        self.inner.check(run)
    }

    forward_methods!(self, self.inner => hooks wants_activations config state load_state weights load_weights);
    hook_table!(forward_hooks);
}
