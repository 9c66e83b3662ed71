//! Callbacks: code that observes a run at eleven hooks.

mod closures;
mod compose;
mod configured;
mod forward;

pub use closures::{
    after_backward, after_optimizer_step, before_optimizer_step, on_checkpoint, on_eval,
    on_eval_batch, on_fit_end, on_fit_start, on_micro_batch, on_step, on_step_start,
};
pub use configured::{CallbackExt, Configured};
pub(crate) use forward::{Forward, forward_hooks, forward_methods};

use crate::cadence::Cadence;
use crate::context::Context;
use crate::failure::{BoxError, HookResult};
use crate::hook::{Hook, Hooks, hook_table};
use crate::names::short_type_name;
use crate::plan::Outlook;
use burn::tensor::Tensor;
use serde_json::Value;

/// Effect of a failing callback on the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorPolicy {
    /// Switches the callback off, reports the failure once as a warning, and continues training.
    #[default]
    Disable,
    /// Ends the run with the callback's error.
    Abort,
}

macro_rules! hook_methods {
    ($($(#[$doc:meta])* $method:ident $hook:ident $event:ident $when:ident,)+) => {$(
        $(#[$doc])*
        ///
        /// # Errors
        ///
        /// Any error of the callback. [`error_policy`](Self::error_policy) decides what it does to the run.
        fn $method(&mut self, ctx: &crate::event::$event<'_>) -> HookResult {
            Ok(())
        }
    )+};
}

/// An observer of a run: measures, records, and may ask the run to stop, evaluate or save.
///
/// Implement the hooks you need and put `#[callback]` on the impl: hooks that are not implemented cost nothing.
/// A callback gets shared references only, so it cannot change training; an
/// [`Intervention`](crate::Intervention) can. The trait is not generic over the model, so a configuration file can
/// name a callback.
///
/// # Cost
///
/// Statistics of tensors are [`Deferred`](crate::Deferred): `ctx.log` keeps them on the device, and the trainer
/// fetches everything that a step logs with one device read. [`Context::read`](crate::Context::read) fetches a value
/// at once: one more device read, which stalls the device.
///
/// # Hooks
///
/// In the order of a step (`on_…` are called between steps, `before_…` and `after_…` inside one):
///
/// 1. [`on_fit_start`](Self::on_fit_start), once
/// 2. [`on_step_start`](Self::on_step_start)
/// 3. [`on_micro_batch`](Self::on_micro_batch), once per micro-batch
/// 4. [`after_backward`](Self::after_backward): gradients before clipping
/// 5. [`before_optimizer_step`](Self::before_optimizer_step): gradients after clipping
/// 6. [`after_optimizer_step`](Self::after_optimizer_step): the update itself
/// 7. [`on_step`](Self::on_step)
/// 8. [`on_eval_batch`](Self::on_eval_batch) and [`on_eval`](Self::on_eval), if the step has an eval
/// 9. [`on_checkpoint`](Self::on_checkpoint), if the step has a checkpoint
/// 10. [`on_fit_end`](Self::on_fit_end), once, however the run ended
///
/// Hooks 2 to 7 are called on the steps of the callback's [`cadence`](Self::cadence); the others on every occasion.
///
/// # Requests
///
/// `on_step` can ask the run to stop, to evaluate and to save; `on_eval` can ask it to stop and to save. The other
/// hooks cannot, and code that tries does not compile:
///
/// ```compile_fail,E0599
/// fn ask(ctx: &bdh::hooks::AfterBackward<'_>) {
///     ctx.stop("these gradients look bad"); // there is no such method
/// }
/// ```
///
/// # Examples
///
/// ```
/// use bdh::{Callback, HookResult, callback};
/// use bdh::hooks::AfterBackward;
///
/// /// Records how much of each gradient is signal.
/// struct SignalToNoise;
///
/// #[callback]
/// impl Callback for SignalToNoise {
///     fn after_backward(&mut self, ctx: &AfterBackward<'_>) -> HookResult {
///         for param in ctx.gradients.iter() {
///             ctx.log(format!("snr/{}", param.name()), param.mean() / param.std());
///         }
///         Ok(())
///     }
/// }
///
/// assert_eq!(SignalToNoise.hooks().to_string(), "after_backward");
/// ```
///
/// A callback without state can be a closure:
///
/// ```
/// use bdh::CallbackExt;
/// use bdh::cadence::every;
/// use bdh::hooks::on_step;
///
/// let note = on_step(|ctx| Ok(ctx.log("tokens", ctx.clock().tokens as f64))).on(every(100));
/// ```
#[expect(
    unused_variables,
    reason = "a default hook ignores its parameter, but names it in the docs"
)]
pub trait Callback: Send {
    /// Returns the callback's name, unique in a run, for the plan, the overhead table, checkpoints and errors.
    ///
    /// `#[callback("name")]` writes this method. The default is the type's name.
    fn name(&self) -> String {
        short_type_name::<Self>()
    }

    /// Returns the hooks to call. `#[callback]` writes this method from the hooks in the impl.
    fn hooks(&self) -> Hooks {
        Hooks::ALL
    }

    /// Returns the steps on which the callback acts. Defaults to every step.
    ///
    /// Hooks that belong to one step's training (2 to 7) follow the cadence. It must not change during a run.
    fn cadence(&self) -> Cadence {
        Cadence::EVERY_STEP
    }

    /// Returns the effect of the callback's failure on the run. Defaults to [`ErrorPolicy::Disable`].
    ///
    /// A hook fails when it returns an error or panics.
    fn error_policy(&self) -> ErrorPolicy {
        ErrorPolicy::default()
    }

    /// Returns the keys that the callback records, for the plan; `*` matches a parameter's name.
    ///
    /// In a key such as `*/ema_*`, the first `*` matches every eval set, and the second every metric of it.
    fn keys(&self) -> Vec<String> {
        Vec::new()
    }

    /// Returns the files that the callback leaves in a run of `steps` steps, relative to the run directory, for the
    /// plan. `steps` is 0 in a run that is limited by time.
    ///
    /// Write each file to the path that [`Context::file`](crate::Context::file) returns: it has the callback's prefix.
    fn files(&self, steps: u64) -> Vec<String> {
        Vec::new()
    }

    /// Checks, before the run, that the callback can work in it.
    ///
    /// Settings that merely have no effect in this run belong in a [note](Outlook::note).
    ///
    /// # Errors
    ///
    /// If the callback cannot work in this run. The text states what is wrong, with the value, and what would work.
    fn check(&self, run: &Outlook<'_>) -> Result<(), BoxError> {
        Ok(())
    }

    /// Returns the callback's settings, as a configuration file would spell them, for `run.json`.
    ///
    /// `#[callback("name")]` writes this method for a type that implements `Serialize`. The default, `null`, is no
    /// settings.
    fn config(&self) -> Value {
        Value::Null
    }

    /// Whether the callback wants the model's activations in [`after_backward`](Self::after_backward).
    ///
    /// The model offers them with a [`Probe`](crate::Probe). They are kept on due steps only.
    fn wants_activations(&self) -> bool {
        false
    }

    /// Returns the state that a resumed run needs. Every checkpoint holds it. The default, `null`, is no state.
    ///
    /// A [`Deferred`](crate::Deferred) kept between steps has its value here if the callback passed it to
    /// [`Context::read_along`](crate::Context::read_along).
    fn state(&self) -> Value {
        Value::Null
    }

    /// Restores a state that [`state`](Self::state) returned.
    ///
    /// # Errors
    ///
    /// If the state does not belong to this callback.
    fn load_state(&mut self, state: Value) -> Result<(), BoxError> {
        Ok(())
    }

    /// Returns the callback's copy of the parameters, such as their average, if it keeps one.
    ///
    /// One tensor, `[elements]`, for each parameter, in the order of the parameter table. A checkpoint holds the copy
    /// in `weights_<name>.safetensors`, which opens in Python like the model itself.
    fn weights(&self) -> Option<Vec<Tensor<1>>> {
        None
    }

    /// Restores a copy that [`weights`](Self::weights) returned. Called after [`load_state`](Self::load_state).
    ///
    /// # Errors
    ///
    /// If the callback keeps no copy.
    fn load_weights(&mut self, weights: Vec<Tensor<1>>) -> Result<(), BoxError> {
        Err("it keeps no copy of the parameters".into())
    }

    hook_table!(hook_methods);
}

/// An occasion of a run on which callbacks are called.
pub(crate) trait Event {
    /// The hook that receives the event.
    const HOOK: Hook;

    /// Returns the context shared by all hooks.
    fn ctx(&self) -> &Context<'_>;

    /// Calls the hook of a callback.
    fn call<C: Callback + ?Sized>(&self, callback: &mut C) -> HookResult;
}

macro_rules! impl_events {
    ($($(#[$doc:meta])* $method:ident $hook:ident $event:ident $when:ident,)+) => {$(
        impl Event for crate::event::$event<'_> {
            const HOOK: Hook = Hook::$hook;

            fn ctx(&self) -> &Context<'_> {
                &self.ctx
            }

            fn call<C: Callback + ?Sized>(&self, callback: &mut C) -> HookResult {
                callback.$method(self)
            }
        }
    )+};
}

hook_table!(impl_events);
