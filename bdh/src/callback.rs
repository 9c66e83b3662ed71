//! Callbacks: eleven moments of a run at which your code can look.

mod attach;
mod closures;
mod compose;

pub use attach::{Attach, Attached};
pub use closures::{
    after_backward, after_optimizer_step, before_optimizer_step, on_checkpoint, on_eval,
    on_eval_batch, on_fit_end, on_fit_start, on_micro_batch, on_step, on_step_start,
};
pub(crate) use compose::{forward, forward_hooks};

use crate::cadence::Cadence;
use crate::context::Cx;
use crate::failure::{BoxError, HookResult};
use crate::hook::{Hook, Hooks, hook_table};
use crate::names::short_type_name;
use crate::plan::Outlook;
use burn::tensor::Tensor;
use serde_json::Value;

/// What a failing callback does to the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// The callback is switched off, the failure told once, and training goes on.
    #[default]
    Disable,
    /// The run ends with the callback's error.
    Abort,
}

macro_rules! hook_methods {
    ($($(#[$doc:meta])* $method:ident $hook:ident $event:ident $when:ident,)+) => {$(
        $(#[$doc])*
        ///
        /// # Errors
        ///
        /// Of the callback's own making; treated by [`on_error`](Self::on_error).
        fn $method(&mut self, at: &crate::event::$event<'_>) -> HookResult {
            Ok(())
        }
    )+};
}

/// Something that watches a run: it measures, records, and may ask the run to stop, eval or save.
///
/// A callback gets shared references only, so it cannot change training; what may is an
/// [`Intervention`](crate::Intervention). It is not generic over the model, so a configuration file can
/// name one. Write the hooks you need; put `#[callback]` on the impl, and the others cost nothing.
///
/// The hooks of one step, in order (`on_…` between steps, `before_…`/`after_…` inside one):
///
/// 1. [`on_fit_start`](Self::on_fit_start), once
/// 2. [`on_step_start`](Self::on_step_start)
/// 3. [`on_micro_batch`](Self::on_micro_batch), once a micro-batch
/// 4. [`after_backward`](Self::after_backward): gradients before clipping
/// 5. [`before_optimizer_step`](Self::before_optimizer_step): gradients after clipping
/// 6. [`after_optimizer_step`](Self::after_optimizer_step): the update itself
/// 7. [`on_step`](Self::on_step)
/// 8. [`on_eval_batch`](Self::on_eval_batch), [`on_eval`](Self::on_eval), if there is an eval
/// 9. [`on_checkpoint`](Self::on_checkpoint), if there is one
/// 10. [`on_fit_end`](Self::on_fit_end), once, whatever happened
///
/// Hooks 2 to 7 are called on the steps of the callback's [`cadence`](Self::cadence), the others whenever
/// they happen.
///
/// The run can be asked to stop, to evaluate or to save where it can heed that at once: in `on_step` and,
/// but for evaluating, in `on_eval`. Elsewhere it does not compile:
///
/// ```compile_fail,E0599
/// fn ask(at: &bdh::AfterBackward<'_>) {
///     at.stop("these gradients look bad"); // there is no such method
/// }
/// ```
///
/// # Examples
///
/// ```
/// use bdh::{AfterBackward, Callback, HookResult, callback};
///
/// /// Records how much of each gradient is signal.
/// struct SignalToNoise;
///
/// #[callback]
/// impl Callback for SignalToNoise {
///     fn after_backward(&mut self, at: &AfterBackward<'_>) -> HookResult {
///         for param in at.gradients.iter() {
///             at.log(format!("snr/{}", param.name()), param.mean() / param.std());
///         }
///         Ok(())
///     }
/// }
///
/// assert_eq!(SignalToNoise.hooks().to_string(), "after_backward");
/// ```
///
/// What needs no type of its own is a closure, in one line:
///
/// ```
/// use bdh::{Attach, every, on_step};
///
/// let note = on_step(|at| Ok(at.log("tokens", at.clock().tokens as f64))).every(every(100));
/// ```
#[expect(
    unused_variables,
    reason = "a default hook ignores what it is handed, but names it in the docs"
)]
pub trait Callback: Send {
    /// Its name in the plan, the overhead table, checkpoints and errors; unique in a run.
    ///
    /// `#[callback("name")]` writes it; otherwise it is the type's name.
    fn name(&self) -> String {
        short_type_name::<Self>()
    }

    /// The hooks that are to be called. `#[callback]` writes it from the hooks in the impl.
    fn hooks(&self) -> Hooks {
        Hooks::ALL
    }

    /// The steps on which it acts. Every step by default.
    fn cadence(&self) -> Cadence {
        Cadence::EVERY_STEP
    }

    /// What its failure does to the run.
    fn on_error(&self) -> OnError {
        OnError::default()
    }

    /// The keys it records, `*` standing for a parameter's name, for the plan.
    fn keys(&self) -> Vec<String> {
        Vec::new()
    }

    /// The files it leaves in a run of `steps` steps, relative to the run directory, for the plan. It writes each to the
    /// path that [`Cx::file`](crate::Cx::file) gives, which has the callback's prefix.
    fn files(&self, steps: u64) -> Vec<String> {
        Vec::new()
    }

    /// Refuses a run in which it could not do its work, before anything runs; what it can do without, it
    /// [notes](Outlook::note).
    ///
    /// # Errors
    ///
    /// A sentence: what is wrong, with the value, and what would work.
    fn check(&self, run: &Outlook<'_>) -> Result<(), BoxError> {
        Ok(())
    }

    /// Its settings, as a configuration would give them, for the list of callbacks and the run's
    /// configuration. For a type that serializes: `serde_json::to_value(self).unwrap_or_default()`.
    fn config(&self) -> Value {
        Value::Null
    }

    /// Whether it wants the activations that the model shows, in `after_backward`.
    fn listens(&self) -> bool {
        false
    }

    /// What a resumed run needs of it.
    fn state(&self) -> Value {
        Value::Null
    }

    /// Takes back what [`state`](Self::state) gave.
    ///
    /// # Errors
    ///
    /// If the state is not its own.
    fn load_state(&mut self, state: Value) -> Result<(), BoxError> {
        Ok(())
    }

    /// The copy of the parameters that it keeps, such as their average: `[elements]` each, in the order of
    /// the parameter table. A checkpoint holds it in `weights_<name>.safetensors`, which opens in Python
    /// like the model itself.
    fn weights(&self) -> Option<Vec<Tensor<1>>> {
        None
    }

    /// Takes back what [`weights`](Self::weights) gave, after [`load_state`](Self::load_state).
    ///
    /// # Errors
    ///
    /// If it keeps no copy.
    fn load_weights(&mut self, weights: Vec<Tensor<1>>) -> Result<(), BoxError> {
        Err("it keeps no copy of the parameters".into())
    }

    hook_table!(hook_methods);
}

/// Something that happens in a run: what it is called, and how a callback hears of it.
pub(crate) trait Event {
    /// The hook that it is for.
    const HOOK: Hook;

    /// What every hook can see.
    fn cx(&self) -> &Cx<'_>;

    /// Calls the hook.
    fn call(&self, callback: &mut dyn Callback) -> HookResult;
}

macro_rules! impl_events {
    ($($(#[$doc:meta])* $method:ident $hook:ident $event:ident $when:ident,)+) => {$(
        impl Event for crate::event::$event<'_> {
            const HOOK: Hook = Hook::$hook;

            fn cx(&self) -> &Cx<'_> {
                &self.cx
            }

            fn call(&self, callback: &mut dyn Callback) -> HookResult {
                callback.$method(self)
            }
        }
    )+};
}

hook_table!(impl_events);
