//! Pictures of how each parameter's distribution changes over a run.
//!
//! | key                        | value | recorded                                                            |
//! |----------------------------|-------|---------------------------------------------------------------------|
//! | `histograms/ridge/<param>` | image | on every due step: the weights after it, and on the due steps before |
//!
//! The newest picture of each is in the run directory, as `histograms/ridge_<param>.png`.

mod chart;

use crate::param_filter::Watched;
use crate::{ParamFilter, plot};
use bdh::{
    BoxError, Cadence, Callback, ConfigError, DeferredHistogram, FitStart, Histogram, HookResult,
    Outlook, Picture, StepEnd, callback, every, fraction,
};
use chart::Chart;
use derive_builder::Builder;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// How many bins a distribution has, as in an overlay.
const BINS: usize = 50;

/// The curves of a picture at most. Of more, every other one is left out, so that the others stay evenly spaced.
const MOST: usize = 40;

/// Draws the distribution of each parameter over the run: a curve for each due step, the oldest at the back.
///
/// In a [`Replay`](bdh::Replay) it draws the run's checkpoints. Each due step leaves one picture a parameter, drawn on
/// a thread of its own; it costs no device read of its own. A resumed run goes on with the curves that it had.
///
/// # Examples
///
/// ```
/// use bdh::every;
/// use bdh_callbacks::{ParamFilter, Ridges};
///
/// let matrices = ParamFilter::all().min_rank(2).limit(8);
/// let ridges = Ridges::builder().params(matrices).cadence(every(500)).build()?;
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
pub struct Ridges {
    /// Steps on which to add a curve and draw. Defaults to every twentieth of the run.
    cadence: Cadence,
    /// Which parameters. Defaults to [`ParamFilter::representative`].
    params: ParamFilter,
    #[builder(setter(skip))]
    #[serde(skip)]
    watched: Watched,
    /// By the parameter's name.
    #[builder(setter(skip))]
    #[serde(skip)]
    series: BTreeMap<String, Series>,
}

impl Default for Ridges {
    fn default() -> Self {
        let (cadence, params) = (every(fraction(0.05)), ParamFilter::representative());
        Self {
            cadence,
            params,
            watched: Watched::default(),
            series: BTreeMap::new(),
        }
    }
}

impl Ridges {
    /// Begins with the defaults.
    pub fn builder() -> RidgesBuilder {
        RidgesBuilder::default()
    }
}

/// A distribution on one step.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
struct Curve {
    step: u64,
    /// How many were taken before.
    index: u64,
    /// The least and the greatest value.
    extent: (f64, f64),
    counts: Vec<u64>,
    non_finite: u64,
}

impl Curve {
    fn new(step: u64, index: u64, histogram: Histogram) -> Self {
        let Histogram {
            edges,
            counts,
            non_finite,
        } = histogram;
        let edge = |edge: Option<&f64>| edge.copied().unwrap_or(0.0);
        let extent = (edge(edges.first()), edge(edges.last()));
        Self {
            step,
            index,
            extent,
            counts,
            non_finite,
        }
    }
}

/// The distributions of one parameter so far, in a bounded number of curves.
#[derive(Debug, Clone, Deserialize, Serialize)]
struct Series {
    /// Those that are kept, evenly spaced.
    curves: Vec<Curve>,
    /// Of how many that are taken one is kept: a power of 2.
    stride: u64,
    taken: u64,
    /// The last one, which is always shown; read with its step.
    #[serde(skip)]
    newest: Option<(u64, DeferredHistogram)>,
    /// The step of the picture on the disk.
    #[serde(skip)]
    on_disk: Arc<Mutex<u64>>,
}

impl Default for Series {
    fn default() -> Self {
        let (curves, on_disk) = (Vec::new(), Arc::default());
        Self {
            curves,
            stride: 1,
            taken: 0,
            newest: None,
            on_disk,
        }
    }
}

impl Series {
    /// Adds the distribution of a step; with it come the curves that are drawn behind it.
    fn take(&mut self, step: u64, histogram: DeferredHistogram) -> Vec<Curve> {
        self.curves.extend(self.last());
        self.curves
            .retain(|curve| curve.index.is_multiple_of(self.stride));
        if self.curves.len() >= MOST {
            self.stride *= 2;
            self.curves
                .retain(|curve| curve.index.is_multiple_of(self.stride));
        }
        self.taken += 1;
        self.newest = Some((step, histogram));
        self.curves.clone()
    }

    /// Adds the distribution of a step, and draws it before those that there are.
    fn picture(
        &mut self,
        name: &str,
        step: u64,
        histogram: DeferredHistogram,
        path: Option<PathBuf>,
    ) -> Picture {
        let mut curves = self.take(step, histogram.clone());
        let (title, index) = (name.to_owned(), self.taken - 1);
        let on_disk = Arc::clone(&self.on_disk);
        let draw = move |new: Vec<Histogram>| -> Result<Vec<u8>, BoxError> {
            curves.extend(new.into_iter().map(|new| Curve::new(step, index, new)));
            let png = Chart { title, curves }.draw()?;
            if let Some(path) = &path {
                // Of two that are drawn at once the newer one stays.
                let mut on_disk = on_disk.lock().unwrap_or_else(PoisonError::into_inner);
                if step >= *on_disk {
                    plot::write(path, &png)?;
                    *on_disk = step;
                }
            }
            Ok(png)
        };
        Picture::of(vec![histogram], draw)
    }

    /// The newest curve, once its step has been read.
    fn last(&self) -> Option<Curve> {
        let (step, histogram) = self.newest.as_ref()?;
        Some(Curve::new(*step, self.taken - 1, histogram.value()?))
    }

    /// What a resumed run goes on with.
    fn saved(&self) -> Self {
        let curves = self.curves.iter().cloned().chain(self.last()).collect();
        Self {
            curves,
            newest: None,
            ..self.clone()
        }
    }
}

#[callback("ridges")]
impl Callback for Ridges {
    fn config(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn cadence(&self) -> Cadence {
        self.cadence.clone()
    }

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
        let saved: BTreeMap<_, _> = self
            .series
            .iter()
            .map(|(name, of)| (name, of.saved()))
            .collect();
        serde_json::to_value(saved).unwrap_or_default()
    }

    fn load_state(&mut self, state: Value) -> Result<(), BoxError> {
        self.series = serde_json::from_value(state)?;
        Ok(())
    }

    fn on_fit_start(&mut self, at: &FitStart<'_>) -> HookResult {
        self.watched = self.params.select(at.params)?;
        Ok(())
    }

    fn on_step(&mut self, at: &StepEnd<'_>) -> HookResult {
        for param in self.watched.of(at.weights) {
            let name = param.name();
            let series = self.series.entry(name.to_owned()).or_default();
            let path = at.file(&format!("histograms/ridge_{name}.png"))?;
            let picture = series.picture(name, at.step(), param.histogram(BINS), path);
            at.log(format!("histograms/ridge/{name}"), picture);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bdh::burn::tensor::Tensor;

    /// The steps of a series after curves on every tenth step.
    fn steps(taken: u64) -> (Vec<u64>, Series) {
        let device = bdh::device("cpu").expect("the CPU is compiled in");
        let histogram = DeferredHistogram::of(Tensor::from_floats([1.0, 2.0], &device), BINS);
        let mut series = Series::default();
        let mut shown = Vec::new();
        for step in (0..taken).map(|index| 10 * index) {
            let behind = series.take(step, histogram.clone()).into_iter();
            shown = behind.map(|curve| curve.step).chain([step]).collect();
            // What a read would do, without one.
            series
                .curves
                .push(Curve::new(step, series.taken - 1, Histogram::default()));
            series.newest = None;
        }
        (shown, series)
    }

    #[test]
    fn a_picture_has_the_first_curve_the_newest_and_evenly_spaced_ones_between() {
        assert_eq!(steps(1).0, [0]);
        assert_eq!(steps(5).0, [0, 10, 20, 30, 40]);
        for taken in [40, 41, 80, 81, 83, 1_000, 100_003] {
            let (shown, _) = steps(taken);
            assert!(
                (MOST / 2..=MOST + 1).contains(&shown.len()),
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
    fn a_series_goes_on_from_its_state_as_if_it_had_not_been_saved() {
        let (_, series) = steps(57);
        let json = serde_json::to_value(series.saved()).expect("JSON");
        let again: Series = serde_json::from_value(json).expect("a series");
        assert_eq!((again.curves, again.taken), (series.curves, series.taken));
    }
}
