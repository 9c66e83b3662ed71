//! Watches for numbers that are none: NaN and infinities in the loss and in the gradients.
//!
//! | key           | unit     | recorded                                                      |
//! |---------------|----------|---------------------------------------------------------------|
//! | `finite/grad` | elements | NaN or infinite ones in the raw gradients, on every due step  |
//! | `finite/loss` | 0 or 1   | whether the loss is NaN or infinite, on every due step        |
//!
//! [`Finite`] reports or stops. To leave out the updates that would spoil the weights changes training, and is
//! an intervention: [`SkipNonFinite`].

use bdh::burn::tensor::Tensor;
use bdh::{
    AfterBackward, BoxError, Cadence, Callback, ConfigError, Deferred, FitEnd, HookResult,
    Intervene, Intervention, OnError, ParamStats, StepEnd, Verdict, callback,
};
use derive_builder::Builder;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What [`Finite`] does about numbers that are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnNonFinite {
    /// Tells the sinks, when it begins, which parameters are concerned; the run goes on.
    #[default]
    Report,
    /// Ends the run with the same text as its reason.
    Stop,
}

/// Counts NaN and infinities in the gradients, and names the parameters.
///
/// Counted on the device and read with everything else that the step records: no device read of its own, in
/// either mode. The price is that they are known, and the run is stopped, one step late. The weights are spoilt
/// by then in any case; [`SkipNonFinite`] is what keeps them whole.
///
/// # Examples
///
/// ```
/// use bdh_callbacks::{Finite, OnNonFinite};
///
/// let stop = Finite::builder().action(OnNonFinite::Stop).build()?;
/// # Ok::<(), bdh::ConfigError>(())
/// ```
#[derive(Debug, Clone, Default, Builder, Deserialize, Serialize)]
#[builder(
    pattern = "owned",
    default,
    setter(into),
    build_fn(error = "ConfigError")
)]
#[builder_struct_attr(must_use = "a builder does nothing until `build` is called")]
#[serde(default, deny_unknown_fields)]
pub struct Finite {
    /// Steps on which to look. Defaults to every step.
    cadence: Cadence,
    /// Whether to report or to stop. Defaults to reporting.
    action: OnNonFinite,
    /// What the last due step logged, to be looked at once it has been read.
    #[builder(setter(skip))]
    #[serde(skip)]
    pending: Option<Pending>,
    /// What was found wrong on this step, of an earlier one.
    #[builder(setter(skip))]
    #[serde(skip)]
    reason: Option<String>,
    /// Whether the last step that was looked at had non-finite numbers.
    #[builder(setter(skip))]
    #[serde(skip)]
    was_bad: bool,
}

/// The counts of one step, on the device until the step's read.
#[derive(Debug, Clone)]
struct Pending {
    step: u64,
    loss: Deferred,
    /// Elements of the same vector on the device as their sum: known when that is.
    params: Vec<(String, Deferred)>,
}

/// What a checkpoint holds: of the step, what the next one judges.
#[derive(Serialize, Deserialize)]
struct State {
    was_bad: bool,
    pending: Option<Judged>,
}

#[derive(Serialize, Deserialize)]
struct Judged {
    step: u64,
    #[serde(with = "bdh::number")]
    loss: f64,
    params: Vec<(String, f64)>,
}

impl Pending {
    /// What is wrong, in words, if anything is.
    fn verdict(&self) -> Option<String> {
        let is_bad = |count: &Deferred| count.value().is_some_and(|count| count != 0.0);
        let bad = self.params.iter().filter(|(_, count)| is_bad(count));
        let names: Vec<_> = bad.map(|(name, _)| format!("`{name}`")).collect();
        let (step, loss) = (self.step, self.loss.value().unwrap_or(0.0));
        match names.as_slice() {
            [] if loss.is_finite() => None,
            [] => Some(format!("the loss of step {step} is {loss}")),
            [_] | [_, _] | [_, _, _] => Some(format!(
                "gradients of step {step} are not finite: {}",
                names.join(", ")
            )),
            [first, second, rest @ ..] => Some(format!(
                "gradients of step {step} are not finite: {first}, {second} and {} more",
                rest.len()
            )),
        }
    }
}

impl Finite {
    /// Begins with the defaults: every step, reporting.
    pub fn builder() -> FiniteBuilder {
        FiniteBuilder::default()
    }

    /// Looks at what has been read since; gives a text when something is newly wrong.
    fn look(&mut self) -> Option<String> {
        let verdict = self.pending.take()?.verdict();
        let was_bad = std::mem::replace(&mut self.was_bad, verdict.is_some());
        verdict.filter(|_| !was_bad)
    }
}

#[callback("finite")]
impl Callback for Finite {
    fn config(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn cadence(&self) -> Cadence {
        self.cadence.clone()
    }

    /// A run that it was to stop, and could not, would go on as if all were well.
    fn on_error(&self) -> OnError {
        match self.action {
            OnNonFinite::Stop => OnError::Abort,
            OnNonFinite::Report => OnError::Disable,
        }
    }

    fn keys(&self) -> Vec<String> {
        ["finite/grad", "finite/loss"].map(str::to_owned).into()
    }

    fn after_backward(&mut self, at: &AfterBackward<'_>) -> HookResult {
        let count = |param: ParamStats<'_>| (param.name().to_owned(), param.non_finite());
        let params = at.gradients.iter().map(count).collect();
        at.log("finite/grad", at.gradients.non_finite());
        at.log(
            "finite/loss",
            at.loss.map(|loss| f64::from(u8::from(!loss.is_finite()))),
        );
        let pending = Pending {
            step: at.step(),
            loss: at.loss.clone(),
            params,
        };
        self.reason = self.look();
        self.pending = Some(pending);
        Ok(())
    }

    fn on_step(&mut self, at: &StepEnd<'_>) -> HookResult {
        match (self.reason.take(), self.action) {
            (Some(reason), OnNonFinite::Stop) => at.stop(reason),
            (Some(reason), OnNonFinite::Report) => at.remark(reason),
            (None, _) => {}
        }
        Ok(())
    }

    fn state(&self) -> serde_json::Value {
        let known = |value: &Deferred| value.value().unwrap_or(0.0);
        let pending = self.pending.as_ref().map(|Pending { step, loss, params }| {
            let params = params
                .iter()
                .map(|(name, count)| (name.clone(), known(count)));
            let params = params.filter(|(_, count)| *count != 0.0).collect();
            Judged {
                step: *step,
                loss: known(loss),
                params,
            }
        });
        serde_json::to_value(State {
            was_bad: self.was_bad,
            pending,
        })
        .unwrap_or_default()
    }

    fn load_state(&mut self, state: serde_json::Value) -> Result<(), BoxError> {
        let State { was_bad, pending } = serde_json::from_value(state)?;
        self.was_bad = was_bad;
        self.pending = pending.map(|Judged { step, loss, params }| {
            let params = params
                .into_iter()
                .map(|(name, count)| (name, count.into()))
                .collect();
            Pending {
                step,
                loss: loss.into(),
                params,
            }
        });
        Ok(())
    }

    fn on_fit_end(&mut self, at: &FitEnd<'_>) -> HookResult {
        if let Some(reason) = self.look() {
            at.remark(reason);
        }
        Ok(())
    }
}

/// Leaves out updates whose gradients are not finite; the step counts all the same.
///
/// The weights and the optimizer stay as they are, and the trainer records `train/skipped`. Whether to skip must
/// be known before the optimizer runs: this costs one device read a step, in which the device waits for the host.
/// Clipping then computes its norm once more, since an intervention may have changed the gradients.
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
    /// Skips so many steps in a row; one more ends the run, since weights that stay the same stay bad.
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

    fn intervene(&mut self, at: &mut Intervene<'_>) -> Result<Verdict, BoxError> {
        let mut counts = Vec::new();
        at.replace_gradients(|_, gradient| {
            counts.push(gradient.clone().is_finite().bool_not().int().sum().float());
            gradient
        });
        let count = Deferred::from(Tensor::cat(counts, 0).sum());
        if at.cx().read(&count)? == 0.0 {
            self.in_a_row = 0;
            return Ok(Verdict::Apply);
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        if self.in_a_row > self.at_most {
            return Err(format!(
                "gradients of {} steps in a row were not finite",
                self.in_a_row
            )
            .into());
        }
        Ok(Verdict::Skip)
    }

    fn state(&self) -> Value {
        self.in_a_row.into()
    }

    fn load_state(&mut self, state: Value) -> Result<(), BoxError> {
        self.in_a_row = serde_json::from_value(state)?;
        Ok(())
    }
}
