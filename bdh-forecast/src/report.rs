//! The report of a forecast, as data.

use super::bootstrap::BootstrapInterval;
use super::early::Cut;
use super::interval::Interval;
use super::no_prediction::NoPrediction;
use super::noise::SeedNoise;
use super::predictor::Predictor;
use super::protocol::Protocol;
use super::run::{End, Run};
use super::score::{Point, Score};
use super::stop::Saving;
use serde::Serialize;

/// How well the ends of runs can be predicted from their beginnings.
///
/// Printed, this is the report for the terminal, in lines of at most 100 columns; serialized, it has all that plots
/// need.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// All runs, in the order of their names.
    pub runs: Vec<RunRow>,
    /// Number of finished runs. With fewer than eight only ranks are reported.
    pub finished: usize,
    /// Number of diverged runs, which rank worst.
    pub diverged: usize,
    /// Number of unfinished runs.
    pub unfinished: usize,
    /// Spread of ends that differ only in the seed; `None` without replicates.
    pub noise: Option<SeedNoise>,
    /// Features made of settings, such as `log lr`.
    pub settings: Vec<String>,
    /// Settings that only some runs have, which are therefore not used.
    pub partial_settings: Vec<String>,
    /// Tests of the predictors, one per protocol.
    pub tests: Vec<Test>,
    /// Predicted ends of the unfinished runs.
    pub predictions: Vec<Prediction>,
    /// Savings of the stop rule; `None` if fewer than eight runs finished.
    pub stopping: Option<Saving>,
    /// Notes for the reader.
    pub notes: Vec<String>,
}

/// One run in a report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunRow {
    /// Name of the run.
    pub name: String,
    /// End of the run; `None` if it did not finish.
    pub end: Option<f64>,
    /// Whether the run diverged.
    pub diverged: bool,
}

/// The test of all predictors by one protocol.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Test {
    /// The protocol.
    pub protocol: Protocol,
    /// One test per cut, in the order given.
    pub cuts: Vec<CutTest>,
}

/// The test of all predictors by one protocol at one cut.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CutTest {
    /// The cut.
    pub cut: Cut,
    /// Number of predicted runs.
    pub predicted: usize,
    /// Number of runs that had diverged by the cut; they count in ranks only.
    pub diverged_by_then: usize,
    /// Number of runs that had ended by the cut; left out.
    pub ended_by_then: usize,
    /// Number of runs without an evaluation before the cut, while others had one; left out.
    pub unseen_by_then: usize,
    /// One cell per predictor, weakest first.
    pub cells: Vec<Cell>,
    /// Comparison of the best predictor with the baselines; `None` if fewer than eight runs finished.
    pub comparison: Option<Comparison>,
}

/// The predictions of one predictor at one cut.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cell {
    /// The predictor.
    pub predictor: Predictor,
    /// One point per predicted run.
    pub points: Vec<Point>,
    /// Number of points that are last values, because the predictor fell back to them.
    pub last_values: usize,
    /// Number of runs without a prediction, and the reason for the first of them.
    ///
    /// The cell then has no score, because a score over other runs would not be comparable.
    pub silent: Option<(usize, NoPrediction)>,
    /// Quality of the predictions.
    pub score: Option<Score>,
}

/// The best predictor next to the two baselines: the basis of all claims.
///
/// The value at the cut is judged fairly only after a line has brought it to the scale of ends, so that baseline counts
/// with the smaller of both errors.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Predictor with the least error, other than the baselines, the mean and the line.
    pub best: Predictor,
    /// Mean absolute error of the best predictor.
    pub mae: f64,
    /// The baselines that have an error.
    pub against: Vec<Versus>,
}

/// A baseline in a comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Versus {
    /// The baseline.
    pub baseline: Predictor,
    /// Mean absolute error of the baseline.
    pub mae: f64,
    /// 95 % bootstrap interval of how much greater the baseline's error is than the best predictor's.
    pub gain: BootstrapInterval,
}

/// Predicted end of one run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Prediction {
    /// Name of the run.
    pub run: String,
    /// Latest step used for the prediction.
    pub step: u64,
    /// Steps of the whole run.
    pub horizon: u64,
    /// Predicted end.
    pub value: f64,
    /// Interval of the end; `None` if fewer than eight other runs have finished.
    pub interval: Option<Interval>,
    /// Baseline: the value at that step.
    pub last: Option<f64>,
    /// Baseline: the end as predicted from settings only; `None` if fewer than eight other runs have finished.
    pub settings_only: Option<f64>,
    /// Predictor that made the prediction.
    pub predictor: Predictor,
    /// Number of other runs learned from.
    pub others: usize,
}

impl RunRow {
    pub(super) fn of(run: &Run) -> Self {
        Self {
            name: run.name.clone(),
            end: run.final_value(),
            diverged: matches!(run.end, End::Diverged { .. }),
        }
    }
}

impl Comparison {
    /// Whether the best predictor has a lower error than all baselines, by more than resampling the runs explains.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        self.against.iter().all(|versus| versus.gain.low > 0.0)
    }
}

impl CutTest {
    /// Returns the predictions of this predictor.
    #[must_use]
    pub fn cell(&self, predictor: Predictor) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.predictor == predictor)
    }
}

impl Cell {
    /// Returns the mean absolute error, if there is one.
    #[must_use]
    pub fn mae(&self) -> Option<f64> {
        Some(self.score.as_ref()?.error.as_ref()?.mae)
    }

    /// Returns the rank correlation, if there is one.
    #[must_use]
    pub fn spearman(&self) -> Option<f64> {
        self.score.as_ref()?.ranks.as_ref()?.spearman
    }
}
