//! Early termination of unpromising runs.

use crate::checked::checked;
use crate::goal::Goal;
use serde::{Deserialize, Deserializer};

/// Ends a run whose metric, at some number of evaluations, is not among the best 1/`eta` of all runs so far.
///
/// The numbers of evaluations, called bands, are `min_iter * eta^i`, or `max_iter / eta^i` for `i` in `1..=s`. As in
/// W&B, an evaluation is one recorded value of the metric, at any step. Source: L. Li et al., "Hyperband", JMLR
/// 2018, in the form of the `sweeps` package.
#[derive(Debug, Clone, PartialEq)]
pub struct Hyperband {
    /// Bands, increasing.
    bands: Vec<usize>,
    /// Inverse of the share of runs that continue.
    eta: f64,
    /// Judges by the value at the band instead of the best so far.
    strict: bool,
}

/// The keys of `early_terminate`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHyperband {
    #[serde(rename = "type")]
    _kind: Kind,
    min_iter: Option<f64>,
    max_iter: Option<f64>,
    s: Option<f64>,
    eta: Option<f64>,
    strict: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Hyperband,
}

/// Errors in the settings of early termination.
#[derive(Debug, thiserror::Error)]
enum HyperbandError {
    #[error("eta {0} must be above 1")]
    Eta(f64),
    #[error("s {s} and eta {eta} make more than {MAX_BANDS} bands: lower s, or raise eta")]
    TooManyBands { s: f64, eta: f64 },
    #[error("hyperband needs `min_iter` of at least 1, or `max_iter` and `s`")]
    Missing,
    #[error("there is no band: raise max_iter or s, or lower eta")]
    NoBand,
}

impl<'de> Deserialize<'de> for Hyperband {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        checked::<RawHyperband, _, _>(from, "settings such as `{ type: hyperband, min_iter: 3 }`")
    }
}

/// Largest number of bands; training runs have far fewer.
const MAX_BANDS: usize = 100;

impl TryFrom<RawHyperband> for Hyperband {
    type Error = HyperbandError;

    fn try_from(raw: RawHyperband) -> Result<Self, HyperbandError> {
        let eta = raw.eta.unwrap_or(3.0);
        if !(eta.is_finite() && eta > 1.0) {
            return Err(HyperbandError::Eta(eta));
        }
        let bands = bands(&raw, eta)?;
        if bands.is_empty() {
            return Err(HyperbandError::NoBand);
        }
        Ok(Self {
            bands,
            eta,
            strict: raw.strict.unwrap_or(true),
        })
    }
}

fn bands(raw: &RawHyperband, eta: f64) -> Result<Vec<usize>, HyperbandError> {
    match (raw.min_iter, raw.max_iter, raw.s) {
        (_, Some(max), Some(s)) => bands_below(max, s, eta),
        (Some(min), None, _) if min >= 1.0 => Ok(bands_from(min, eta)),
        _ => Err(HyperbandError::Missing),
    }
}

/// Returns up to `s` bands below `max_iter`.
fn bands_below(max_iter: f64, s: f64, eta: f64) -> Result<Vec<usize>, HyperbandError> {
    let (mut bands, mut band) = (Vec::new(), max_iter / eta);
    while bands.len() < s as usize && band >= 1.0 {
        if bands.len() == MAX_BANDS {
            return Err(HyperbandError::TooManyBands { s, eta });
        }
        bands.push(band as usize);
        band /= eta;
    }
    bands.reverse();
    Ok(bands)
}

/// Returns the bands from `min_iter` on.
fn bands_from(min_iter: f64, eta: f64) -> Vec<usize> {
    let (mut bands, mut band) = (Vec::with_capacity(MAX_BANDS), min_iter);
    for _ in 0..MAX_BANDS {
        bands.push(band as usize);
        band *= eta;
    }
    bands
}

/// Progress of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// The metric, evaluation by evaluation; values that are not finite do not count.
    pub history: Vec<f64>,
    /// Whether the run can still be ended.
    pub is_running: bool,
}

/// Returns the finite values of a run, negated if higher is better.
fn values_to_minimize(run: &Progress, goal: Goal) -> Vec<f64> {
    let mut values = run.history.clone();
    values.retain(|value| value.is_finite());
    for value in &mut values {
        *value *= goal.sign();
    }
    values
}

impl Hyperband {
    /// Returns for each run whether to end it now.
    #[must_use]
    pub fn ends(&self, runs: &[Progress], goal: Goal) -> Vec<bool> {
        let mut histories = Vec::with_capacity(runs.len());
        for run in runs {
            histories.push(values_to_minimize(run, goal));
        }
        let mut ends = Vec::with_capacity(runs.len());
        for (run, history) in runs.iter().zip(&histories) {
            ends.push(run.is_running && self.is_behind(history, &histories));
        }
        ends
    }

    /// Whether a run was not among the best at the last band that it reached.
    fn is_behind(&self, history: &[f64], all: &[Vec<f64>]) -> bool {
        let reached = self.bands.partition_point(|band| *band <= history.len());
        let Some(band) = self.bands[..reached].last() else {
            return false;
        };
        let threshold = self.threshold(*band, all);
        let judged = if self.strict {
            history[band - 1]
        } else {
            history.iter().copied().fold(f64::INFINITY, f64::min)
        };
        judged > threshold
    }

    /// Returns the worst value at a band with which a run continues.
    fn threshold(&self, band: usize, all: &[Vec<f64>]) -> f64 {
        let mut values: Vec<f64> = Vec::with_capacity(all.len());
        for history in all {
            values.extend(history.get(band - 1));
        }
        values.sort_by(f64::total_cmp);
        values[((1.0 / self.eta) * values.len() as f64) as usize]
    }
}
