//! Pictures of parameter distributions on one axis.
//!
//! | key                      | value | recorded                                         |
//! |--------------------------|-------|--------------------------------------------------|
//! | `histograms/weights`     | image | on every due step; the weights after the update  |
//! | `histograms/gradients`   | image | on every due step; the gradients before clipping |
//!
//! The run directory gets the pictures as `histograms/weights_{step}.png` and `histograms/gradients_{step}.png`.

mod chart;

use crate::param_filter::Watched;
use crate::{ParamFilter, plot};
use bdh::cadence::{every, last};
use bdh::hooks::{AfterBackward, FitStart, StepEnd};
use bdh::record::Picture;
use bdh::stats::Histogram;
use bdh::{BoxError, Cadence, Callback, Context, HookResult, Outlook, Stats, callback};
use chart::Chart;
use derive_setters::Setters;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Bins of a distribution. 50 is the figure of the original request.
const BINS: usize = 50;

/// Draws the distributions of weights and of gradients, one line per parameter.
///
/// Costs no device read of its own. Pictures are drawn on other threads, and a record waits for its pictures on the way
/// to the sinks, so none is lost at the end of a run.
///
/// # Examples
///
/// ```
/// use bdh::cadence::every;
/// use bdh_callbacks::{Overlay, ParamFilter};
///
/// let matrices = ParamFilter::all().min_rank(2).limit(40);
/// let overlay = Overlay::default().params(matrices).on(every(500));
/// ```
#[derive(Debug, Clone, Setters, Deserialize, Serialize)]
#[setters(into)]
#[serde(default, deny_unknown_fields)]
pub struct Overlay {
    /// Steps on which to draw. Defaults to every 100 steps and the last.
    on: Cadence,
    /// Parameters to draw. Defaults to [`ParamFilter::representative`].
    params: ParamFilter,
    #[setters(skip)]
    #[serde(skip)]
    watched: Watched,
}

impl Default for Overlay {
    fn default() -> Self {
        Self {
            on: every(100) | last(),
            params: ParamFilter::representative(),
            watched: Watched::default(),
        }
    }
}

/// Tensors of a picture.
#[derive(Clone, Copy)]
enum Tensors {
    Weights,
    Gradients,
}

impl Tensors {
    /// Returns the name in keys and files.
    fn kind(self) -> &'static str {
        match self {
            Self::Weights => "weights",
            Self::Gradients => "gradients",
        }
    }

    fn chart(self, step: u64, lines: Vec<(String, Histogram)>) -> Chart {
        let noun = match self {
            Self::Weights => "Weight",
            Self::Gradients => "Gradient",
        };
        Chart {
            title: format!("{noun} Distribution (Step {step})"),
            x_label: format!("{noun} Value"),
            lines,
        }
    }
}

impl Overlay {
    fn log(&self, ctx: &Context<'_>, tensors: Tensors, stats: &Stats<'_>) -> HookResult {
        let kind = tensors.kind();
        let step = ctx.step();
        let path = ctx.file(&format!("histograms/{kind}_{step}.png"))?;
        let (mut names, mut histograms) = (Vec::new(), Vec::new());
        for param in self.watched.of(stats) {
            names.push(param.name().to_owned());
            histograms.push(param.histogram(BINS));
        }
        let picture = Picture::of(histograms, move |histograms| {
            let lines = names.into_iter().zip(histograms).collect();
            draw(&tensors.chart(step, lines), path.as_deref())
        });
        ctx.log(format!("histograms/{kind}"), picture);
        Ok(())
    }
}

/// Draws a chart as a PNG, and writes the PNG to its file, if there is one.
fn draw(chart: &Chart, path: Option<&Path>) -> Result<Vec<u8>, BoxError> {
    let png = chart.draw()?;
    if let Some(path) = path {
        plot::write(path, &png)?;
    }
    Ok(png)
}

#[callback("overlay", on)]
impl Callback for Overlay {
    fn check(&self, _: &Outlook<'_>) -> Result<(), BoxError> {
        self.params.check()
    }

    fn keys(&self) -> Vec<String> {
        ["histograms/weights", "histograms/gradients"]
            .map(str::to_owned)
            .into()
    }

    fn files(&self, steps: u64) -> Vec<String> {
        if !self.on.is_predictable() {
            return Vec::new();
        }
        let mut files = Vec::new();
        for step in self.on.firings(&bdh::Clock::default(), steps) {
            if step > 0 {
                files.push(format!("histograms/weights_{step}.png"));
                files.push(format!("histograms/gradients_{step}.png"));
            }
        }
        files
    }

    fn on_fit_start(&mut self, ctx: &FitStart<'_>) -> HookResult {
        self.watched = self.params.select(ctx.params)?;
        Ok(())
    }

    fn after_backward(&mut self, ctx: &AfterBackward<'_>) -> HookResult {
        self.log(ctx, Tensors::Gradients, ctx.gradients)
    }

    fn on_step(&mut self, ctx: &StepEnd<'_>) -> HookResult {
        self.log(ctx, Tensors::Weights, ctx.weights)
    }
}
