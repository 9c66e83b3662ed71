//! Checks for callbacks of your own.

mod built;
mod called;
pub(super) mod recorded;
mod runs;
#[cfg(test)]
mod tests;

use super::scratch::Scratch;
use crate::callback::Callback;
use runs::{diverging_run, fit};

/// Checks that a callback keeps what [`Callback`] promises to a run: all that [`CallbackCheck`] can check of it
/// without being told more.
///
/// # Panics
///
/// With the callback's name, and what it violated.
///
/// # Examples
///
/// ```
/// use bdh::{AfterBackward, Callback, HookResult, callback};
///
/// struct GradNorm;
///
/// #[callback]
/// impl Callback for GradNorm {
///     fn keys(&self) -> Vec<String> {
///         vec!["grad_norm".to_owned()]
///     }
///
///     fn after_backward(&mut self, at: &AfterBackward<'_>) -> HookResult {
///         at.log("grad_norm", at.gradients.l2());
///         Ok(())
///     }
/// }
///
/// bdh::testing::callback_conforms(|| GradNorm);
/// ```
pub fn callback_conforms<C: Callback + 'static>(make: impl Fn() -> C) {
    CallbackCheck::of(make).conforms();
}

/// What a callback promises to a run, each promise checked in a few runs of a tiny language model.
///
/// | check | promise |
/// |---|---|
/// | [`fires_as_planned`](Self::fires_as_planned) | it is called on the steps of the plan, and leaves its files and no others |
/// | [`records_its_keys`](Self::records_its_keys) | it records the keys that it announces, all of them and no others |
/// | [`changes_nothing`](Self::changes_nothing) | weights and losses are the same to the bit, with it and without it |
/// | [`comes_through_a_resume`](Self::comes_through_a_resume) | a resumed run records what the uninterrupted one does |
/// | [`survives_nan`](Self::survives_nan) | a loss and gradients that are not finite are no error and no panic |
/// | [`is_built_by_name`](Self::is_built_by_name) | a configuration file builds the same |
///
/// A run takes 12 steps of 2 micro-batches with clipping, and evaluates and saves on every fourth. Nothing in it is
/// random, so other tests may train meanwhile.
///
/// # Examples
///
/// ```
/// use bdh::{Cadence, Callback, HookResult, StepEnd, callback, every};
///
/// /// Records how long a step takes.
/// #[derive(serde::Deserialize, serde::Serialize)]
/// #[serde(default, deny_unknown_fields)]
/// struct StepTime {
///     when: Cadence,
/// }
///
/// impl Default for StepTime {
///     fn default() -> Self {
///         Self { when: every(10) }
///     }
/// }
///
/// #[callback("step_time")]
/// impl Callback for StepTime {
///     fn cadence(&self) -> Cadence {
///         self.when.clone()
///     }
///
///     fn config(&self) -> serde_json::Value {
///         serde_json::to_value(self).unwrap_or_default()
///     }
///
///     fn keys(&self) -> Vec<String> {
///         vec!["step_time".to_owned()]
///     }
///
///     fn on_step(&mut self, at: &StepEnd<'_>) -> HookResult {
///         at.log("step_time", at.timing.step.as_secs_f64());
///         Ok(())
///     }
/// }
///
/// bdh::testing::CallbackCheck::of(|| StepTime { when: every(3) })
///     .by_name("step_time", "when = 3")
///     .measures(["step_time"])
///     .conforms();
/// ```
#[must_use = "it checks nothing until asked to"]
pub struct CallbackCheck<F> {
    make: F,
    by_name: Option<(String, String)>,
    records: Option<Vec<String>>,
    measured: Vec<String>,
}

impl<C: Callback + 'static, F: Fn() -> C> CallbackCheck<F> {
    /// Checks callbacks made like this. It is called for each run, and makes one that acts, and records all of its
    /// keys, within 12 steps.
    pub fn of(make: F) -> Self {
        Self {
            make,
            by_name: None,
            records: None,
            measured: Vec::new(),
        }
    }

    /// A configuration builds the same under this name, with these settings in TOML.
    pub fn by_name(mut self, name: &str, settings: &str) -> Self {
        self.by_name = Some((name.to_owned(), settings.to_owned()));
        self
    }

    /// These are the keys that it records in a run of the tiny model, `*` standing for anything; unsaid, whatever
    /// matches [`keys`](Callback::keys).
    pub fn records<K: Into<String>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        self.records = Some(keys.into_iter().map(Into::into).collect());
        self
    }

    /// What it records under these keys, `*` standing for anything, is measured and not computed, such as a time or
    /// a use of memory: no two runs record the same.
    pub fn measures<K: Into<String>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        self.measured.extend(keys.into_iter().map(Into::into));
        self
    }

    /// Makes all checks.
    ///
    /// # Panics
    ///
    /// With the callback's name, and what it violated; so do the checks one by one.
    pub fn conforms(&self) {
        self.fires_as_planned();
        self.records_its_keys();
        self.changes_nothing();
        self.comes_through_a_resume();
        self.survives_nan();
        self.is_built_by_name();
    }

    /// Checks that it gets through a run that has diverged, in which losses and gradients are not finite.
    ///
    /// # Panics
    ///
    /// If it fails or panics.
    pub fn survives_nan(&self) {
        let name = self.name();
        let diverged = fit(&Scratch::new().run, diverging_run().callback((self.make)()));
        let problems = &diverged.fitted.problems;
        assert!(
            problems.is_empty(),
            "`{name}` does not survive a loss of NaN: {problems:?}"
        );
    }

    fn name(&self) -> String {
        (self.make)().name()
    }
}
