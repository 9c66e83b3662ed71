//! Quality of predictions.

use super::bootstrap::{BootstrapInterval, resamples};
use super::interval::Interval;
use super::predictor::Predictor;
use super::rank::{Ranking, kendall, least};
use super::run::Run;
use serde::Serialize;

/// The predicted and the true end of one run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Point {
    /// Index of the run in [`Report::runs`](super::Report::runs).
    pub run: usize,
    /// Predicted end.
    pub predicted: f64,
    /// True end; `None` if the run diverged after the cut.
    pub truth: Option<f64>,
    /// Interval of the predicted end.
    pub interval: Option<Interval>,
    /// Whether the predictor fell back to the last value.
    pub is_last_value: bool,
}

/// Quality of one predictor's predictions at one cut.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Score {
    /// Errors on finished runs; `None` if fewer than eight finished.
    pub error: Option<ErrorMetrics>,
    /// Rank correlations over all runs, with diverged runs last.
    ///
    /// `None` for the mean of the others, which by construction ranks runs in reverse.
    pub ranks: Option<Ranks>,
}

/// How well the order of the runs was predicted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ranks {
    /// Spearman's ρ of predicted and true ends; `None` if all are equal.
    pub spearman: Option<f64>,
    /// 95 % bootstrap interval of ρ; `None` if fewer than eight runs finished.
    pub spearman_between: Option<BootstrapInterval>,
    /// Kendall's τ-b of predicted and true ends.
    pub kendall: Option<f64>,
    /// Share of the three best runs that are among the three predicted best.
    pub recall_3: f64,
    /// Results of continuing only the predicted best run, and only the best three.
    pub promoted: [Promotion; 2],
}

/// Errors of predictions, in units of the metric.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ErrorMetrics {
    /// Mean absolute error.
    pub mae: f64,
    /// 95 % bootstrap interval of the mean absolute error.
    pub mae_between: BootstrapInterval,
    /// Root mean squared error.
    pub rmse: f64,
    /// Share of the squared error of "the mean of the others" that is removed; negative if the error is larger.
    pub r2: Option<f64>,
    /// Share of intervals that contain the true end, nominally [`Interval::LEVEL`]; `None` without intervals.
    pub coverage: Option<f64>,
    /// Mean width of the intervals.
    pub width: Option<f64>,
}

/// The result of stopping all runs at the cut except those predicted best.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Promotion {
    /// Number of runs that continue.
    pub k: usize,
    /// How much worse the best of them is than the best of all.
    pub regret: f64,
    /// Share of the whole sweep's cost that is spent.
    pub spent: f64,
}

/// The runs that count at one cut, common to all predictors.
#[derive(Debug)]
pub(super) struct ScoredRuns<'a> {
    pub(super) runs: &'a [Run],
    /// Indices of the runs that count, in order, each with its visible share.
    pub(super) seen: Vec<(usize, f64)>,
    /// How often each of them is in each bootstrap sample.
    samples: Vec<Vec<u32>>,
    /// Whether enough runs have finished for errors.
    has_errors: bool,
}

impl<'a> ScoredRuns<'a> {
    pub(super) fn new(runs: &'a [Run], seen: Vec<(usize, f64)>, has_errors: bool) -> Self {
        Self {
            runs,
            samples: resamples(seen.len()),
            seen,
            has_errors,
        }
    }

    /// Returns the absolute error of each run that counts; `None` for diverged ones.
    pub(super) fn misses(&self, points: &[Point]) -> Vec<Option<f64>> {
        let mut misses = Vec::with_capacity(self.seen.len());
        for (run, _) in &self.seen {
            misses.push(point_of(points, *run).and_then(Point::miss));
        }
        misses
    }

    /// Returns the 95 % bootstrap interval of the mean of the values that there are.
    pub(super) fn mean_between(&self, values: &[Option<f64>]) -> Option<BootstrapInterval> {
        let mut means = Vec::with_capacity(self.samples.len());
        for times in &self.samples {
            let (mut sum, mut count) = (0.0, 0.0);
            for (value, times) in values.iter().zip(times) {
                if let Some(value) = value {
                    sum += value * f64::from(*times);
                    count += f64::from(*times);
                }
            }
            // Without a value in the sample this is 0 / 0.
            let mean: f64 = sum / count;
            if mean.is_finite() {
                means.push(mean);
            }
        }
        BootstrapInterval::of(means)
    }

    /// Returns the predicted and the true end of each run that counts; infinite where it diverged.
    fn pairs(&self, points: &[Point]) -> Vec<(f64, f64)> {
        let mut pairs = Vec::with_capacity(self.seen.len());
        for (run, _) in &self.seen {
            // A run without a point diverged before the cut.
            let predicted = point_of(points, *run).map_or(f64::INFINITY, |point| point.predicted);
            let truth = self.runs[*run].final_value().unwrap_or(f64::INFINITY);
            pairs.push((predicted, truth));
        }
        pairs
    }
}

fn point_of(points: &[Point], run: usize) -> Option<&Point> {
    points.iter().find(|point| point.run == run)
}

impl Point {
    /// Returns the absolute error; `None` if the run diverged.
    fn miss(&self) -> Option<f64> {
        Some((self.predicted - self.truth?).abs())
    }
}

impl Score {
    /// Scores predictions. `squares_of_mean` is the sum of squared errors of the mean of the others.
    pub(super) fn of(
        points: &[Point],
        scored: &ScoredRuns<'_>,
        predictor: Predictor,
        squares_of_mean: f64,
    ) -> Self {
        let error = if scored.has_errors {
            ErrorMetrics::of(points, scored, squares_of_mean)
        } else {
            None
        };
        let ranks = if predictor == Predictor::Mean {
            None
        } else {
            Ranks::of(points, scored)
        };
        Self { error, ranks }
    }
}

impl Ranks {
    /// Ranks predictions; `None` without two runs to compare, or a finished one.
    fn of(points: &[Point], scored: &ScoredRuns<'_>) -> Option<Self> {
        let pairs = scored.pairs(points);
        if pairs.len() < 2 || pairs.iter().all(|pair| pair.1.is_infinite()) {
            return None;
        }
        let (predicted, truth): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
        let (promoted, best) = (least(&predicted, 3), least(&truth, 3));
        let ranking = Ranking::of(&pairs);
        Some(Self {
            spearman: ranking.spearman(&vec![1; pairs.len()]),
            spearman_between: spearman_between(&ranking, scored),
            kendall: kendall(&pairs),
            recall_3: recall(&promoted, &best),
            promoted: [
                Promotion::of(&promoted[..1], &pairs, scored),
                Promotion::of(&promoted, &pairs, scored),
            ],
        })
    }
}

/// Returns the 95 % bootstrap interval of Spearman's ρ; `None` if too few runs finished.
fn spearman_between(ranking: &Ranking, scored: &ScoredRuns<'_>) -> Option<BootstrapInterval> {
    if !scored.has_errors {
        return None;
    }
    let samples = scored.samples.iter();
    BootstrapInterval::of(
        samples
            .filter_map(|times| ranking.spearman(times))
            .collect(),
    )
}

/// Returns the share of the best runs that are promoted.
fn recall(promoted: &[usize], best: &[usize]) -> f64 {
    let hits = best.iter().filter(|index| promoted.contains(index)).count();
    hits as f64 / best.len() as f64
}

impl ErrorMetrics {
    fn of(points: &[Point], scored: &ScoredRuns<'_>, squares_of_mean: f64) -> Option<Self> {
        let misses = scored.misses(points);
        let (mut count, mut sum, mut squares) = (0.0, 0.0, 0.0);
        for miss in misses.iter().flatten() {
            count += 1.0;
            sum += miss;
            squares += miss * miss;
        }
        let (coverage, width) = coverage_and_width(points);
        Some(Self {
            mae: sum / count,
            mae_between: scored.mean_between(&misses)?,
            rmse: f64::sqrt(squares / count),
            r2: (squares_of_mean > 0.0).then(|| 1.0 - squares / squares_of_mean),
            coverage,
            width,
        })
    }
}

/// Returns the share of intervals that contain the true end, and their mean width; `None` without intervals.
fn coverage_and_width(points: &[Point]) -> (Option<f64>, Option<f64>) {
    let (mut count, mut held, mut width) = (0.0, 0.0, 0.0);
    for point in points {
        if let (Some(interval), Some(truth)) = (point.interval, point.truth) {
            count += 1.0;
            held += f64::from(u8::from(interval.holds(truth)));
            width += interval.high - interval.low;
        }
    }
    if count == 0.0 {
        return (None, None);
    }
    (Some(held / count), Some(width / count))
}

impl Promotion {
    /// Evaluates continuing the runs with these indices among the pairs of predicted and true ends.
    fn of(promoted: &[usize], pairs: &[(f64, f64)], scored: &ScoredRuns<'_>) -> Self {
        let ends = finite_ends(pairs);
        let (mut best, mut best_promoted) = (f64::INFINITY, f64::INFINITY);
        let (mut spent, mut whole) = (0.0, 0.0);
        let costs = scored.costs();
        for (index, (_, share)) in scored.seen.iter().enumerate() {
            let (end, cost) = (ends[index], costs[index]);
            best = best.min(end);
            whole += cost;
            if promoted.contains(&index) {
                best_promoted = best_promoted.min(end);
                spent += cost;
            } else {
                spent += cost * share;
            }
        }
        Self {
            k: promoted.len(),
            regret: best_promoted - best,
            spent: spent / whole,
        }
    }
}

/// Returns the true ends; a diverged run counts as the worst finished one, as in `with_ends`.
fn finite_ends(pairs: &[(f64, f64)]) -> Vec<f64> {
    let worst = worst_finite(pairs);
    let mut ends = Vec::with_capacity(pairs.len());
    for (_, truth) in pairs {
        ends.push(if truth.is_finite() { *truth } else { worst });
    }
    ends
}

/// Returns the greatest finite true end.
fn worst_finite(pairs: &[(f64, f64)]) -> f64 {
    let mut worst = f64::NEG_INFINITY;
    for (_, truth) in pairs {
        if truth.is_finite() {
            worst = worst.max(*truth);
        }
    }
    worst
}

impl ScoredRuns<'_> {
    /// Returns the cost of each run that counts; 1 for each if not all costs are known.
    fn costs(&self) -> Vec<f64> {
        let mut costs = Vec::with_capacity(self.seen.len());
        for (run, _) in &self.seen {
            costs.push(self.runs[*run].cost);
        }
        let are_known = costs.iter().all(|cost| *cost > 0.0);
        if !are_known {
            costs.fill(1.0);
        }
        costs
    }
}
