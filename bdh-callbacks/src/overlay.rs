//! Pictures of many distributions on one axis.
//!
//! | key                      | value | recorded                                         |
//! |--------------------------|-------|--------------------------------------------------|
//! | `histograms/weights`     | image | on every due step; the weights after the update  |
//! | `histograms/gradients`   | image | on every due step; the gradients before clipping |
//!
//! The same pictures are in the run directory, as `histograms/weights_{step}.png` and
//! `histograms/gradients_{step}.png`.

mod chart;

use crate::param_filter::Watched;
use crate::{ParamFilter, plot};
use bdh::{
    AfterBackward, BoxError, Cadence, Callback, ConfigError, Cx, FitStart, Histogram, HookResult,
    Outlook, Picture, Stats, StepEnd, callback, every, last,
};
use chart::Chart;
use derive_builder::Builder;
use serde::{Deserialize, Serialize};

/// How many bins a distribution has; the request's 50.
const BINS: usize = 50;

/// Draws the distributions of weights and of gradients, a line for each parameter.
///
/// Costs no device read of its own; the pictures are drawn on threads of their own, and a record waits for its
/// pictures on the way to the sinks, so none is lost at the end of a run.
///
/// # Examples
///
/// ```
/// use bdh::every;
/// use bdh_callbacks::{Overlay, ParamFilter};
///
/// let matrices = ParamFilter::all().min_rank(2).limit(40);
/// let overlay = Overlay::builder().params(matrices).cadence(every(500)).build()?;
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
pub struct Overlay {
    /// Steps on which to draw. Defaults to every 100 steps and the last.
    cadence: Cadence,
    /// Which parameters. Defaults to [`ParamFilter::representative`].
    params: ParamFilter,
    #[builder(setter(skip))]
    #[serde(skip)]
    watched: Watched,
}

impl Default for Overlay {
    fn default() -> Self {
        let (cadence, params) = (every(100) | last(), ParamFilter::representative());
        Self {
            cadence,
            params,
            watched: Watched::default(),
        }
    }
}

impl Overlay {
    /// Begins with the defaults.
    pub fn builder() -> OverlayBuilder {
        OverlayBuilder::default()
    }

    fn log(&self, at: &Cx<'_>, kind: &str, of: &'static str, stats: &Stats<'_>) -> HookResult {
        let step = at.step();
        let path = at.file(&format!("histograms/{kind}_{step}.png"))?;
        let params: Vec<_> = self.watched.of(stats).collect();
        let names: Vec<_> = params.iter().map(|param| param.name().to_owned()).collect();
        let histograms = params.iter().map(|param| param.histogram(BINS)).collect();
        let draw = move |histograms: Vec<Histogram>| -> Result<Vec<u8>, BoxError> {
            let (title, x_label) = (
                format!("{of} Distribution (Step {step})"),
                format!("{of} Value"),
            );
            let lines: Vec<_> = names.into_iter().zip(histograms).collect();
            let png = Chart {
                title,
                x_label,
                lines,
            }
            .draw()?;
            if let Some(path) = &path {
                plot::write(path, &png)?;
            }
            Ok(png)
        };
        at.log(format!("histograms/{kind}"), Picture::of(histograms, draw));
        Ok(())
    }
}

#[callback("overlay")]
impl Callback for Overlay {
    fn config(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn cadence(&self) -> Cadence {
        self.cadence.clone()
    }

    fn check(&self, _: &Outlook<'_>) -> Result<(), BoxError> {
        self.params.check()
    }

    fn keys(&self) -> Vec<String> {
        ["histograms/weights", "histograms/gradients"]
            .map(str::to_owned)
            .to_vec()
    }

    fn files(&self, steps: u64) -> Vec<String> {
        if !self.cadence.is_predictable() {
            return Vec::new();
        }
        let due = self
            .cadence
            .firings(&bdh::Clock::default(), steps)
            .filter(|step| *step > 0);
        let kinds =
            |step| ["weights", "gradients"].map(|kind| format!("histograms/{kind}_{step}.png"));
        due.flat_map(kinds).collect()
    }

    fn on_fit_start(&mut self, at: &FitStart<'_>) -> HookResult {
        self.watched = self.params.select(at.params)?;
        Ok(())
    }

    fn after_backward(&mut self, at: &AfterBackward<'_>) -> HookResult {
        self.log(at, "gradients", "Gradient", at.gradients)
    }

    fn on_step(&mut self, at: &StepEnd<'_>) -> HookResult {
        self.log(at, "weights", "Weight", at.weights)
    }
}
