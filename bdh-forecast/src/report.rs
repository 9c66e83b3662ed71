//! What a forecast has to say, as data.

use super::bootstrap::Between;
use super::early::Cut;
use super::interval::Interval;
use super::noise::SeedNoise;
use super::predictor::Predictor;
use super::protocol::Protocol;
use super::score::{Point, Score};
use super::silence::Silence;
use super::stop::Saving;
use serde::Serialize;

/// How well the ends of runs can be foretold from their beginnings. Printed, it is the report for the terminal, in lines
/// of at most 100 columns; serialized, it has all that plots need.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// All runs, in the order of their names.
    pub runs: Vec<RunRow>,
    /// Runs that finished. Fewer than eight: ranks only.
    pub finished: usize,
    /// Runs that diverged: the worst.
    pub diverged: usize,
    /// Runs that are not through.
    pub unfinished: usize,
    /// How much the end changes by nothing but the seed; `None` without replicates.
    pub noise: Option<SeedNoise>,
    /// What of the settings is learned from, such as `log lr`.
    pub settings: Vec<String>,
    /// Settings that only some runs have, and that are therefore not learned from.
    pub partial_settings: Vec<String>,
    /// Predictions put to the test, protocol by protocol.
    pub tests: Vec<Test>,
    /// The ends of runs that are not through.
    pub predictions: Vec<Prediction>,
    /// What the stop rule would have saved; `None` if fewer than eight runs finished.
    pub stopping: Option<Saving>,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunRow {
    /// Its name.
    pub name: String,
    /// Where it ended; `None` if it did not finish.
    pub end: Option<f64>,
    /// Whether it diverged.
    pub diverged: bool,
}

/// One protocol, at all cuts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Test {
    /// Who was predicted from whom.
    pub protocol: Protocol,
    /// In the order in which they were asked for.
    pub cuts: Vec<CutTest>,
}

/// One protocol at one cut.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CutTest {
    /// How far into the runs one looks.
    pub cut: Cut,
    /// Runs that were predicted.
    pub predicted: usize,
    /// Runs that had been seen to diverge by then; they count in ranks.
    pub diverged_by_then: usize,
    /// Runs that had ended by then; left out.
    pub ended_by_then: usize,
    /// Runs that had not been evaluated by then, while others had; left out.
    pub unseen_by_then: usize,
    /// One for each predictor, weakest first.
    pub cells: Vec<Cell>,
    /// Whether the best beats the baselines; `None` if fewer than eight runs finished.
    pub comparison: Option<Comparison>,
}

/// One predictor at one cut.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cell {
    /// Who predicts.
    pub predictor: Predictor,
    /// What it said, run by run.
    pub points: Vec<Point>,
    /// How many of these are the last value, because it had nothing to say.
    pub last_values: usize,
    /// How many runs it says nothing of, and why of the first of them. It then has no score: one over other runs would
    /// not compare.
    pub silent: Option<(usize, Silence)>,
    /// How good it was.
    pub score: Option<Score>,
}

/// The best predictor beside the two baselines: what claims are made of.
///
/// The value at the cut has its due as an error only after a line has brought it to the scale of ends, so it counts with
/// the better of both errors.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The one with the least error that is no baseline, nor the mean, nor the line.
    pub best: Predictor,
    /// Its mean absolute error.
    pub mae: f64,
    /// Each baseline that speaks, with its error.
    pub against: Vec<Versus>,
}

/// A baseline.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Versus {
    /// Which.
    pub baseline: Predictor,
    /// Its mean absolute error.
    pub mae: f64,
    /// By how much its mean absolute error is greater than the best's, in 95 % of resamples.
    pub gain: Between,
}

/// Where one run will end.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Prediction {
    /// The run's name.
    pub run: String,
    /// Up to which step it was looked at.
    pub step: u64,
    /// Steps of the whole run.
    pub horizon: u64,
    /// Where it is said to end.
    pub value: f64,
    /// Between which values; `None` if fewer than eight others have finished.
    pub interval: Option<Interval>,
    /// The value at that step: a baseline.
    pub last: Option<f64>,
    /// Where its settings alone say that it ends: the other one; `None` if fewer than eight others have finished.
    pub settings_only: Option<f64>,
    /// Who says so.
    pub predictor: Predictor,
    /// Others that were learned from.
    pub others: usize,
}

impl Comparison {
    /// Whether the best has a lower error than all baselines, by more than resampling the runs explains.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        self.against.iter().all(|versus| versus.gain.low > 0.0)
    }
}

impl CutTest {
    /// What this predictor said.
    #[must_use]
    pub fn cell(&self, predictor: Predictor) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.predictor == predictor)
    }
}

impl Cell {
    /// Its mean absolute error, if it has one.
    #[must_use]
    pub fn mae(&self) -> Option<f64> {
        Some(self.score.as_ref()?.error.as_ref()?.mae)
    }

    /// Its rank correlation, if it has one.
    #[must_use]
    pub fn spearman(&self) -> Option<f64> {
        self.score.as_ref()?.ranks.as_ref()?.spearman
    }
}
