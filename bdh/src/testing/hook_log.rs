//! Log of the hooks that a run calls, in order, as text.

mod script;

use crate::callback::{Callback, Event, Forward, forward_hooks, forward_methods};
use crate::failure::HookResult;
use crate::hook::{Hook, hook_table};
pub(super) use script::{Call, difference};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// A log of the hooks that a run calls, for comparison with a script.
///
/// A script is a text: a step with a colon, then the hooks of that step, in order. `*2` means twice in a row; line
/// breaks have no meaning. A failed comparison shows both sides around the first difference.
///
/// # Examples
///
/// ```
/// use bdh::testing::{HookLog, tiny_run};
/// use bdh::{CallbackExt, Callback, HookResult, callback};
/// use bdh::cadence::every;
/// use bdh::hooks::{AfterBackward, FitEnd};
///
/// struct GradNorm;
///
/// #[callback]
/// impl Callback for GradNorm {
///     fn after_backward(&mut self, ctx: &AfterBackward<'_>) -> HookResult {
///         ctx.log("grad_norm", ctx.gradients.l2());
///         Ok(())
///     }
///
///     fn on_fit_end(&mut self, _: &FitEnd<'_>) -> HookResult {
///         Ok(())
///     }
/// }
///
/// let hooks = HookLog::default();
/// tiny_run(6).callback(hooks.of(GradNorm).on(every(2))).build()?.fit()?;
/// hooks.expect(
///     "2: after_backward
///      4: after_backward
///      6: after_backward on_fit_end",
/// );
/// # Ok::<(), bdh::BoxError>(())
/// ```
///
/// All eleven hooks:
///
/// ```
/// # use bdh::testing::{HookLog, tiny_run};
/// let hooks = HookLog::default();
/// tiny_run(1).grad_accum_steps(2).callback(hooks.callback()).build()?.fit()?;
/// hooks.expect(
///     "0: on_fit_start
///      1: on_step_start on_micro_batch*2 after_backward before_optimizer_step after_optimizer_step on_step
///         on_eval_batch*2 on_eval on_fit_end",
/// );
/// # Ok::<(), bdh::BoxError>(())
/// ```
#[derive(Clone, Default)]
pub struct HookLog(Arc<Mutex<Vec<Call>>>);

impl HookLog {
    /// Wraps a callback, so that the log contains every call of its hooks.
    pub fn of<C: Callback>(&self, callback: C) -> impl Callback + use<C> {
        Logged {
            inner: callback,
            log: self.clone(),
        }
    }

    /// Makes a callback with all eleven hooks, which only adds their calls to the log.
    #[must_use]
    pub fn callback(&self) -> impl Callback + use<> {
        self.of(AllHooks)
    }

    /// Checks that exactly the hooks of the script were called, in its order.
    ///
    /// # Panics
    ///
    /// If they were not: the text shows both sides around the first difference, then all calls as a script. Also if the
    /// text is not a valid script.
    #[track_caller]
    pub fn expect(&self, script: &str) {
        let expected = match script::parse(script) {
            Ok(expected) => expected,
            Err(error) => panic!("invalid script: {error}"),
        };
        let called = self.calls();
        if let Some(difference) = difference(&expected, &called) {
            panic!("the hooks were not called as expected; {difference}\n\nall calls:\n{self}\n");
        }
    }

    fn add(&self, hook: Hook, step: u64) {
        // Poisoned by a panic of a test, the list of calls is still whole.
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Call { step, hook });
    }

    pub(super) fn calls(&self) -> Vec<Call> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Prints the log as a script, one line per step.
impl fmt::Display for HookLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&script::text(&self.calls()))
    }
}

impl fmt::Debug for HookLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HookLog({self})")
    }
}

/// A callback with every hook: without `#[callback]`, `hooks()` returns all of them.
struct AllHooks;

impl Callback for AllHooks {}

/// A callback whose calls are logged.
struct Logged<C> {
    inner: C,
    log: HookLog,
}

impl<C: Callback> Forward for Logged<C> {
    fn forward<E: Event>(&mut self, event: &E) -> HookResult {
        self.log.add(E::HOOK, event.ctx().step());
        event.call(&mut self.inner)
    }
}

impl<C: Callback> Callback for Logged<C> {
    forward_methods!(self, self.inner => name hooks cadence error_policy keys files check wants_activations);
    forward_methods!(self, self.inner => config state load_state weights load_weights);
    hook_table!(forward_hooks);
}
