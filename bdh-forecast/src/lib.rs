//! Forecasts: where runs will end, from their beginnings, and how far such a claim can be trusted.
//!
//! | file | has |
//! |---|---|
//! | [`Run`] | a run as plain numbers |
//! | [`Cut`] | how far into a run one looks |
//! | [`Predictor`] | who predicts: from the mean of the others to a Gaussian process |
//! | [`Protocol`] | who is predicted from whom |
//! | [`Score`] | how good predictions were: errors, ranks, what promoting the best would cost |
//! | [`Interval`] | between which values a run will end |
//! | [`Between`] | how much a figure owes to chance: the bootstrap |
//! | [`SeedNoise`] | how much the seed alone changes |
//! | [`Report`] | all of it, as data and as text |
//! | [`Past`] | predicts a run that goes on |
//! | [`Importance`] | which settings matter |
//! | [`StopRule`] | which trials are not worth their remaining steps |
//!
//! A curve's last value and a run's settings alone often say nearly all there is to say. So these two baselines stand
//! beside every figure, and "better" is said only of what resampling the runs does not explain.
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
#[cfg(test)]
mod golden;
mod importance;
mod interval;
mod lines;
mod live;
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
mod silence;
mod stop;
mod table;
mod test;
mod text;

pub use bootstrap::Between;
pub use early::Cut;
pub use importance::Importance;
pub use interval::Interval;
pub use live::Past;
pub use noise::SeedNoise;
pub use predictor::Predictor;
pub use protocol::Protocol;
pub use report::{Cell, Comparison, CutTest, Prediction, Report, RunRow, Test, Versus};
pub use run::{End, ForecastError, Run};
pub use score::{Error, Point, Promotion, Ranks, Score};
pub use silence::Silence;
pub use stop::{Saving, StopRule, Stopped};

use annealing::Annealing;
use test::Sight;

/// Finished runs that errors and intervals take. With fewer there is a ranking, and no more.
const ENOUGH: usize = 8;

/// Finished runs to learn from and to test predictors on, and runs to predict.
#[derive(Debug, Clone)]
#[must_use = "a forecast does nothing until `report` is called"]
pub struct Forecast {
    runs: Vec<Run>,
    cuts: Vec<Cut>,
    group: String,
    stop: Option<StopRule>,
}

impl Forecast {
    /// Of these runs, at [`Cut::SHARES`], leaving one `depth` out where depths differ.
    ///
    /// # Errors
    ///
    /// [`ForecastError::SameName`], [`ForecastError::NoHorizon`].
    pub fn of(runs: Vec<Run>) -> Result<Self, ForecastError> {
        let runs = run::tidy_all(runs)?;
        Ok(Self {
            runs,
            cuts: Cut::SHARES.to_vec(),
            group: "depth".to_owned(),
            stop: None,
        })
    }

    /// Looks at these cuts instead.
    ///
    /// # Errors
    ///
    /// [`ForecastError::BadCut`] for one that is not inside a run.
    pub fn cuts(mut self, cuts: impl IntoIterator<Item = Cut>) -> Result<Self, ForecastError> {
        self.cuts = cuts.into_iter().collect();
        match self.cuts.iter().find(|cut| !cut.is_valid()) {
            Some(cut) => Err(ForecastError::BadCut(cut.to_string())),
            None => Ok(self),
        }
    }

    /// Leaves out runs by this setting, to see how predictions extrapolate.
    pub fn group(mut self, setting: impl Into<String>) -> Self {
        self.group = setting.into();
        self
    }

    /// Replays this stop rule. Its regret is by default the noise of seeds, or 0 if that is not known.
    pub fn stop(mut self, rule: StopRule) -> Self {
        self.stop = Some(rule);
        self
    }

    /// Predicts, compares, and says how well that went. It depends neither on the order in which runs were given nor on
    /// the number of cores.
    #[must_use]
    pub fn report(&self) -> Report {
        let runs = &self.runs;
        let count = |of: fn(&Run) -> bool| runs.iter().filter(|run| of(run)).count();
        let finished = count(|run| run.final_value().is_some());
        let noise = SeedNoise::of(runs);
        let sights: Vec<_> = self.cuts.iter().map(|cut| Sight::of(runs, *cut)).collect();
        let (mut notes, protocols) = (Vec::new(), self.protocols());
        if !protocols.contains(&Protocol::LeaveGroupOut(self.group.clone())) {
            notes.push(format!(
                "`{}` does not differ between runs: none is left out by it",
                self.group
            ));
        }
        if !protocols.contains(&Protocol::Prequential) {
            notes.push("too few runs for the prequential protocol, which takes 16".to_owned());
        }
        let unfinished = runs.iter().filter(|run| run.end == End::Unfinished);
        let past: Vec<&Run> = runs
            .iter()
            .filter(|run| run.end != End::Unfinished)
            .collect();
        let mut predictions = Vec::new();
        for run in unfinished {
            match live::predict_at(&past, run, run.latest_step()) {
                Ok(prediction) => predictions.push(prediction),
                Err(error) => notes.push(error.to_string()),
            }
        }
        let rule = self.stop.unwrap_or(StopRule {
            regret: noise.map_or(0.0, |noise| noise.std),
        });
        let annealing = Annealing::of(runs);
        let test = |protocol| test::run(runs, &annealing, &sights, protocol);
        let table = sights.first().map(|sight| &sight.table);
        Report {
            finished,
            diverged: count(|run| matches!(run.end, End::Diverged { .. })),
            unfinished: count(|run| run.end == End::Unfinished),
            noise,
            settings: table.map_or_else(Vec::new, |table| table.labels.clone()),
            partial_settings: table.map_or_else(Vec::new, |table| table.partial.clone()),
            tests: protocols.into_iter().map(test).collect(),
            predictions,
            stopping: (finished >= ENOUGH).then(|| rule.replay_tidy(runs, &self.cuts)),
            notes,
            runs: runs.iter().map(RunRow::of).collect(),
        }
    }

    /// The test by [`Protocol::LeaveOneOut`] alone, which is quicker.
    #[must_use]
    pub fn leave_one_out(&self) -> Test {
        let sights: Vec<_> = self
            .cuts
            .iter()
            .map(|cut| Sight::of(&self.runs, *cut))
            .collect();
        test::run(
            &self.runs,
            &Annealing::of(&self.runs),
            &sights,
            Protocol::LeaveOneOut,
        )
    }

    /// Those that these runs allow of.
    fn protocols(&self) -> Vec<Protocol> {
        let over = || self.runs.iter().filter(|run| run.end != End::Unfinished);
        let groups = over().map(|run| run.settings.get(&self.group).map(|value| value.to_bits()));
        let has_groups = groups.collect::<std::collections::BTreeSet<_>>().len() > 1;
        let has_order = over().count() >= protocol::FIRST + ENOUGH;
        let group = has_groups.then(|| Protocol::LeaveGroupOut(self.group.clone()));
        let order = has_order.then_some(Protocol::Prequential);
        [Some(Protocol::LeaveOneOut), group, order]
            .into_iter()
            .flatten()
            .collect()
    }
}

impl RunRow {
    fn of(run: &Run) -> Self {
        Self {
            name: run.name.clone(),
            end: run.final_value(),
            diverged: matches!(run.end, End::Diverged { .. }),
        }
    }
}

/// The README's code compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
