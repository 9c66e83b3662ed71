//! Spikes of the loss and the gradient norm, with the position of their batches.
//!
//! | key               | unit                | recorded                                                     |
//! |-------------------|---------------------|--------------------------------------------------------------|
//! | `spike/loss`      | standard deviations | above the recent mean, on every due step                     |
//! | `spike/grad_norm` | standard deviations | above the recent mean, on every due step; before clipping    |
//! | `spikes`          | table               | on the due step after a spike; value, and position in the data |
//!
//! Mean and deviation are taken over the earlier due steps, in an exponential window. During the warm-up the values
//! are 0.

use crate::settings::within;
use bdh::hooks::{AfterBackward, FitEnd};
use bdh::number::Number;
use bdh::{
    BoxError, Cadence, Callback, Clock, Context, Deferred, HookResult, Outlook, Value, callback,
};
use derive_setters::Setters;
use serde::{Deserialize, Serialize};

/// Records how far loss and gradient norm are above their recent means, and the batches of spikes.
///
/// The values are computed on the host from numbers that the step records, so there is no device read of its own. On
/// steps on which the trainer records nothing (its `log` cadence), they cause that step's read. They are known after the
/// step, so a spike is reported on the next due step, with the micro-batches and samples that its step used. A spike
/// enters the window as if it were at the threshold, so that it does not hide the next one. NaN and infinities are spikes
/// and do not enter the window.
///
/// # Examples
///
/// ```
/// use bdh_callbacks::LossSpikes;
///
/// let spikes = LossSpikes::default().window(200).threshold(6.0);
/// ```
#[derive(Debug, Clone, Setters, Deserialize, Serialize)]
#[setters(into)]
#[serde(default, deny_unknown_fields)]
pub struct LossSpikes {
    /// Steps on which to measure. Defaults to every step.
    on: Cadence,
    /// Due steps after which a value's weight in the window has faded to 1/e. Defaults to 100.
    #[setters(into = false)]
    window: u32,
    /// Due steps before the first value that can be a spike. Defaults to 20.
    #[setters(into = false)]
    warmup: u32,
    /// Standard deviations above the mean that make a spike. Defaults to 5.
    threshold: f64,
    /// Windows of loss and gradient norm.
    #[setters(skip)]
    #[serde(skip)]
    windows: [Window; 2],
    /// Last due step, whose values are read before the next one.
    #[setters(skip)]
    #[serde(skip)]
    pending: Option<Pending>,
}

impl Default for LossSpikes {
    fn default() -> Self {
        Self {
            on: Cadence::EVERY_STEP,
            window: 100,
            warmup: 20,
            threshold: 5.0,
            windows: <[Window; 2]>::default(),
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
    /// Adds a value. The mean is plain up to `length` values, and exponential beyond.
    ///
    /// Source: Finch, 2009, *Incremental calculation of weighted mean and variance*, section 9.
    fn push(&mut self, value: f64, length: u32) {
        self.count = self.count.saturating_add(1);
        let share = 1.0 / f64::from(self.count.min(length).max(1));
        let delta = value - self.mean;
        self.mean += share * delta;
        self.variance = (1.0 - share) * (self.variance + share * delta * delta);
    }

    /// Returns the standard deviation, at least a millionth of the mean, so that rounding errors of a constant are not
    /// spikes.
    fn deviation(&self) -> f64 {
        let least = (1e-6 * self.mean.abs()).max(f64::MIN_POSITIVE);
        self.variance.sqrt().max(least)
    }

    /// Returns the number of deviations by which a value is above the mean.
    fn score(&self, value: f64) -> f64 {
        (value - self.mean) / self.deviation()
    }
}

/// Step whose values may still be on the device.
#[derive(Debug, Clone)]
struct Pending {
    /// Clock before the step.
    before: Clock,
    /// Clock after the step.
    after: Clock,
    /// Loss and gradient norm.
    values: [Deferred; 2],
}

/// State in a checkpoint.
#[derive(Serialize, Deserialize)]
struct State {
    windows: [Window; 2],
    pending: Option<(Clock, Clock, [Number; 2])>,
}

const NAMES: [&str; 2] = ["loss", "grad_norm"];

impl LossSpikes {
    fn is_warm(&self, window: &Window) -> bool {
        window.count >= self.warmup.max(2)
    }

    /// Returns the recorded score of a value that is still on the device.
    fn score(&self, window: &Window, value: &Deferred) -> Deferred {
        if self.is_warm(window) {
            (value.clone() - window.mean) / window.deviation()
        } else {
            value.map(|_| 0.0) // depends on the value, so that it is read: the window needs it
        }
    }

    /// Enters the values of the last due step into the windows. Returns its spikes.
    fn enter_pending(&mut self) -> Vec<Spike> {
        let mut spikes = Vec::new();
        let Some(Pending {
            before,
            after,
            values,
        }) = self.pending.take()
        else {
            return spikes;
        };
        for (index, value) in values.iter().enumerate() {
            let Some(value) = value.value() else { continue };
            if let Some(score) = self.enter(index, value) {
                spikes.push(Spike {
                    name: NAMES[index],
                    value,
                    score,
                    before,
                    after,
                });
            }
        }
        spikes
    }

    /// Enters a value into a window. Returns its score if it is a spike.
    fn enter(&mut self, index: usize, value: f64) -> Option<f64> {
        let window = self.windows[index];
        let score = window.score(value);
        let is_far = score > self.threshold || score.is_nan();
        let is_spike = is_far && self.is_warm(&window);
        if value.is_finite() {
            let most = window.mean + self.threshold * window.deviation();
            let entered = if is_spike { value.min(most) } else { value };
            self.windows[index].push(entered, self.window);
        }
        is_spike.then_some(score)
    }

    /// Reports the spikes of the last due step.
    fn report(&mut self, ctx: &Context<'_>) {
        let spikes = self.enter_pending();
        if spikes.is_empty() {
            return;
        }
        for spike in &spikes {
            ctx.notice(spike.notice());
        }
        let table = Value::Table {
            columns: COLUMNS.map(str::to_owned).into(),
            rows: spikes.iter().map(Spike::row).collect(),
        };
        ctx.log("spikes", table);
    }
}

/// Value far above the mean, and the step that it belongs to.
struct Spike {
    name: &'static str,
    value: f64,
    /// Deviations above the mean.
    score: f64,
    before: Clock,
    after: Clock,
}

impl Spike {
    fn notice(&self) -> String {
        let step = self.after.step;
        let samples = self.span(|clock| clock.samples);
        format!(
            "{} of step {step} is {}, {:.1} standard deviations above the mean; samples {samples}",
            self.name, self.value, self.score
        )
    }

    /// Returns the row of the table, in the order of [`COLUMNS`].
    fn row(&self) -> Vec<String> {
        vec![
            self.name.to_owned(),
            self.value.to_string(),
            format!("{:.1}", self.score),
            self.after.step.to_string(),
            self.span(|clock| clock.micro_batches),
            self.span(|clock| clock.samples),
            self.span(|clock| clock.tokens),
        ]
    }

    /// Formats positions in the data, `first..end`: counted from 0, without `end`.
    fn span(&self, count: fn(&Clock) -> u64) -> String {
        format!("{}..{}", count(&self.before), count(&self.after))
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

#[callback("spikes", on)]
impl Callback for LossSpikes {
    fn check(&self, run: &Outlook<'_>) -> Result<(), BoxError> {
        within("window", self.window, 1.., "use 1 or more")?;
        let advice = "use 0 or more, such as 5";
        within("threshold", self.threshold, 0.0.., advice)?;
        let (warmup, steps) = (self.warmup, run.plan().steps);
        // A run that is limited by time has no number of steps.
        if steps > 0 && u64::from(warmup) >= steps {
            run.note(format!(
                "finds no spikes: `warmup` is {warmup} steps, and the run takes {steps}"
            ));
        }
        Ok(())
    }

    fn keys(&self) -> Vec<String> {
        ["spike/loss", "spike/grad_norm", "spikes"]
            .map(str::to_owned)
            .into()
    }

    fn after_backward(&mut self, ctx: &AfterBackward<'_>) -> HookResult {
        self.report(ctx);
        let values = [ctx.loss.clone(), ctx.gradients.l2()];
        for (index, value) in values.iter().enumerate() {
            let score = self.score(&self.windows[index], value);
            ctx.log(format!("spike/{}", NAMES[index]), score);
        }
        self.pending = Some(Pending {
            before: ctx.previous().copied().unwrap_or_default(),
            after: *ctx.clock(),
            values,
        });
        Ok(())
    }

    fn on_fit_end(&mut self, ctx: &FitEnd<'_>) -> HookResult {
        self.report(ctx);
        Ok(())
    }

    fn state(&self) -> serde_json::Value {
        let pending = self.pending.as_ref().map(|pending| {
            let values = pending.values.each_ref();
            let known = values.map(|value| Number(value.value().unwrap_or(f64::NAN)));
            (pending.before, pending.after, known)
        });
        let state = State {
            windows: self.windows,
            pending,
        };
        serde_json::to_value(state).unwrap_or_default()
    }

    fn load_state(&mut self, state: serde_json::Value) -> Result<(), BoxError> {
        let State { windows, pending } = serde_json::from_value(state)?;
        self.windows = windows;
        self.pending = pending.map(|(before, after, values)| Pending {
            before,
            after,
            values: values.map(|Number(value)| value.into()),
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_begins_as_mean_and_variance_and_then_fades() {
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

    /// Enters a loss. Returns the number of spikes.
    fn enter(spikes: &mut LossSpikes, loss: f64) -> usize {
        let clock = Clock::default();
        let values = [Deferred::from(loss), Deferred::from(1.0)];
        spikes.pending = Some(Pending {
            before: clock,
            after: clock,
            values,
        });
        spikes.enter_pending().len()
    }

    #[test]
    fn values_far_above_the_mean_are_spikes_that_hide_no_other() {
        let mut spikes = LossSpikes::default();
        let quiet = (0..50).map(|step| 2.0 + 0.1 * f64::from(step % 3));
        assert_eq!(quiet.map(|loss| enter(&mut spikes, loss)).sum::<usize>(), 0);
        let losses = [9.0, 2.1, 9.0, -9.0, f64::NAN, f64::INFINITY, 2.1];
        assert_eq!(
            losses.map(|loss| enter(&mut spikes, loss)),
            [1, 0, 1, 0, 1, 1, 0]
        );
    }
}
