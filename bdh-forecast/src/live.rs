//! Where a run will end that goes on.

use super::ENOUGH;
use super::annealing::Annealing;
use super::early::{Cut, Early};
use super::predictor::{Fold, Predictor};
use super::protocol::with_ends;
use super::report::Prediction;
use super::run::{End, ForecastError, Run, tidy_all};
use super::table::Table;

/// Who speaks first when enough others have finished, and who otherwise.
///
/// The order is fixed, and not that of errors on these runs: choosing would make intervals too narrow, and among few
/// runs it would be chance. It is the order of errors in the study of `docs/forecasting.md`, each run foretold from those
/// before it.
const WITH_ENOUGH: [Predictor; 7] = [
    Predictor::Process,
    Predictor::CurveSettings,
    Predictor::Curve,
    Predictor::SettingsProcess,
    Predictor::Settings,
    Predictor::Affine,
    Predictor::LastValue,
];
const WITH_FEW: [Predictor; 2] = [Predictor::Affine, Predictor::LastValue];

/// Runs that have ended, to predict others from.
///
/// # Examples
///
/// ```
/// use bdh_forecast::{End, Past, Run};
///
/// let run = |name: &str, end| Run {
///     name: name.into(),
///     horizon: 100,
///     metric: vec![(50, end + 1.0)],
///     end: End::Finished(end),
///     ..Run::default()
/// };
/// let past = Past::new(vec![run("a", 2.0), run("b", 3.0), run("c", 4.0)])?;
/// let now = Run { horizon: 100, metric: vec![(50, 3.5)], ..Run::default() };
/// assert_eq!(past.predict(&now)?.value, 2.5);
/// # Ok::<(), bdh_forecast::ForecastError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Past {
    runs: Vec<Run>,
}

impl Past {
    /// Of all runs that there are; those that have not ended are left out.
    ///
    /// # Errors
    ///
    /// [`ForecastError::SameName`], [`ForecastError::NoHorizon`].
    pub fn new(mut runs: Vec<Run>) -> Result<Self, ForecastError> {
        runs.retain(|run| run.end != End::Unfinished);
        Ok(Self {
            runs: tidy_all(runs)?,
        })
    }

    /// The best end of a finished run.
    #[must_use]
    pub fn best(&self) -> Option<f64> {
        self.runs
            .iter()
            .filter_map(Run::final_value)
            .min_by(f64::total_cmp)
    }

    /// Says where a run will end, from what is recorded of it up to now. How it did end, if it has, is not looked at.
    ///
    /// The others are compared at the same share of their steps. With eight that finished or more, it is a Gaussian
    /// process over curve and settings, with an interval; with fewer, a line on the last value or that value itself,
    /// without one. The two baselines stand beside it.
    ///
    /// # Errors
    ///
    /// [`ForecastError::NothingKnown`] if the run has not been evaluated yet and the others are too few for its settings
    /// to say anything; [`ForecastError::NoHorizon`].
    pub fn predict(&self, run: &Run) -> Result<Prediction, ForecastError> {
        let run = run.clone().tidy()?;
        predict_at(
            &self.runs.iter().collect::<Vec<_>>(),
            &run,
            run.latest_step(),
        )
    }
}

/// The same for a step of the run; all runs are tidy, and the others have ended.
pub(super) fn predict_at(past: &[&Run], run: &Run, step: u64) -> Result<Prediction, ForecastError> {
    let target = Early::new(run, step);
    let is_seen = !target.metric().is_empty();
    let cut = Cut::Fraction(step as f64 / run.horizon as f64);
    // No cut are step 0 and the horizon.
    let end = |other: &Run| if step == 0 { 0 } else { other.horizon };
    let at = |other: &Run| cut.step(other.horizon).unwrap_or_else(|| end(other));
    let known: Vec<(usize, Early<'_>)> = (past.iter().enumerate())
        .map(|(index, other)| (index, Early::new(other, at(other))))
        .filter(|(_, other)| !other.has_diverged() && (!is_seen || !other.metric().is_empty()))
        .collect();
    let rows: Vec<_> = known
        .iter()
        .copied()
        .chain([(past.len(), target)])
        .collect();
    let table = Table::new(&rows);
    let train = with_ends(known.iter().map(|(index, _)| past[*index]).enumerate());
    let finished = known
        .iter()
        .filter(|(index, _)| past[*index].final_value().is_some())
        .count();
    let fold = Fold {
        train,
        targets: vec![known.len()],
    };
    let has_enough = finished >= ENOUGH;
    let speakers = if has_enough {
        &WITH_ENOUGH[..]
    } else {
        &WITH_FEW[..]
    };
    let none = Annealing::of(&[]);
    let says = |predictor: &Predictor| {
        let saying = predictor.say(&table, &none, &fold).pop()?.ok()?;
        saying.value.is_finite().then_some((*predictor, saying))
    };
    let said = speakers.iter().find_map(says);
    let settings_only = [Predictor::SettingsProcess, Predictor::Settings]
        .iter()
        .find_map(says);
    let (predictor, saying) = said.ok_or_else(|| ForecastError::NothingKnown {
        run: run.name.clone(),
        step,
        past: past.len(),
    })?;
    Ok(Prediction {
        run: run.name.clone(),
        step,
        horizon: run.horizon,
        value: saying.value,
        interval: saying.interval.filter(|_| has_enough),
        last: target.metric().last().map(|(_, value)| *value),
        settings_only: settings_only
            .filter(|_| has_enough)
            .map(|(_, saying)| saying.value),
        predictor,
        others: fold.train.len(),
    })
}
