//! Conformance checks for callbacks.

mod built;
mod called;
pub(super) mod recorded;
mod runs;
#[cfg(test)]
mod tests;

use super::scratch::Scratch;
use crate::callback::Callback;
use runs::{diverging_run, fit};
use std::fmt;

/// Checks that a callback obeys the rules of [`Callback`], with all checks of [`CallbackCheck`] that need no settings.
///
/// # Panics
///
/// If the callback breaks a rule. The text names the callback and the rule.
///
/// # Examples
///
/// ```
/// use bdh::{Callback, HookResult, callback};
/// use bdh::hooks::AfterBackward;
///
/// struct GradNorm;
///
/// #[callback]
/// impl Callback for GradNorm {
///     fn keys(&self) -> Vec<String> {
///         vec!["grad_norm".to_owned()]
///     }
///
///     fn after_backward(&mut self, ctx: &AfterBackward<'_>) -> HookResult {
///         ctx.log("grad_norm", ctx.gradients.l2());
///         Ok(())
///     }
/// }
///
/// bdh::testing::callback_conforms(|| GradNorm);
/// ```
pub fn callback_conforms<C: Callback + 'static>(make: impl Fn() -> C) {
    CallbackCheck::of(make).conforms();
}

/// Checks that a callback obeys the rules of [`Callback`], in a few runs of a tiny language model.
///
/// | check | rule |
/// |---|---|
/// | [`fires_as_planned`](Self::fires_as_planned) | it is called on the planned steps, and leaves exactly the files that it announces |
/// | [`records_its_keys`](Self::records_its_keys) | it records exactly the keys that it announces |
/// | [`changes_nothing`](Self::changes_nothing) | weights and losses are bit-identical with it and without it |
/// | [`comes_through_a_resume`](Self::comes_through_a_resume) | a resumed run makes the records of an uninterrupted run |
/// | [`survives_nan`](Self::survives_nan) | a loss and gradients that are not finite cause no error and no panic |
/// | [`is_built_by_name`](Self::is_built_by_name) | a configuration file builds an equal callback |
///
/// A run takes 12 steps of 2 micro-batches with clipping, and evaluates and saves every 4 steps. Nothing in it is
/// random, so other tests may train at the same time.
///
/// # Examples
///
/// ```
/// use bdh::{Cadence, Callback, HookResult, callback};
/// use bdh::cadence::every;
/// use bdh::hooks::StepEnd;
///
/// /// Records the duration of a step in seconds.
/// #[derive(serde::Deserialize, serde::Serialize)]
/// #[serde(default, deny_unknown_fields)]
/// struct StepTime {
///     on: Cadence,
/// }
///
/// impl Default for StepTime {
///     fn default() -> Self {
///         Self { on: every(10) }
///     }
/// }
///
/// #[callback("step_time", on)]
/// impl Callback for StepTime {
///     fn keys(&self) -> Vec<String> {
///         vec!["step_time".to_owned()]
///     }
///
///     fn on_step(&mut self, ctx: &StepEnd<'_>) -> HookResult {
///         ctx.log("step_time", ctx.timing.step.as_secs_f64());
///         Ok(())
///     }
/// }
///
/// bdh::testing::CallbackCheck::of(|| StepTime { on: every(3) })
///     .by_name("step_time", "on = 3")
///     .measures(["step_time"])
///     .conforms();
/// ```
#[must_use = "a check does nothing until one of its methods is called"]
pub struct CallbackCheck<F> {
    make: F,
    by_name: Option<(String, String)>,
    records: Option<Vec<String>>,
    measured: Vec<String>,
}

impl<F> fmt::Debug for CallbackCheck<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallbackCheck")
            .field("by_name", &self.by_name)
            .field("records", &self.records)
            .finish_non_exhaustive()
    }
}

impl<C: Callback + 'static, F: Fn() -> C> CallbackCheck<F> {
    /// Makes a check of the callbacks that `make` returns, one for each run.
    ///
    /// They must act, and record all of their keys, within 12 steps.
    pub fn of(make: F) -> Self {
        Self {
            make,
            by_name: None,
            records: None,
            measured: Vec::new(),
        }
    }

    /// Sets the registered name and the settings, in TOML, that build an equal callback.
    pub fn by_name(mut self, name: &str, settings: &str) -> Self {
        self.by_name = Some((name.to_owned(), settings.to_owned()));
        self
    }

    /// Sets the keys that the callback records in a run of the tiny model; `*` stands for any text.
    ///
    /// By default every key that matches [`keys`](Callback::keys) is allowed.
    pub fn records<K: Into<String>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        self.records = Some(keys.into_iter().map(Into::into).collect());
        self
    }

    /// Adds keys whose values are measured, such as a time or a use of memory; `*` stands for any text.
    ///
    /// Measured values differ from run to run, so they are not compared.
    pub fn measures<K: Into<String>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        self.measured.extend(keys.into_iter().map(Into::into));
        self
    }

    /// Makes all checks.
    ///
    /// # Panics
    ///
    /// If the callback breaks a rule. The text names the callback and the rule.
    pub fn conforms(&self) {
        self.fires_as_planned();
        self.records_its_keys();
        self.changes_nothing();
        self.comes_through_a_resume();
        self.survives_nan();
        self.is_built_by_name();
    }

    /// Checks that the callback works in a run that diverges: losses and gradients are not finite.
    ///
    /// # Panics
    ///
    /// If the callback fails or panics.
    pub fn survives_nan(&self) {
        let name = self.name();
        let diverged = fit(&Scratch::new().run, diverging_run().callback((self.make)()));
        let warnings = &diverged.result.warnings;
        assert!(
            warnings.is_empty(),
            "`{name}` does not survive a loss of NaN: {warnings:?}"
        );
    }

    fn name(&self) -> String {
        (self.make)().name()
    }
}
