//! How large gradients and updates are beside the weights that they change.
//!
//! An update of about a thousandth of its weights is healthy: log10 near −3. A matrix far above is being thrown
//! about, one far below hardly learns. The gradient's ratio tells the same before the optimizer has scaled it.
//!
//! | key                         | unit            | recorded on every due step                               |
//! |-----------------------------|-----------------|----------------------------------------------------------|
//! | `ratio/grad_std/<param>`    | gradient:weight | by default; standard deviations, before clipping         |
//! | `ratio/grad_l2/<param>`     | gradient:weight | with `l2`; norms, before clipping                        |
//! | `ratio/update_std/<param>`  | update:weight   | with `updates`; the weights are those before the update  |
//! | `ratio/update_l2/<param>`   | update:weight   | with `updates` and `l2`                                  |
//!
//! With `log10` it is the logarithm, under `ratio/log10_grad_std/<param>` and so on. Without `std` the keys of
//! standard deviations are left out.
//!
//! On the terminal there is a line for each parameter, unless `lines` is off:
//!
//! ```text
//! weight wte.weight: mean +0.0003, std 2.0012e-02, grad:data ratio 1.2340e-02
//! ```

use crate::ParamFilter;
use crate::param_filter::Watched;
use bdh::{
    AfterBackward, AfterOptimizerStep, BoxError, Cadence, Callback, ConfigError, Cx, Deferred,
    FitStart, Hook, HookResult, Hooks, Outlook, ParamStats, callback, every, last,
};
use derive_builder::Builder;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;

/// Records the ratios of gradients and of updates to weights, and says them on the terminal.
///
/// Costs no device read of its own. Standard deviations have `n - 1` in the denominator; both are those of this
/// step, the gradients before clipping. `updates` keeps a copy of the model on due steps.
///
/// # Examples
///
/// ```
/// use bdh::Callback;
/// use bdh_callbacks::Ratios;
///
/// let of_updates = Ratios::builder().updates(true).log10(true).lines(false).build()?;
/// assert_eq!(of_updates.keys(), ["ratio/log10_grad_std/*", "ratio/log10_update_std/*"]);
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
#[expect(
    clippy::struct_excessive_bools,
    reason = "each switches one form of the ratios on or off"
)]
pub struct Ratios {
    /// Steps on which to record. Defaults to every 100 steps and the last.
    cadence: Cadence,
    /// Which parameters. Defaults to [`ParamFilter::representative`].
    params: ParamFilter,
    /// Ratios of standard deviations. Defaults to yes.
    std: bool,
    /// Ratios of L2 norms. Defaults to no.
    l2: bool,
    /// Ratios of updates, beside those of gradients. Defaults to no.
    updates: bool,
    /// Logarithms to the base of ten in place of the ratios. Defaults to no.
    log10: bool,
    /// A line for each parameter on the terminal. Defaults to yes.
    lines: bool,
    #[builder(setter(skip))]
    #[serde(skip)]
    watched: Watched,
    /// Standard deviation and norm of each weight before the update, by name.
    #[builder(setter(skip))]
    #[serde(skip)]
    before: HashMap<String, Sizes>,
}

/// How large a tensor is, in the ways that are asked for.
#[derive(Debug, Clone)]
struct Sizes {
    std: Option<Deferred>,
    l2: Option<Deferred>,
}

impl Default for Ratios {
    fn default() -> Self {
        Self {
            cadence: every(100) | last(),
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

impl Ratios {
    /// Begins with the defaults: gradient to weight by standard deviations, and a line for each.
    pub fn builder() -> RatiosBuilder {
        RatiosBuilder::default()
    }

    fn sizes(&self, param: ParamStats<'_>) -> Sizes {
        Sizes {
            std: self.std.then(|| param.std()),
            l2: self.l2.then(|| param.l2()),
        }
    }

    /// `ratio/grad_std/` for `grad` and `std`.
    fn key(&self, what: &str, how: &str) -> String {
        let log10 = if self.log10 { "log10_" } else { "" };
        format!("ratio/{log10}{what}_{how}/")
    }

    fn log(&self, at: &Cx<'_>, what: &str, name: &str, sizes: (&Sizes, &Sizes)) {
        let (changes, weights) = sizes;
        let forms = [
            ("std", &changes.std, &weights.std),
            ("l2", &changes.l2, &weights.l2),
        ];
        for (how, change, weight) in forms {
            let (Some(change), Some(weight)) = (change, weight) else {
                continue;
            };
            let ratio = change.clone() / weight.clone();
            let ratio = if self.log10 {
                ratio.map(f64::log10)
            } else {
                ratio
            };
            at.log(self.key(what, how) + name, ratio);
        }
    }
}

#[callback("ratios")]
impl Callback for Ratios {
    fn cadence(&self) -> Cadence {
        self.cadence.clone()
    }

    fn hooks(&self) -> Hooks {
        let hooks = Hooks::NONE.with(Hook::OnFitStart).with(Hook::AfterBackward);
        if self.updates {
            hooks.with(Hook::AfterOptimizerStep)
        } else {
            hooks
        }
    }

    fn config(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn check(&self, _: &Outlook<'_>) -> Result<(), BoxError> {
        self.params.check()
    }

    fn keys(&self) -> Vec<String> {
        let what = ["grad", "update"]
            .into_iter()
            .filter(|what| self.updates || *what == "grad");
        let forms = [(self.std, "std"), (self.l2, "l2")];
        let forms = forms
            .iter()
            .filter_map(|(is_wanted, how)| is_wanted.then_some(how));
        what.flat_map(|what| forms.clone().map(move |how| self.key(what, how) + "*"))
            .collect()
    }

    fn on_fit_start(&mut self, at: &FitStart<'_>) -> HookResult {
        self.watched = self.params.select(at.params)?;
        Ok(())
    }

    fn after_backward(&mut self, at: &AfterBackward<'_>) -> HookResult {
        let weights = self
            .watched
            .of(at.weights)
            .map(|weight| (weight.name(), weight));
        let weights: HashMap<_, _> = weights.collect();
        for grad in self.watched.of(at.gradients) {
            let name = grad.name();
            let Some(weight) = weights.get(name) else {
                continue;
            };
            self.log(at, "grad", name, (&self.sizes(grad), &self.sizes(*weight)));
            if self.lines {
                say(at, *weight, grad);
            }
        }
        if self.updates {
            let before = |(name, weight): (&str, _)| (name.to_owned(), self.sizes(weight));
            self.before = weights.into_iter().map(before).collect();
        }
        Ok(())
    }

    fn after_optimizer_step(&mut self, at: &AfterOptimizerStep<'_>) -> HookResult {
        let before = std::mem::take(&mut self.before);
        for update in self.watched.of(at.updates) {
            if let Some(weight) = before.get(update.name()) {
                self.log(at, "update", update.name(), (&self.sizes(update), weight));
            }
        }
        Ok(())
    }
}

fn say(at: &Cx<'_>, weight: ParamStats<'_>, grad: ParamStats<'_>) {
    let name = weight.name().to_owned();
    at.say(
        [weight.mean(), weight.std(), grad.std()],
        move |[mean, std, grad]| line(&name, mean, std, grad / std),
    );
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

/// `1.2340e-02`, as Python's `.4e` has it: a sign, and two digits of the exponent at least.
///
/// For sinks whose lines are read by what reads those of a Python program.
///
/// # Examples
///
/// ```
/// assert_eq!(bdh_callbacks::scientific(3e-4), "3.0000e-04");
/// ```
#[must_use]
pub fn scientific(value: f64) -> String {
    let text = format!("{value:.4e}").to_lowercase(); // NaN is `nan` there
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

    /// What Python 3.11 prints with `f'{value:.4e}'`.
    #[test]
    fn numbers_are_written_as_python_writes_them() {
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

    /// What Python 3.11 prints with the f-string of the request.
    #[test]
    fn the_line_is_that_of_the_request() {
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
