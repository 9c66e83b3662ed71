//! How good predictions were.

use super::bootstrap::{Between, resamples};
use super::interval::Interval;
use super::predictor::Predictor;
use super::rank::{Ranking, kendall, least};
use super::run::Run;
use serde::Serialize;

/// What was predicted of one run, and what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Point {
    /// The number of the run in [`Report::runs`](super::Report::runs).
    pub run: usize,
    /// Where it was said to end.
    pub predicted: f64,
    /// Where it ended; `None` if it diverged after the cut.
    pub truth: Option<f64>,
    /// Between which values it was said to end.
    pub interval: Option<Interval>,
    /// The predictor had nothing to say, and this is the last value.
    pub is_last_value: bool,
}

/// How good the predictions of one predictor at one cut were.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Score {
    /// Of runs that finished; `None` if fewer than eight did.
    pub error: Option<Error>,
    /// Of all runs, those that diverged in the last place; `None` for the mean of the others, whose ranks are the true
    /// ones upside down.
    pub ranks: Option<Ranks>,
}

/// How well the order of the runs was foretold.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ranks {
    /// Spearman's ρ of predicted and true ends; `None` if all are equal.
    pub spearman: Option<f64>,
    /// Where ρ lies in 95 % of resamples; `None` if fewer than eight runs finished.
    pub spearman_between: Option<Between>,
    /// Kendall's τ-b of them.
    pub kendall: Option<f64>,
    /// How many of the three best are among the three predicted best, as a share.
    pub recall_3: f64,
    /// Going on with the predicted best one only, and with the best three.
    pub promoted: [Promotion; 2],
}

/// How far off predictions were, in units of the metric.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Error {
    /// The mean absolute error.
    pub mae: f64,
    /// Where the mean absolute error lies in 95 % of resamples.
    pub mae_between: Between,
    /// The root of the mean squared error.
    pub rmse: f64,
    /// The share of the squared error of "the mean of the others" that is gone; below 0 it is worse than that.
    pub r2: Option<f64>,
    /// The share of intervals that hold the truth, meant to be [`Interval::LEVEL`]; `None` without intervals.
    pub coverage: Option<f64>,
    /// The mean width of intervals.
    pub width: Option<f64>,
}

/// What it means to stop all runs at the cut but those that are predicted best.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Promotion {
    /// How many go on.
    pub k: usize,
    /// By how much the best of them is worse than the best of all.
    pub regret: f64,
    /// The share of the whole sweep's cost that is spent.
    pub spent: f64,
}

/// What a cut has in common for all predictors.
#[derive(Debug)]
pub(super) struct Setting<'a> {
    pub(super) runs: &'a [Run],
    /// Numbers of all runs that count at this cut, in order, with the share of each that is seen.
    pub(super) seen: Vec<(usize, f64)>,
    /// How often each of them is in each resample.
    pub(super) samples: Vec<Vec<u32>>,
    /// Whether enough runs have finished for errors.
    pub(super) has_errors: bool,
}

impl<'a> Setting<'a> {
    pub(super) fn new(runs: &'a [Run], seen: Vec<(usize, f64)>, has_errors: bool) -> Self {
        Self {
            runs,
            samples: resamples(seen.len()),
            seen,
            has_errors,
        }
    }

    /// The absolute error of each run that is seen; `None` of those that diverged.
    pub(super) fn misses(&self, points: &[Point]) -> Vec<Option<f64>> {
        let point = |run: usize| points.iter().find(|point| point.run == run);
        let miss = |point: &Point| Some((point.predicted - point.truth?).abs());
        self.seen
            .iter()
            .map(|(run, _)| point(*run).and_then(miss))
            .collect()
    }

    /// Where the mean of what there is of each run lies in 95 % of resamples.
    pub(super) fn mean_between(&self, values: &[Option<f64>]) -> Option<Between> {
        let mean = |times: &Vec<u32>| {
            let known = values
                .iter()
                .zip(times)
                .filter_map(|(x, times)| Some((*x)?).zip(Some(f64::from(*times))));
            let (sum, count) = known.fold((0.0, 0.0), |(sum, n), (x, times)| {
                (sum + x * times, n + times)
            });
            sum / count
        };
        let means = self
            .samples
            .iter()
            .map(mean)
            .filter(|mean| mean.is_finite());
        Between::of(means.collect())
    }
}

impl Score {
    pub(super) fn of(
        points: &[Point],
        at: &Setting<'_>,
        predictor: Predictor,
        squares_of_mean: f64,
    ) -> Self {
        Self {
            error: at
                .has_errors
                .then(|| Error::of(points, at, squares_of_mean))
                .flatten(),
            ranks: (predictor != Predictor::Mean)
                .then(|| Ranks::of(points, at))
                .flatten(),
        }
    }
}

impl Ranks {
    /// `None` without two runs to compare, or one that finished.
    fn of(points: &[Point], at: &Setting<'_>) -> Option<Self> {
        let predicted = |run: usize| {
            let point = points.iter().find(|point| point.run == run);
            point.map_or(f64::INFINITY, |point| point.predicted) // it was seen to diverge
        };
        let truth = |run: usize| at.runs[run].final_value().unwrap_or(f64::INFINITY);
        let pairs: Vec<_> = at
            .seen
            .iter()
            .map(|(run, _)| (predicted(*run), truth(*run)))
            .collect();
        if pairs.len() < 2 || pairs.iter().all(|pair| pair.1.is_infinite()) {
            return None;
        }
        let ranking = Ranking::of(&pairs);
        let between = || {
            let rhos = at
                .samples
                .iter()
                .filter_map(|times| ranking.spearman(times));
            Between::of(rhos.collect())
        };
        let best = |of: fn(&(f64, f64)) -> f64| least(&pairs.iter().map(of).collect::<Vec<_>>(), 3);
        let (promoted, truly) = (best(|pair| pair.0), best(|pair| pair.1));
        let hits = truly
            .iter()
            .filter(|index| promoted.contains(index))
            .count();
        Some(Self {
            spearman: ranking.spearman(&vec![1; pairs.len()]),
            spearman_between: at.has_errors.then(between).flatten(),
            kendall: kendall(&pairs),
            recall_3: hits as f64 / truly.len() as f64,
            promoted: [1, 3].map(|k| Promotion::of(&promoted[..k.min(promoted.len())], &pairs, at)),
        })
    }
}

impl Error {
    fn of(points: &[Point], at: &Setting<'_>, squares_of_mean: f64) -> Option<Self> {
        let misses = at.misses(points);
        let known: Vec<f64> = misses.iter().copied().flatten().collect();
        let n = known.len() as f64;
        let squares: f64 = known.iter().map(|miss| miss * miss).sum();
        let intervals: Vec<(Interval, f64)> = points
            .iter()
            .filter_map(|point| Some((point.interval?, point.truth?)))
            .collect();
        let share = |of: &dyn Fn(&(Interval, f64)) -> f64| {
            let sum = intervals.iter().map(of).sum::<f64>();
            (!intervals.is_empty()).then(|| sum / intervals.len() as f64)
        };
        Some(Self {
            mae: known.iter().sum::<f64>() / n,
            mae_between: at.mean_between(&misses)?,
            rmse: (squares / n).sqrt(),
            r2: (squares_of_mean > 0.0).then(|| 1.0 - squares / squares_of_mean),
            coverage: share(&|(interval, truth)| f64::from(u8::from(interval.holds(*truth)))),
            width: share(&|(interval, _)| interval.high - interval.low),
        })
    }
}

impl Promotion {
    /// Of the pairs (predicted, true) with these numbers.
    fn of(promoted: &[usize], pairs: &[(f64, f64)], at: &Setting<'_>) -> Self {
        // One that diverged is as bad as the worst that did not, as everywhere.
        let finite = pairs
            .iter()
            .map(|pair| pair.1)
            .filter(|end| end.is_finite());
        let worst = finite.fold(f64::NEG_INFINITY, f64::max);
        let end = |index: usize| {
            if pairs[index].1.is_finite() {
                pairs[index].1
            } else {
                worst
            }
        };
        let best_of =
            |all: &mut dyn Iterator<Item = usize>| all.map(end).fold(f64::INFINITY, f64::min);
        let regret = best_of(&mut promoted.iter().copied()) - best_of(&mut (0..pairs.len()));
        let known = at.seen.iter().all(|(run, _)| at.runs[*run].cost > 0.0);
        let cost = |run: usize| if known { at.runs[run].cost } else { 1.0 };
        let spent = at.seen.iter().enumerate().map(|(index, (run, share))| {
            cost(*run)
                * if promoted.contains(&index) {
                    1.0
                } else {
                    *share
                }
        });
        let whole: f64 = at.seen.iter().map(|(run, _)| cost(*run)).sum();
        Self {
            k: promoted.len(),
            regret,
            spent: spent.sum::<f64>() / whole,
        }
    }
}
