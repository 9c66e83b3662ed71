//! Pictures of each parameter's distribution over the run.
//!
//! | key                        | value | recorded                                                            |
//! |----------------------------|-------|---------------------------------------------------------------------|
//! | `histograms/ridge/<param>` | image | on every due step; the weights of this and of earlier due steps      |
//!
//! The run directory gets the newest picture of each parameter as `histograms/ridge_<param>.png`.

mod chart;

use crate::param_filter::Watched;
use crate::{ParamFilter, plot};
use bdh::cadence::{every, fraction};
use bdh::hooks::{FitStart, StepEnd};
use bdh::record::Picture;
use bdh::stats::{DeferredHistogram, Histogram};
use bdh::{BoxError, Cadence, Callback, HookResult, Outlook, callback};
use chart::Chart;
use derive_setters::Setters;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Bins of a distribution, the same number as in an [`Overlay`](crate::Overlay).
const BINS: usize = 50;

/// Largest number of curves in a picture. When it is reached, every other curve is dropped, so the rest stay evenly
/// spaced.
const MAX_CURVES: usize = 40;

/// Draws the distribution of each parameter over the run: a curve for each due step, the oldest at the back.
///
/// Each due step makes one picture per parameter, drawn on another thread. Costs no device read of its own. A resumed run
/// keeps its curves. In a [`Replay`](bdh::Replay) it draws the run's checkpoints.
///
/// # Examples
///
/// ```
/// use bdh::cadence::every;
/// use bdh_callbacks::{ParamFilter, Ridges};
///
/// let matrices = ParamFilter::all().min_rank(2).limit(8);
/// let ridges = Ridges::default().params(matrices).on(every(500));
/// ```
#[derive(Debug, Clone, Setters, Deserialize, Serialize)]
#[setters(into)]
#[serde(default, deny_unknown_fields)]
pub struct Ridges {
    /// Steps on which to add a curve and draw. Defaults to every twentieth of the run.
    on: Cadence,
    /// Parameters to draw. Defaults to [`ParamFilter::representative`].
    params: ParamFilter,
    #[setters(skip)]
    #[serde(skip)]
    watched: Watched,
    /// Curves so far, by the parameter's name.
    #[setters(skip)]
    #[serde(skip)]
    series: BTreeMap<String, Series>,
}

impl Default for Ridges {
    fn default() -> Self {
        Self {
            on: every(fraction(0.05)),
            params: ParamFilter::representative(),
            watched: Watched::default(),
            series: BTreeMap::new(),
        }
    }
}

/// Distribution on one step.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
struct Curve {
    step: u64,
    /// Number of curves before this one, dropped ones included.
    index: u64,
    /// Least and greatest value.
    extent: (f64, f64),
    counts: Vec<u64>,
    non_finite: u64,
}

impl Curve {
    fn new(step: u64, index: u64, histogram: Histogram) -> Self {
        let extent = match histogram.edges.as_slice() {
            [low, .., high] => (*low, *high),
            _ => (0.0, 0.0),
        };
        Self {
            step,
            index,
            extent,
            counts: histogram.counts,
            non_finite: histogram.non_finite,
        }
    }
}

/// Distributions of one parameter so far, in a bounded number of curves.
#[derive(Debug, Clone, Deserialize, Serialize)]
struct Series {
    /// Curves that are kept, evenly spaced.
    curves: Vec<Curve>,
    /// A curve is kept if its index is a multiple of this power of 2.
    stride: u64,
    /// Number of curves so far, dropped ones included.
    taken: u64,
    /// Newest distribution, which every picture shows, on the device until its step's read.
    #[serde(skip)]
    newest: Option<(u64, DeferredHistogram)>,
    /// File of the newest picture.
    #[serde(skip)]
    file: File,
}

impl Default for Series {
    fn default() -> Self {
        Self {
            curves: Vec::new(),
            stride: 1,
            taken: 0,
            newest: None,
            file: File::default(),
        }
    }
}

impl Series {
    /// Adds the distribution of a step. Returns the curves to draw behind it.
    fn take(&mut self, step: u64, histogram: DeferredHistogram) -> Vec<Curve> {
        self.curves.extend(self.last());
        self.thin_out();
        if self.curves.len() >= MAX_CURVES {
            self.stride *= 2;
            self.thin_out();
        }
        self.taken += 1;
        self.newest = Some((step, histogram));
        self.curves.clone()
    }

    fn thin_out(&mut self) {
        self.curves
            .retain(|curve| curve.index.is_multiple_of(self.stride));
    }

    /// Adds the distribution of a step. Returns a picture with that curve in front of the earlier ones.
    fn picture(
        &mut self,
        name: &str,
        step: u64,
        histogram: DeferredHistogram,
        path: Option<PathBuf>,
    ) -> Picture {
        let mut curves = self.take(step, histogram.clone());
        let (title, index) = (name.to_owned(), self.taken - 1);
        let file = self.file.clone();
        Picture::of(vec![histogram], move |histograms| {
            for histogram in histograms {
                curves.push(Curve::new(step, index, histogram));
            }
            let png = Chart { title, curves }.draw()?;
            if let Some(path) = &path {
                file.write(path, step, &png)?;
            }
            Ok(png)
        })
    }

    /// Returns the newest curve, if its step has been read.
    fn last(&self) -> Option<Curve> {
        let (step, histogram) = self.newest.as_ref()?;
        Some(Curve::new(*step, self.taken - 1, histogram.value()?))
    }

    /// Returns the state for a checkpoint, with the newest curve among the others.
    fn saved(&self) -> Self {
        let mut saved = self.clone();
        saved.curves.extend(self.last());
        saved.newest = None;
        saved
    }
}

/// Picture file of one parameter, shared by the threads that draw.
///
/// The lock holds the step of the picture on disk. Pictures of two steps may be drawn at the same time and finish in any
/// order; the file keeps the newer one.
#[derive(Debug, Clone, Default)]
struct File(Arc<Mutex<u64>>);

impl File {
    fn write(&self, path: &Path, step: u64, png: &[u8]) -> io::Result<()> {
        // A panic while writing leaves the step of the last whole file.
        let mut on_disk = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if step >= *on_disk {
            plot::write(path, png)?;
            *on_disk = step;
        }
        Ok(())
    }
}

#[callback("ridges", on)]
impl Callback for Ridges {
    fn files(&self, _steps: u64) -> Vec<String> {
        vec!["histograms/ridge_*.png".to_owned()]
    }

    fn check(&self, _: &Outlook<'_>) -> Result<(), BoxError> {
        self.params.check()
    }

    fn keys(&self) -> Vec<String> {
        vec!["histograms/ridge/*".to_owned()]
    }

    fn state(&self) -> Value {
        let series = self.series.iter();
        let saved: BTreeMap<_, _> = series
            .map(|(name, series)| (name, series.saved()))
            .collect();
        serde_json::to_value(saved).unwrap_or_default()
    }

    fn load_state(&mut self, state: Value) -> Result<(), BoxError> {
        self.series = serde_json::from_value(state)?;
        Ok(())
    }

    fn on_fit_start(&mut self, ctx: &FitStart<'_>) -> HookResult {
        self.watched = self.params.select(ctx.params)?;
        Ok(())
    }

    fn on_step(&mut self, ctx: &StepEnd<'_>) -> HookResult {
        for param in self.watched.of(ctx.weights) {
            let name = param.name();
            let series = self.series.entry(name.to_owned()).or_default();
            let path = ctx.file(&format!("histograms/ridge_{name}.png"))?;
            let picture = series.picture(name, ctx.step(), param.histogram(BINS), path);
            ctx.log(format!("histograms/ridge/{name}"), picture);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bdh::burn::tensor::Tensor;

    /// Adds curves on every tenth step. Returns the steps of the last picture's curves, and the series.
    fn steps(taken: u64) -> (Vec<u64>, Series) {
        let device = bdh::device("cpu").expect("the CPU is compiled in");
        let histogram = DeferredHistogram::of(Tensor::from_floats([1.0, 2.0], &device), BINS);
        let mut series = Series::default();
        let mut shown = Vec::new();
        for step in (0..taken).map(|index| 10 * index) {
            let behind = series.take(step, histogram.clone()).into_iter();
            shown = behind.map(|curve| curve.step).chain([step]).collect();
            // Stands in for the device read, which makes the newest curve known.
            series
                .curves
                .push(Curve::new(step, series.taken - 1, Histogram::default()));
            series.newest = None;
        }
        (shown, series)
    }

    #[test]
    fn picture_has_first_newest_and_evenly_spaced_curves() {
        assert_eq!(steps(1).0, [0]);
        assert_eq!(steps(5).0, [0, 10, 20, 30, 40]);
        for taken in [40, 41, 80, 81, 83, 1_000, 100_003] {
            let (shown, _) = steps(taken);
            assert!(
                (MAX_CURVES / 2..=MAX_CURVES + 1).contains(&shown.len()),
                "{taken}: {}",
                shown.len()
            );
            assert_eq!((shown[0], shown[shown.len() - 1]), (0, 10 * (taken - 1)));
            let gap = shown[1];
            let gaps: Vec<_> = shown.windows(2).map(|pair| pair[1] - pair[0]).collect();
            assert!(
                gaps[..gaps.len() - 1].iter().all(|between| *between == gap),
                "{gaps:?}"
            );
            assert!(gaps[gaps.len() - 1] <= gap, "{gaps:?}");
        }
    }

    #[test]
    fn series_is_the_same_after_saving_and_loading() {
        let (_, series) = steps(57);
        let json = serde_json::to_value(series.saved()).expect("JSON");
        let again: Series = serde_json::from_value(json).expect("a series");
        assert_eq!((again.curves, again.taken), (series.curves, series.taken));
    }
}
