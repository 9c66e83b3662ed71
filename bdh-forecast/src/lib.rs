//! Forecasts: where runs will end, predicted from their beginnings, and how far to trust such a prediction.
//!
//! | item | content |
//! |---|---|
//! | [`Run`] | a run as plain numbers |
//! | [`Cut`] | a point inside a run, up to which predictors see it |
//! | [`Predictor`] | the predictors, from the mean of the others to a Gaussian process |
//! | [`Protocol`] | which runs are predicted from which |
//! | [`Score`] | quality of predictions: errors, ranks, the cost of promoting the best |
//! | [`Interval`] | a range that contains a run's end |
//! | [`BootstrapInterval`] | how much a figure depends on chance: the bootstrap |
//! | [`SeedNoise`] | how much the end changes with the seed alone |
//! | [`Report`] | all results, as data and as text |
//! | [`Forecaster`] | predictions for runs in progress |
//! | [`Importance`] | which settings matter |
//! | [`StopRule`] | which trials are not worth their remaining steps |
//!
//! A curve's last value and a run's settings alone are often nearly as good as any predictor. These two baselines are
//! therefore reported next to every figure, and a predictor counts as better only if resampling the runs does not
//! explain the difference.
//!
//! ```
//! use bdh_forecast::{Cut, End, Forecast, Predictor, Run};
//!
//! let runs = (1..=12).map(|i| {
//!     let lr = 0.001 * f64::from(i);
//!     let value = |step: u64| 2.0 + 10.0 * (lr - 0.006).abs() + 3.0 / (step as f64).sqrt();
//!     Run {
//!         name: format!("trial-{i}"),
//!         settings: [("lr".to_owned(), lr)].into(),
//!         horizon: 1_000,
//!         metric: (1..=10).map(|k| (100 * k, value(100 * k))).collect(),
//!         end: End::Finished(value(1_000)),
//!         ..Run::default()
//!     }
//! });
//! let report = Forecast::of(runs.collect())?.cuts([Cut::Fraction(0.4)])?.report();
//! let at_40_percent = &report.tests[0].cuts[0];
//! let law = at_40_percent.cell(Predictor::ClosedForm).and_then(|cell| cell.mae());
//! assert!(law < Some(1e-9), "evaluations at 100, 200 and 400 determine a power law");
//! println!("{report}");
//! # Ok::<(), bdh_forecast::ForecastError>(())
//! ```

#![forbid(unsafe_code)]

pub mod cholesky;

mod annealing;
mod bootstrap;
mod curve;
mod early;
mod forecaster;
#[cfg(test)]
mod golden;
mod importance;
mod interval;
mod lines;
mod no_prediction;
mod noise;
mod power;
mod predictor;
mod process;
mod protocol;
mod rank;
mod report;
mod ridge;
mod run;
mod scale;
mod schedule;
mod score;
mod sentences;
mod settings;
mod stop;
mod table;
mod test;
mod text;

pub use bootstrap::BootstrapInterval;
pub use early::Cut;
pub use forecaster::Forecaster;
pub use importance::Importance;
pub use interval::Interval;
pub use no_prediction::NoPrediction;
pub use noise::SeedNoise;
pub use predictor::Predictor;
pub use protocol::Protocol;
pub use report::{Cell, Comparison, CutTest, Prediction, Report, RunRow, Test, Versus};
pub use run::{End, ForecastError, Run};
pub use score::{ErrorMetrics, Point, Promotion, Ranks, Score};
pub use stop::{Saving, StopRule, Stopped};

use annealing::Annealing;
use std::collections::BTreeSet;
use test::CutView;

/// Number of finished runs needed for errors and intervals. With fewer, only ranks are reported.
const ENOUGH: usize = 8;

/// A test of all predictors on finished runs, and a prediction for each unfinished run.
#[derive(Debug, Clone)]
#[must_use = "a forecast does nothing until `report` is called"]
pub struct Forecast {
    runs: Vec<Run>,
    cuts: Vec<Cut>,
    group: String,
    stop: Option<StopRule>,
}

impl Forecast {
    /// Creates a forecast of these runs, at [`Cut::SHARES`], leaving one `depth` out if depths differ.
    ///
    /// # Errors
    ///
    /// [`ForecastError::SameName`], [`ForecastError::NoHorizon`].
    pub fn of(runs: Vec<Run>) -> Result<Self, ForecastError> {
        Ok(Self {
            runs: run::tidy_all(runs)?,
            cuts: Cut::SHARES.to_vec(),
            group: "depth".to_owned(),
            stop: None,
        })
    }

    /// Replaces the cuts.
    ///
    /// # Errors
    ///
    /// [`ForecastError::BadCut`] for a cut that is not inside a run.
    pub fn cuts(mut self, cuts: impl IntoIterator<Item = Cut>) -> Result<Self, ForecastError> {
        self.cuts = cuts.into_iter().collect();
        match self.cuts.iter().find(|cut| !cut.is_valid()) {
            Some(cut) => Err(ForecastError::BadCut(cut.to_string())),
            None => Ok(self),
        }
    }

    /// Leaves out runs by this setting, to test how predictions extrapolate. Defaults to `depth`.
    pub fn group(mut self, setting: impl Into<String>) -> Self {
        self.group = setting.into();
        self
    }

    /// Replays this stop rule. By default its regret is the seed noise, or 0 if that is unknown.
    pub fn stop(mut self, rule: StopRule) -> Self {
        self.stop = Some(rule);
        self
    }

    /// Predicts, compares and scores.
    ///
    /// The report depends neither on the order of the runs nor on the number of cores.
    #[must_use]
    pub fn report(&self) -> Report {
        let runs = &self.runs;
        let finished = runs.iter().filter(|run| run.is_finished()).count();
        let ended = self.num_ended();
        let noise = SeedNoise::of(runs);
        let views = self.views();
        let protocols = self.protocols();
        let mut notes = self.skipped_protocols(&protocols);
        let predictions = self.predictions(&mut notes);
        let (settings, partial_settings) = settings_of(&views);
        Report {
            finished,
            diverged: ended - finished,
            unfinished: runs.len() - ended,
            noise,
            settings,
            partial_settings,
            tests: self.tests(&views, protocols),
            predictions,
            stopping: (finished >= ENOUGH).then(|| self.replay(noise)),
            notes,
            runs: runs.iter().map(RunRow::of).collect(),
        }
    }

    /// Returns the number of runs that finished or diverged.
    fn num_ended(&self) -> usize {
        self.runs.iter().filter(|run| run.has_ended()).count()
    }

    /// Tests all predictors by some protocols.
    fn tests(&self, views: &[CutView<'_>], protocols: Vec<Protocol>) -> Vec<Test> {
        let annealing = Annealing::of(&self.runs);
        let mut tests = Vec::with_capacity(protocols.len());
        for protocol in protocols {
            tests.push(test::run(&self.runs, &annealing, views, protocol));
        }
        tests
    }

    /// Replays the stop rule.
    fn replay(&self, noise: Option<SeedNoise>) -> Saving {
        let rule = self.stop.unwrap_or(StopRule {
            regret: noise.map_or(0.0, |noise| noise.std),
        });
        rule.replay_tidy(&self.runs, &self.cuts)
    }

    /// Runs only the test by [`Protocol::LeaveOneOut`], which is quicker.
    #[must_use]
    pub fn leave_one_out(&self) -> Test {
        let annealing = Annealing::of(&self.runs);
        test::run(&self.runs, &annealing, &self.views(), Protocol::LeaveOneOut)
    }

    /// Returns the visible parts of the runs at each cut.
    fn views(&self) -> Vec<CutView<'_>> {
        let mut views = Vec::with_capacity(self.cuts.len());
        for cut in &self.cuts {
            views.push(CutView::of(&self.runs, *cut));
        }
        views
    }

    /// Returns the protocols that these runs allow.
    fn protocols(&self) -> Vec<Protocol> {
        let mut protocols = vec![Protocol::LeaveOneOut];
        if self.num_groups() > 1 {
            protocols.push(Protocol::LeaveGroupOut(self.group.clone()));
        }
        if self.num_ended() >= protocol::FIRST + ENOUGH {
            protocols.push(Protocol::Prequential);
        }
        protocols
    }

    /// Returns the number of values that the group's setting has among the runs that have ended.
    fn num_groups(&self) -> usize {
        let mut groups = BTreeSet::new();
        for run in &self.runs {
            if run.has_ended() {
                let value = run.settings.get(&self.group);
                groups.insert(value.map(|value| value.to_bits()));
            }
        }
        groups.len()
    }

    /// Returns a note for each protocol that is skipped.
    fn skipped_protocols(&self, protocols: &[Protocol]) -> Vec<String> {
        let mut notes = Vec::new();
        if !protocols.contains(&Protocol::LeaveGroupOut(self.group.clone())) {
            notes.push(format!(
                "`{}` has the same value in all runs: the test that leaves one value out is skipped",
                self.group
            ));
        }
        if !protocols.contains(&Protocol::Prequential) {
            notes.push(format!(
                "too few runs for the prequential protocol: it needs {}",
                protocol::FIRST + ENOUGH
            ));
        }
        notes
    }

    /// Predicts the ends of the unfinished runs; adds a note for each one that cannot be predicted.
    fn predictions(&self, notes: &mut Vec<String>) -> Vec<Prediction> {
        let (past, unfinished): (Vec<&Run>, Vec<&Run>) =
            self.runs.iter().partition(|run| run.has_ended());
        let mut predictions = Vec::with_capacity(unfinished.len());
        for run in unfinished {
            match forecaster::predict_at(&past, run, run.latest_step()) {
                Ok(prediction) => predictions.push(prediction),
                Err(error) => notes.push(error.to_string()),
            }
        }
        predictions
    }
}

/// Returns the names of the settings that are used, and of those that only some runs have.
fn settings_of(views: &[CutView<'_>]) -> (Vec<String>, Vec<String>) {
    // Settings are the same at every cut.
    match views.first() {
        Some(view) => (view.table.labels.clone(), view.table.partial.clone()),
        None => (Vec::new(), Vec::new()),
    }
}

/// The code of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
