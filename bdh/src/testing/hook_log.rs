//! Which hooks of a run are called, in order, as text.

mod script;

use crate::cadence::Cadence;
use crate::callback::{Callback, OnError, forward, forward_hooks};
use crate::failure::{BoxError, HookResult};
use crate::hook::{Hook, Hooks, hook_table};
use crate::plan::Outlook;
use burn::tensor::Tensor;
pub(super) use script::{Call, difference};
use serde_json::Value;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Writes down which hooks are called on which steps, and compares that with a script.
///
/// A script is a text: a step with a colon, then the hooks that are called on it, in order. `*2` means twice in a
/// row; lines end where you like. A failed comparison shows both sides, and where they first differ.
///
/// # Examples
///
/// ```
/// use bdh::testing::{HookLog, tiny_run};
/// use bdh::{AfterBackward, Attach, Callback, FitEnd, HookResult, callback, every};
///
/// struct GradNorm;
///
/// #[callback]
/// impl Callback for GradNorm {
///     fn after_backward(&mut self, at: &AfterBackward<'_>) -> HookResult {
///         at.log("grad_norm", at.gradients.l2());
///         Ok(())
///     }
///
///     fn on_fit_end(&mut self, _: &FitEnd<'_>) -> HookResult {
///         Ok(())
///     }
/// }
///
/// let hooks = HookLog::default();
/// tiny_run(6).callback(hooks.of(GradNorm).every(every(2))).build()?.fit()?;
/// hooks.expect(
///     "2: after_backward
///      4: after_backward
///      6: after_backward on_fit_end",
/// );
/// # Ok::<(), bdh::BoxError>(())
/// ```
///
/// All eleven hooks of a step:
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
    /// The callback, with every call of a hook of it written down here.
    pub fn of<C: Callback>(&self, callback: C) -> impl Callback + use<C> {
        Logged {
            inner: callback,
            log: self.clone(),
        }
    }

    /// A callback that has all eleven hooks, and does nothing but write down their calls here.
    #[must_use]
    pub fn callback(&self) -> impl Callback + use<> {
        self.of(AllHooks)
    }

    /// Checks that the hooks were called as the script says, these and no others.
    ///
    /// # Panics
    ///
    /// If they were not, with expected and called side by side, the first difference marked, and all that was
    /// called as a script; or if the text is no script.
    #[track_caller]
    pub fn expect(&self, script: &str) {
        let expected =
            script::parse(script).unwrap_or_else(|why| panic!("this is no script: {why}"));
        let called = self.calls();
        if let Some(difference) = difference(&expected, &called) {
            panic!(
                "the hooks were not called as expected; {difference}\n\nall that was called:\n{self}\n"
            );
        }
    }

    fn note(&self, hook: Hook, step: u64) {
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

/// As a script, a line a step.
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

/// Has every hook, since it does not say which it has.
struct AllHooks;

impl Callback for AllHooks {}

/// A callback whose calls are written down.
struct Logged<C> {
    inner: C,
    log: HookLog,
}

macro_rules! to_logged {
    ($self:ident, $at:ident, $hook:expr, $method:ident) => {{
        $self.log.note($hook, $at.step());
        $self.inner.$method($at)
    }};
}

impl<C: Callback> Callback for Logged<C> {
    forward!(self, self.inner => name hooks cadence on_error keys files check listens config state load_state);
    forward!(self, self.inner => weights load_weights);
    hook_table!(forward_hooks, to_logged);
}
