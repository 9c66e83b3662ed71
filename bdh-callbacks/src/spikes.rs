//! Spikes of the loss and of the gradient norm, and where the batch is that made them.
//!
//! | key               | unit                | recorded                                                     |
//! |-------------------|---------------------|--------------------------------------------------------------|
//! | `spike/loss`      | standard deviations | above the recent mean, on every due step                     |
//! | `spike/grad_norm` | standard deviations | the same, of the global L2 norm before clipping              |
//! | `spikes`          | table               | on the due step after a spike: value, and position in the data |
//!
//! Mean and deviation are those of the due steps before, over an exponential window; during the warm-up the
//! figures are 0.

use crate::settings::within;
use bdh::number::Number;
use bdh::{
    AfterBackward, BoxError, Cadence, Callback, Clock, ConfigError, Cx, Deferred, FitEnd,
    HookResult, Outlook, Value, callback,
};
use derive_builder::Builder;
use serde::{Deserialize, Serialize};

/// Says how far loss and gradient norm are from what they recently were, and which batch was behind a spike.
///
/// Figures are computed on the host from values that the step records, so that there is no device read of its
/// own; on steps on which the trainer records nothing (its `log` cadence) they are what the read is for. They
/// are known after the step: a spike is told, with the micro-batches and samples that the step saw, on the
/// next due one. A spike enters the window as if it were just at the threshold, so that one does not hide the
/// next; NaN and infinities are spikes, and do not enter it.
///
/// # Examples
///
/// ```
/// use bdh_callbacks::Spikes;
///
/// let spikes = Spikes::builder().window(200).threshold(6.0).build()?;
/// # Ok::<(), bdh::ConfigError>(())
/// ```
#[derive(Debug, Clone, Builder, Deserialize, Serialize)]
#[builder(
    pattern = "owned",
    default,
    setter(into),
    build_fn(error = "ConfigError")
)]
#[builder_struct_attr(must_use = "a builder does nothing until `build` is called")]
#[serde(default, deny_unknown_fields)]
pub struct Spikes {
    /// Steps on which to look. Defaults to every step.
    cadence: Cadence,
    /// Due steps over which the window fades to 1/e. Defaults to 100.
    #[builder(setter(into = false))]
    window: u32,
    /// Due steps before anything is called a spike. Defaults to 20.
    #[builder(setter(into = false))]
    warmup: u32,
    /// Standard deviations above the mean that make a spike. Defaults to 5.
    threshold: f64,
    /// Loss and gradient norm.
    #[builder(setter(skip))]
    #[serde(skip)]
    windows: [Window; 2],
    /// The last due step, its values read by the time of the next.
    #[builder(setter(skip))]
    #[serde(skip)]
    pending: Option<Pending>,
}

impl Default for Spikes {
    fn default() -> Self {
        let (cadence, windows) = (Cadence::EVERY_STEP, <[Window; 2]>::default());
        Self {
            cadence,
            window: 100,
            warmup: 20,
            threshold: 5.0,
            windows,
            pending: None,
        }
    }
}

/// Mean and variance of recent values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Window {
    count: u32,
    #[serde(with = "bdh::number")]
    mean: f64,
    #[serde(with = "bdh::number")]
    variance: f64,
}

impl Window {
    /// Takes a value in: the plain mean at first, an exponential one when there are more than `length`.
    ///
    /// Source: Finch, 2009, *Incremental calculation of weighted mean and variance*, section 9.
    fn push(&mut self, value: f64, length: u32) {
        self.count = self.count.saturating_add(1);
        let share = 1.0 / f64::from(self.count.min(length).max(1));
        let delta = value - self.mean;
        self.mean += share * delta;
        self.variance = (1.0 - share) * (self.variance + share * delta * delta);
    }

    /// The standard deviation, at least a millionth of the mean: of a constant, nothing is a spike.
    fn deviation(&self) -> f64 {
        self.variance
            .sqrt()
            .max(1e-6 * self.mean.abs())
            .max(f64::MIN_POSITIVE)
    }
}

/// A step whose values are still on the device.
#[derive(Debug, Clone)]
struct Pending {
    before: Clock,
    after: Clock,
    /// Loss and gradient norm.
    values: [Deferred; 2],
}

/// What a resumed run needs.
#[derive(Serialize, Deserialize)]
struct State {
    windows: [Window; 2],
    pending: Option<(Clock, Clock, [Number; 2])>,
}

const NAMES: [&str; 2] = ["loss", "grad_norm"];

impl Spikes {
    /// Begins with the defaults.
    pub fn builder() -> SpikesBuilder {
        SpikesBuilder::default()
    }

    fn is_warm(&self, window: &Window) -> bool {
        window.count >= self.warmup.max(2)
    }

    /// How many deviations a value is above the mean.
    fn score(&self, window: &Window, value: &Deferred) -> Deferred {
        if self.is_warm(window) {
            (value.clone() - window.mean) / window.deviation()
        } else {
            value.map(|_| 0.0) // still read: the window needs it
        }
    }

    /// Takes the values of the last due step in; gives a row of the table for each spike.
    fn settle(&mut self) -> Vec<Vec<String>> {
        let Some(Pending {
            before,
            after,
            values,
        }) = self.pending.take()
        else {
            return Vec::new();
        };
        let mut rows = Vec::new();
        for (index, value) in values.iter().enumerate() {
            let window = self.windows[index];
            let Some(value) = value.value() else { continue };
            let score = (value - window.mean) / window.deviation();
            let is_far = score > self.threshold || score.is_nan();
            let is_spike = is_far && self.is_warm(&window);
            if is_spike {
                rows.push(row(NAMES[index], value, score, &before, &after));
            }
            let most = window.mean + self.threshold * window.deviation();
            let taken = if is_spike { value.min(most) } else { value };
            if value.is_finite() {
                self.windows[index].push(taken, self.window);
            }
        }
        rows
    }

    fn tell(&mut self, at: &Cx<'_>) {
        let rows = self.settle();
        if rows.is_empty() {
            return;
        }
        for row in &rows {
            let [what, value, score, step, _, samples, _] = row.as_slice() else {
                continue;
            };
            at.remark(format!(
                "{what} of step {step} is {value}, {score} deviations up; samples {samples}"
            ));
        }
        let columns = COLUMNS.map(str::to_owned).into();
        at.log("spikes", Value::Table { columns, rows });
    }
}

const COLUMNS: [&str; 7] = [
    "what",
    "value",
    "deviations",
    "step",
    "micro_batches",
    "samples",
    "tokens",
];

/// Positions count from 0, the end left out: they are what the data source had given before the step, and after.
fn row(what: &str, value: f64, score: f64, before: &Clock, after: &Clock) -> Vec<String> {
    let span = |count: fn(&Clock) -> u64| format!("{}..{}", count(before), count(after));
    vec![
        what.to_owned(),
        value.to_string(),
        format!("{score:.1}"),
        after.step.to_string(),
        span(|clock| clock.micro_batches),
        span(|clock| clock.samples),
        span(|clock| clock.tokens),
    ]
}

#[callback("spikes")]
impl Callback for Spikes {
    fn config(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn cadence(&self) -> Cadence {
        self.cadence.clone()
    }

    fn check(&self, run: &Outlook<'_>) -> Result<(), BoxError> {
        within("window", self.window, 1.., "use 1 or more")?;
        within(
            "threshold",
            self.threshold,
            0.0..,
            "use 0 or more, such as 5",
        )?;
        if u64::from(self.warmup) >= run.plan().steps {
            let (warmup, steps) = (self.warmup, run.plan().steps);
            run.note(format!(
                "finds no spike: `warmup` is {warmup}, and the run takes {steps} steps"
            ));
        }
        Ok(())
    }

    fn keys(&self) -> Vec<String> {
        ["spike/loss", "spike/grad_norm", "spikes"]
            .map(str::to_owned)
            .into()
    }

    fn after_backward(&mut self, at: &AfterBackward<'_>) -> HookResult {
        self.tell(at);
        let values = [at.loss.clone(), at.gradients.l2()];
        for ((name, window), value) in NAMES.iter().zip(&self.windows).zip(&values) {
            at.log(format!("spike/{name}"), self.score(window, value));
        }
        let (before, after) = (at.previous().copied().unwrap_or_default(), *at.clock());
        self.pending = Some(Pending {
            before,
            after,
            values,
        });
        Ok(())
    }

    fn on_fit_end(&mut self, at: &FitEnd<'_>) -> HookResult {
        self.tell(at);
        Ok(())
    }

    fn state(&self) -> serde_json::Value {
        let known = |pending: &Pending| {
            let values = pending
                .values
                .each_ref()
                .map(|v| Number(v.value().unwrap_or(f64::NAN)));
            (pending.before, pending.after, values)
        };
        let state = State {
            windows: self.windows,
            pending: self.pending.as_ref().map(known),
        };
        serde_json::to_value(state).unwrap_or_default()
    }

    fn load_state(&mut self, state: serde_json::Value) -> Result<(), BoxError> {
        let State { windows, pending } = serde_json::from_value(state)?;
        self.windows = windows;
        self.pending = pending.map(|(before, after, values)| {
            let values = values.map(|value| Deferred::from(value.0));
            Pending {
                before,
                after,
                values,
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_begins_as_mean_and_variance_and_then_fades() {
        let mut window = Window::default();
        for value in [2.0, 4.0, 6.0] {
            window.push(value, 10);
        }
        assert!((window.mean - 4.0).abs() < 1e-12 && (window.variance - 8.0 / 3.0).abs() < 1e-12);
        for _ in 0..200 {
            window.push(1.0, 10);
        }
        assert!((window.mean - 1.0).abs() < 1e-6 && window.variance < 1e-6);
    }

    fn settled(spikes: &mut Spikes, loss: f64) -> usize {
        let clock = Clock::default();
        let values = [Deferred::from(loss), Deferred::from(1.0)];
        spikes.pending = Some(Pending {
            before: clock,
            after: clock,
            values,
        });
        spikes.settle().len()
    }

    #[test]
    fn only_what_is_far_above_the_mean_is_a_spike_and_one_does_not_hide_the_next() {
        let mut spikes = Spikes::default();
        let quiet = (0..50).map(|step| 2.0 + 0.1 * f64::from(step % 3));
        assert_eq!(
            quiet.map(|loss| settled(&mut spikes, loss)).sum::<usize>(),
            0
        );
        let told = [9.0, 2.1, 9.0, -9.0, f64::NAN, f64::INFINITY, 2.1];
        assert_eq!(
            told.map(|loss| settled(&mut spikes, loss)),
            [1, 0, 1, 0, 1, 1, 0]
        );
    }
}
