//! NaN and infinities in the loss and in the gradients.
//!
//! | key           | unit     | recorded                                                      |
//! |---------------|----------|---------------------------------------------------------------|
//! | `finite/grad` | elements | NaN and infinities in the raw gradients, on every due step    |
//! | `finite/loss` | 0 or 1   | whether the loss is NaN or infinite, on every due step        |
//!
//! [`NonFiniteGuard`] reports or stops. [`SkipNonFinite`] is an intervention, since it changes training: it skips
//! updates that would spoil the weights.

use bdh::burn::tensor::Tensor;
use bdh::hooks::{AfterBackward, FitEnd, StepEnd};
use bdh::{
    BoxError, Cadence, Callback, Deferred, ErrorPolicy, HookResult, Intervention,
    InterventionContext, UpdateDecision, callback,
};
use derive_setters::Setters;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Reaction of [`NonFiniteGuard`] to NaN and infinities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnNonFinite {
    /// Sends a notice with the names of the parameters when it begins. The run continues.
    #[default]
    Report,
    /// Ends the run, with the same text as the reason.
    Stop,
}

/// Counts NaN and infinities in the gradients, and names the parameters.
///
/// Costs no device read of its own: the counts are made on the device, and read with everything else that the step
/// records. They are therefore known, and the run is stopped, one step late, when the weights are spoilt already. Use
/// [`SkipNonFinite`] to keep the weights intact.
///
/// # Examples
///
/// ```
/// use bdh_callbacks::{NonFiniteGuard, OnNonFinite};
///
/// let stop = NonFiniteGuard::default().action(OnNonFinite::Stop);
/// ```
#[derive(Debug, Clone, Default, Setters, Deserialize, Serialize)]
#[setters(into)]
#[serde(default, deny_unknown_fields)]
pub struct NonFiniteGuard {
    /// Steps on which to count. Defaults to every step.
    on: Cadence,
    /// Whether to report or to stop. Defaults to reporting.
    action: OnNonFinite,
    /// Counts of the last due step, checked once they have been read.
    #[setters(skip)]
    #[serde(skip)]
    pending: Option<Pending>,
    /// Finding of this step about an earlier one.
    #[setters(skip)]
    #[serde(skip)]
    reason: Option<String>,
    /// Whether the last checked step had NaN or infinities.
    #[setters(skip)]
    #[serde(skip)]
    was_bad: bool,
}

/// Counts of one step, on the device until the step's read.
#[derive(Debug, Clone)]
struct Pending {
    step: u64,
    loss: Deferred,
    /// Name and count of each parameter. The counts are elements of one vector on the device, read with its sum.
    params: Vec<(String, Deferred)>,
}

/// State in a checkpoint.
#[derive(Serialize, Deserialize)]
struct State {
    was_bad: bool,
    /// Counts of the saved step, which the next step checks.
    pending: Option<Known>,
}

/// Counts of one step, read from the device.
#[derive(Serialize, Deserialize)]
struct Known {
    step: u64,
    #[serde(with = "bdh::number")]
    loss: f64,
    /// Name and count of each parameter with NaN or infinities.
    params: Vec<(String, f64)>,
}

impl Pending {
    /// Returns the counts. A value that has not been read counts as 0.
    fn known(&self) -> Known {
        let mut params = Vec::new();
        for (name, count) in &self.params {
            let count = count.value().unwrap_or(0.0);
            if count != 0.0 {
                params.push((name.clone(), count));
            }
        }
        Known {
            step: self.step,
            loss: self.loss.value().unwrap_or(0.0),
            params,
        }
    }
}

impl Known {
    /// Describes the problem, if there is one.
    fn finding(&self) -> Option<String> {
        let Self { step, loss, params } = self;
        if params.is_empty() {
            return (!loss.is_finite()).then(|| format!("the loss of step {step} is {loss}"));
        }
        Some(format!(
            "gradients of step {step} are not finite: {}",
            list_names(params)
        ))
    }
}

impl From<Known> for Pending {
    fn from(Known { step, loss, params }: Known) -> Self {
        let params = params.into_iter();
        Self {
            step,
            loss: loss.into(),
            params: params.map(|(name, count)| (name, count.into())).collect(),
        }
    }
}

/// Lists up to three names, or two and the number of the others.
fn list_names(params: &[(String, f64)]) -> String {
    let shown = if params.len() > 3 { 2 } else { params.len() };
    let names: Vec<_> = params[..shown]
        .iter()
        .map(|(name, _)| format!("`{name}`"))
        .collect();
    match params.len() - shown {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

impl NonFiniteGuard {
    /// Checks the last counts. Returns the finding when numbers stop being finite, and not again while they stay so.
    fn check_pending(&mut self) -> Option<String> {
        let finding = self.pending.take()?.known().finding();
        let was_bad = std::mem::replace(&mut self.was_bad, finding.is_some());
        if was_bad { None } else { finding }
    }
}

#[callback("finite", on)]
impl Callback for NonFiniteGuard {
    /// Aborts with [`OnNonFinite::Stop`]: a run that should have been stopped must not continue as if all were well.
    fn error_policy(&self) -> ErrorPolicy {
        match self.action {
            OnNonFinite::Stop => ErrorPolicy::Abort,
            OnNonFinite::Report => ErrorPolicy::Disable,
        }
    }

    fn keys(&self) -> Vec<String> {
        ["finite/grad", "finite/loss"].map(str::to_owned).into()
    }

    fn after_backward(&mut self, ctx: &AfterBackward<'_>) -> HookResult {
        ctx.log("finite/grad", ctx.gradients.non_finite());
        let is_bad = ctx.loss.map(|loss| f64::from(u8::from(!loss.is_finite())));
        ctx.log("finite/loss", is_bad);
        self.reason = self.check_pending();
        let gradients = ctx.gradients.iter();
        self.pending = Some(Pending {
            step: ctx.step(),
            loss: ctx.loss.clone(),
            params: gradients
                .map(|param| (param.name().to_owned(), param.non_finite()))
                .collect(),
        });
        Ok(())
    }

    fn on_step(&mut self, ctx: &StepEnd<'_>) -> HookResult {
        match (self.reason.take(), self.action) {
            (Some(reason), OnNonFinite::Stop) => ctx.stop(reason),
            (Some(reason), OnNonFinite::Report) => ctx.notice(reason),
            (None, _) => {}
        }
        Ok(())
    }

    fn state(&self) -> serde_json::Value {
        let state = State {
            was_bad: self.was_bad,
            pending: self.pending.as_ref().map(Pending::known),
        };
        serde_json::to_value(state).unwrap_or_default()
    }

    fn load_state(&mut self, state: serde_json::Value) -> Result<(), BoxError> {
        let State { was_bad, pending } = serde_json::from_value(state)?;
        self.was_bad = was_bad;
        self.pending = pending.map(Pending::from);
        Ok(())
    }

    fn on_fit_end(&mut self, ctx: &FitEnd<'_>) -> HookResult {
        if let Some(reason) = self.check_pending() {
            ctx.notice(reason);
        }
        Ok(())
    }
}

/// Skips updates whose gradients are not finite.
///
/// The step counts, the weights and the optimizer stay as they are, and the trainer records `train/skipped`. Costs one
/// device read a step, for which the device waits, since the decision is needed before the optimizer runs. Clipping
/// computes its norm once more, since an intervention may have changed the gradients.
///
/// # Examples
///
/// ```
/// use bdh_callbacks::SkipNonFinite;
///
/// let skip = SkipNonFinite::default(); // gives up after 100 steps in a row
/// let strict = SkipNonFinite::at_most(3);
/// ```
#[derive(Debug, Clone)]
pub struct SkipNonFinite {
    at_most: u32,
    in_a_row: u32,
}

impl Default for SkipNonFinite {
    fn default() -> Self {
        Self::at_most(100)
    }
}

impl SkipNonFinite {
    /// Skips at most this many steps in a row. One more ends the run, since weights that do not change stay bad.
    #[must_use]
    pub fn at_most(steps: u32) -> Self {
        Self {
            at_most: steps,
            in_a_row: 0,
        }
    }
}

impl Intervention for SkipNonFinite {
    fn name(&self) -> String {
        "skip_non_finite".to_owned()
    }

    fn config(&self) -> Value {
        json!({ "at_most": self.at_most })
    }

    fn intervene(&mut self, ctx: &mut InterventionContext<'_>) -> Result<UpdateDecision, BoxError> {
        if count_non_finite(ctx)? == 0.0 {
            self.in_a_row = 0;
            return Ok(UpdateDecision::Apply);
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        if self.in_a_row > self.at_most {
            let steps = self.in_a_row;
            return Err(format!("gradients of {steps} steps in a row were not finite").into());
        }
        Ok(UpdateDecision::Skip)
    }

    fn state(&self) -> Value {
        self.in_a_row.into()
    }

    fn load_state(&mut self, state: Value) -> Result<(), BoxError> {
        self.in_a_row = serde_json::from_value(state)?;
        Ok(())
    }
}

/// Counts NaN and infinities in all gradients, with one device read.
fn count_non_finite(ctx: &mut InterventionContext<'_>) -> Result<f64, BoxError> {
    let mut counts = Vec::new();
    // Visits each gradient, and leaves it as it is.
    ctx.replace_gradients(|_, gradient| {
        counts.push(gradient.clone().is_finite().bool_not().int().sum().float());
        gradient
    });
    let count = Deferred::from(Tensor::cat(counts, 0).sum());
    ctx.ctx().read(&count)
}
