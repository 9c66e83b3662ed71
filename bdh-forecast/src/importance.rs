//! Which settings matter.

use super::annealing::Annealing;
use super::bootstrap::{Between, resamples};
use super::protocol::one_out;
use super::run::{SEED, tidy_all};
use super::table::Row;
use super::test::Sight;
use super::{Cut, ENOUGH, ForecastError, Predictor, Run};
use rand::SeedableRng;
use rand::seq::index::sample;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use std::collections::BTreeSet;

/// By how much the end of a run is foretold worse without knowing a setting.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Importance {
    /// The setting.
    pub name: String,
    /// The mean absolute error without it less that with it, in units of the metric.
    pub value: f64,
    /// The range of that in 95 % of the samples of the same runs. One that holds 0 says nothing.
    pub between: Between,
}

/// Runs that are foretold, at most. Each takes a fit to all others, so that to foretell all of many runs would cost as the
/// square of their number; the range tells what the draw makes uncertain.
const FORETOLD: usize = 256;

impl Importance {
    /// Of each setting in which runs differ, the most important first: each run's end is predicted from the others'
    /// settings, by ridge regression, once with the setting and once without. Empty below eight finished runs; of more than
    /// 256, as many are drawn to be predicted, always the same, each from all others.
    ///
    /// Of two settings that always go together each seems unimportant, because the other tells the same. Source: J. Lei
    /// et al., "Distribution-free predictive inference for regression", 2018 (leave one covariate out).
    ///
    /// # Errors
    ///
    /// [`ForecastError::SameName`], [`ForecastError::NoHorizon`].
    pub fn of(runs: &[Run]) -> Result<Vec<Self>, ForecastError> {
        let runs = tidy_all(runs.to_vec())?;
        let names: BTreeSet<_> = runs.iter().flat_map(|run| run.settings.keys()).collect();
        let Some(with) = errors(&runs, &runs) else {
            return Ok(Vec::new());
        };
        let mut all = Vec::new();
        for name in names.into_iter().filter(|name| *name != SEED) {
            let mut without = runs.clone();
            for run in &mut without {
                run.settings.remove(name);
            }
            let Some(without) = errors(&without, &runs) else {
                continue;
            };
            let gains: Vec<f64> = without.iter().zip(&with).map(|(a, b)| a - b).collect();
            let mean = |times: &[u32]| {
                let sum: f64 = gains
                    .iter()
                    .zip(times)
                    .map(|(gain, n)| gain * f64::from(*n))
                    .sum();
                sum / gains.len() as f64
            };
            let samples = resamples(gains.len())
                .iter()
                .map(|times| mean(times))
                .collect();
            let value = mean(&vec![1; gains.len()]);
            let Some(between) = Between::of(samples) else {
                continue;
            };
            if gains.iter().any(|gain| *gain != 0.0) {
                all.push(Self {
                    name: name.clone(),
                    value,
                    between,
                });
            }
        }
        all.sort_by(|a, b| b.value.total_cmp(&a.value));
        Ok(all)
    }
}

/// How far each finished run's end was from what the others' settings say of it; `None` if they say nothing, or of too few.
/// `known` are the runs with the settings that are known of them, in the same order.
fn errors(known: &[Run], runs: &[Run]) -> Option<Vec<f64>> {
    // Settings are the same at every cut; at this one most runs have been evaluated.
    let sight = Sight::of(known, Cut::Fraction(0.5));
    let rows = &sight.table.rows;
    let knows_any = sight.table.settings > 0;
    let predictor = if knows_any {
        Predictor::Settings
    } else {
        Predictor::Mean
    };
    let mut errors = Vec::new();
    // Which runs are replicates does not depend on what is known of them.
    for fold in one_out(runs, &sight.table, foretold(runs, rows)) {
        let said = predictor.say(&sight.table, &Annealing::of(&[]), &fold);
        for (target, saying) in fold.targets.iter().zip(said) {
            let end = runs[rows[*target].run].final_value()?;
            errors.push((end - saying.ok()?.value).abs());
        }
    }
    (errors.len() >= ENOUGH).then_some(errors)
}

/// The rows of runs that ended with a value, or so many of them.
fn foretold(runs: &[Run], rows: &[Row<'_>]) -> Vec<usize> {
    let ended: Vec<usize> = (0..rows.len())
        .filter(|row| runs[rows[*row].run].final_value().is_some())
        .collect();
    let mut rng = ChaCha8Rng::seed_from_u64(ended.len() as u64);
    let mut drawn = sample(&mut rng, ended.len(), ended.len().min(FORETOLD)).into_vec();
    drawn.sort_unstable();
    drawn.into_iter().map(|place| ended[place]).collect()
}
