//! Ratios of gradients and updates to weights.
//!
//! A healthy update is about a thousandth of its weights, log10 near −3. A matrix far above that is unstable, and one
//! far below hardly learns. The gradient ratio is measured before the optimizer scales the gradient.
//!
//! | key                         | unit            | recorded on every due step                               |
//! |-----------------------------|-----------------|----------------------------------------------------------|
//! | `ratio/grad_std/<param>`    | gradient:weight | by default; standard deviations, before clipping         |
//! | `ratio/grad_l2/<param>`     | gradient:weight | with `l2`; norms, before clipping                        |
//! | `ratio/update_std/<param>`  | update:weight   | with `updates`; the weights are those before the update  |
//! | `ratio/update_l2/<param>`   | update:weight   | with `updates` and `l2`                                  |
//!
//! With `log10` the keys are `ratio/log10_grad_std/<param>` and so on, and the values logarithms. Without `std` the keys
//! of standard deviations are left out.
//!
//! The terminal shows a line for each parameter, unless `lines` is off:
//!
//! ```text
//! weight wte.weight: mean +0.0003, std 2.0012e-02, grad:data ratio 1.2340e-02
//! ```

use crate::ParamFilter;
use crate::param_filter::Watched;
use bdh::cadence::{every, last};
use bdh::hooks::{AfterBackward, AfterOptimizerStep, FitStart, Hook, Hooks};
use bdh::stats::ParamStats;
use bdh::{BoxError, Cadence, Callback, Context, Deferred, HookResult, Outlook, callback};
use derive_setters::Setters;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Records the ratios of gradients and of updates to weights, and prints them on the terminal.
///
/// Costs no device read of its own. Gradients are measured before clipping. Standard deviations have `n - 1` in the
/// denominator. `updates` keeps a copy of the model on due steps.
///
/// # Examples
///
/// ```
/// use bdh::Callback;
/// use bdh_callbacks::UpdateRatios;
///
/// let of_updates = UpdateRatios::default().updates(true).log10(true).lines(false);
/// assert_eq!(of_updates.keys(), ["ratio/log10_grad_std/*", "ratio/log10_update_std/*"]);
/// ```
#[derive(Debug, Clone, Setters, Deserialize, Serialize)]
#[setters(into)]
#[serde(default, deny_unknown_fields)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each switches one form of the ratios on or off"
)]
pub struct UpdateRatios {
    /// Steps on which to record. Defaults to every 100 steps and the last.
    on: Cadence,
    /// Parameters to record. Defaults to [`ParamFilter::representative`].
    params: ParamFilter,
    /// Whether to record ratios of standard deviations. Defaults to yes.
    std: bool,
    /// Whether to record ratios of L2 norms. Defaults to no.
    l2: bool,
    /// Whether to record the ratios of updates too. Defaults to no.
    updates: bool,
    /// Whether to record base-10 logarithms instead of ratios. Defaults to no.
    log10: bool,
    /// Whether to print a line for each parameter on the terminal. Defaults to yes.
    lines: bool,
    #[setters(skip)]
    #[serde(skip)]
    watched: Watched,
    /// Sizes of the weights before the update, by name.
    #[setters(skip)]
    #[serde(skip)]
    before: HashMap<String, Sizes>,
}

/// Sizes of a tensor, as far as they are recorded.
#[derive(Debug, Clone)]
struct Sizes {
    std: Option<Deferred>,
    l2: Option<Deferred>,
}

impl Default for UpdateRatios {
    fn default() -> Self {
        Self {
            on: every(100) | last(),
            params: ParamFilter::representative(),
            std: true,
            l2: false,
            updates: false,
            log10: false,
            lines: true,
            watched: Watched::default(),
            before: HashMap::new(),
        }
    }
}

impl UpdateRatios {
    fn sizes(&self, param: ParamStats<'_>) -> Sizes {
        Sizes {
            std: self.std.then(|| param.std()),
            l2: self.l2.then(|| param.l2()),
        }
    }

    /// Returns the start of a key, such as `ratio/grad_std/` for `grad` and `std`.
    fn key(&self, change: &str, size: &str) -> String {
        let log10 = if self.log10 { "log10_" } else { "" };
        format!("ratio/{log10}{change}_{size}/")
    }

    /// Records the ratios of one change, a `grad` or an `update`, to the weights of a parameter.
    fn log(&self, ctx: &Context<'_>, kind: &str, change: ParamStats<'_>, weight: &Sizes) {
        let name = change.name();
        let change = self.sizes(change);
        if let (Some(change), Some(weight)) = (change.std, &weight.std) {
            ctx.log(self.key(kind, "std") + name, self.ratio(change, weight));
        }
        if let (Some(change), Some(weight)) = (change.l2, &weight.l2) {
            ctx.log(self.key(kind, "l2") + name, self.ratio(change, weight));
        }
    }

    fn ratio(&self, change: Deferred, weight: &Deferred) -> Deferred {
        let ratio = change / weight.clone();
        if self.log10 {
            ratio.map(f64::log10)
        } else {
            ratio
        }
    }
}

#[callback("ratios", on)]
impl Callback for UpdateRatios {
    fn hooks(&self) -> Hooks {
        let hooks = Hooks::NONE.with(Hook::OnFitStart).with(Hook::AfterBackward);
        if self.updates {
            hooks.with(Hook::AfterOptimizerStep)
        } else {
            hooks
        }
    }

    fn check(&self, _: &Outlook<'_>) -> Result<(), BoxError> {
        self.params.check()
    }

    fn keys(&self) -> Vec<String> {
        let changes: &[&str] = if self.updates {
            &["grad", "update"]
        } else {
            &["grad"]
        };
        let mut keys = Vec::new();
        for change in changes {
            if self.std {
                keys.push(self.key(change, "std") + "*");
            }
            if self.l2 {
                keys.push(self.key(change, "l2") + "*");
            }
        }
        keys
    }

    fn on_fit_start(&mut self, ctx: &FitStart<'_>) -> HookResult {
        self.watched = self.params.select(ctx.params)?;
        Ok(())
    }

    fn after_backward(&mut self, ctx: &AfterBackward<'_>) -> HookResult {
        let mut weights = HashMap::new();
        for weight in self.watched.of(ctx.weights) {
            weights.insert(weight.name(), weight);
        }
        for grad in self.watched.of(ctx.gradients) {
            if let Some(weight) = weights.get(grad.name()) {
                self.log(ctx, "grad", grad, &self.sizes(*weight));
                if self.lines {
                    print(ctx, *weight, grad);
                }
            }
        }
        if self.updates {
            self.before.clear();
            for (name, weight) in weights {
                self.before.insert(name.to_owned(), self.sizes(weight));
            }
        }
        Ok(())
    }

    fn after_optimizer_step(&mut self, ctx: &AfterOptimizerStep<'_>) -> HookResult {
        let before = std::mem::take(&mut self.before);
        for update in self.watched.of(ctx.updates) {
            if let Some(weight) = before.get(update.name()) {
                self.log(ctx, "update", update, weight);
            }
        }
        Ok(())
    }
}

fn print(ctx: &Context<'_>, weight: ParamStats<'_>, grad: ParamStats<'_>) {
    let name = weight.name().to_owned();
    let values = [weight.mean(), weight.std(), grad.std()];
    ctx.notice_with(values, move |[mean, std, grad]| {
        line(&name, mean, std, grad / std)
    });
}

fn line(name: &str, mean: f64, std: f64, ratio: f64) -> String {
    let (std, ratio) = (scientific(std), scientific(ratio));
    let mean = if mean.is_nan() {
        "+nan".to_owned()
    } else {
        format!("{mean:+.4}")
    };
    format!("weight {name}: mean {mean}, std {std}, grad:data ratio {ratio}")
}

/// Formats a number as Python's `.4e` does: the exponent has a sign and at least two digits, as in `1.2340e-02`.
///
/// Tools that parse the output of a Python program can then parse the lines too.
///
/// # Examples
///
/// ```
/// assert_eq!(bdh_callbacks::scientific(3e-4), "3.0000e-04");
/// ```
#[must_use]
pub fn scientific(value: f64) -> String {
    let text = format!("{value:.4e}").to_lowercase(); // Python prints `nan`, Rust `NaN`
    let Some((digits, exponent)) = text.split_once('e') else {
        return text;
    };
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ('-', exponent),
        None => ('+', exponent),
    };
    format!("{digits}e{sign}{exponent:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected texts: output of Python 3.11 for `f'{value:.4e}'`.
    #[test]
    fn scientific_is_the_same_as_in_python() {
        let python = [
            (0.01234, "1.2340e-02"),
            (0.0, "0.0000e+00"),
            (-0.0, "-0.0000e+00"),
            (1.0, "1.0000e+00"),
            (-1.5, "-1.5000e+00"),
            (123_456.789, "1.2346e+05"),
            (1_000_050.0, "1.0000e+06"),
            (1_000_150.0, "1.0002e+06"),
            (9.99995, "1.0000e+01"),
            (9.999_949, "9.9999e+00"),
            (9.999_999_9e-5, "1.0000e-04"),
            (1e100, "1.0000e+100"),
            (2.5e-310, "2.5000e-310"),
            (5e-324, "4.9407e-324"),
            (f64::MAX, "1.7977e+308"),
            (1e-9, "1.0000e-09"),
            (3.333_333_3e-4, "3.3333e-04"),
        ];
        for (value, text) in python {
            assert_eq!(scientific(value), text);
        }
        let edges = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY].map(scientific);
        assert_eq!(edges, ["nan", "inf", "-inf"]);
    }

    /// Expected texts: output of Python 3.11 for the f-string of the original request.
    #[test]
    fn line_is_that_of_the_original_request() {
        let lines = [
            (
                ("transformer.wte.weight", 0.00031, 0.020_012, 0.01234),
                "weight transformer.wte.weight: mean +0.0003, std 2.0012e-02, grad:data ratio 1.2340e-02",
            ),
            (
                ("h.0.attn.c_attn.weight", -1e-05, 0.5, 123.4),
                "weight h.0.attn.c_attn.weight: mean -0.0000, std 5.0000e-01, grad:data ratio 1.2340e+02",
            ),
            (
                ("w", -6e-05, 1.0, 1e-09),
                "weight w: mean -0.0001, std 1.0000e+00, grad:data ratio 1.0000e-09",
            ),
            (
                ("lm_head.weight", 12.00005, 3e-12, 0.0),
                "weight lm_head.weight: mean +12.0000, std 3.0000e-12, grad:data ratio 0.0000e+00",
            ),
        ];
        for ((name, mean, std, ratio), text) in lines {
            assert_eq!(line(name, mean, std, ratio), text);
        }
        let broken = line("w", f64::NAN, f64::NAN, f64::INFINITY);
        assert_eq!(broken, "weight w: mean +nan, std nan, grad:data ratio inf");
    }
}
