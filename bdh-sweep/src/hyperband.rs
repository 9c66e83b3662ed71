//! Which runs are not worth their next steps.

use crate::checked::checked;
use crate::goal::Goal;
use serde::{Deserialize, Deserializer};

/// Ends a run whose metric, at some number of evaluations, is not among the best 1/`eta` of all runs that came so far.
///
/// The numbers of evaluations, called bands, are `min_iter * eta^i`, or `max_iter / eta^i` for `i` in `1..=s`. As in
/// W&B, an evaluation is one value of the metric that was recorded, whatever its step. Source: L. Li et al.,
/// "Hyperband", JMLR 2018, in the form that the `sweeps` package gives it.
#[derive(Debug, Clone, PartialEq)]
pub struct Hyperband {
    bands: Vec<usize>,
    /// One in so many runs goes on.
    eta: f64,
    /// Judges by the value at the band instead of the best so far.
    strict: bool,
}

/// All that can be said of early termination.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Words {
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

impl<'de> Deserialize<'de> for Hyperband {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        checked::<Words, _, _>(from, "settings such as `{ type: hyperband, min_iter: 3 }`")
    }
}

/// Bands beyond which nobody trains.
const MAX_BANDS: usize = 100;

impl TryFrom<Words> for Hyperband {
    type Error = String;

    fn try_from(words: Words) -> Result<Self, String> {
        let eta = words.eta.unwrap_or(3.0);
        if !(eta.is_finite() && eta > 1.0) {
            return Err(format!("eta {eta} must be above 1"));
        }
        let bands: Vec<f64> = match (words.min_iter, words.max_iter, words.s) {
            (_, Some(max), Some(s)) => {
                let bands = std::iter::successors(Some(max / eta), |band| Some(band / eta));
                let wanted = (s as usize).min(MAX_BANDS + 1);
                let mut bands: Vec<_> =
                    bands.take(wanted).take_while(|band| *band >= 1.0).collect();
                if bands.len() > MAX_BANDS {
                    return Err(format!(
                        "s {s} and eta {eta} make more than {MAX_BANDS} bands: lower s, or raise eta"
                    ));
                }
                bands.reverse();
                bands
            }
            (Some(min), None, _) if min >= 1.0 => {
                let bands = std::iter::successors(Some(min), |band| Some(band * eta));
                bands.take(MAX_BANDS).collect()
            }
            _ => {
                return Err(
                    "hyperband needs `min_iter` of at least 1, or `max_iter` and `s`".to_owned(),
                );
            }
        };
        if bands.is_empty() {
            return Err("there is no band: raise max_iter or s, or lower eta".to_owned());
        }
        let bands = bands.into_iter().map(|band| band as usize).collect();
        Ok(Self {
            bands,
            eta,
            strict: words.strict.unwrap_or(true),
        })
    }
}

/// How far a run has come.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// The metric, evaluation by evaluation; what is not finite does not count.
    pub history: Vec<f64>,
    /// Whether it can still be ended.
    pub is_running: bool,
}

impl Hyperband {
    /// For each run, whether it should be ended now.
    #[must_use]
    pub fn ends(&self, runs: &[Progress], goal: Goal) -> Vec<bool> {
        let sign = if goal == Goal::Maximize { -1.0 } else { 1.0 };
        let histories: Vec<Vec<f64>> = runs
            .iter()
            .map(|run| {
                run.history
                    .iter()
                    .filter(|x| x.is_finite())
                    .map(|x| sign * x)
                    .collect()
            })
            .collect();
        let decide = |(run, history): (&Progress, &Vec<f64>)| {
            run.is_running && self.is_behind(history, &histories)
        };
        runs.iter().zip(&histories).map(decide).collect()
    }

    /// Whether a run was worse than the best of all at the last band that it reached.
    fn is_behind(&self, history: &[f64], all: &[Vec<f64>]) -> bool {
        let Some(&band) = self
            .bands
            .iter()
            .take_while(|band| **band <= history.len())
            .last()
        else {
            return false;
        };
        let mut values: Vec<_> = all
            .iter()
            .filter_map(|other| other.get(band - 1))
            .copied()
            .collect();
        values.sort_by(f64::total_cmp);
        let threshold = values[((1.0 / self.eta) * values.len() as f64) as usize];
        let best = || history.iter().copied().fold(f64::INFINITY, f64::min);
        let judged = if self.strict {
            history[band - 1]
        } else {
            best()
        };
        judged > threshold
    }
}
