//! What all predictors may look at: one row a run, at one cut.

use super::curve;
use super::early::Early;
use super::power::{self, Extrapolated};
use super::settings;
use super::silence::Silence;
use std::sync::OnceLock;

/// Rows of features, whose columns are: the curve's, the settings', the norms'.
///
/// A column that some row lacks is left out for all, so that no value is made up.
#[derive(Debug)]
pub(super) struct Table<'a> {
    pub(super) rows: Vec<Row<'a>>,
    pub(super) curve: usize,
    pub(super) settings: usize,
    pub(super) norms: usize,
    /// Which settings are features, and how; those that only some runs have.
    pub(super) labels: Vec<String>,
    pub(super) partial: Vec<String>,
}

/// What one run shows up to the cut.
#[derive(Debug)]
pub(super) struct Row<'a> {
    /// Its number among all runs.
    pub(super) run: usize,
    pub(super) early: Early<'a>,
    /// Curve, then settings, then norms.
    pub(super) features: Vec<f64>,
    pub(super) last: Result<f64, Silence>,
    // Each is asked for once a fold, or never.
    closed_form: OnceLock<Result<Extrapolated, Silence>>,
    robust: OnceLock<Result<f64, Silence>>,
}

impl Row<'_> {
    pub(super) fn closed_form(&self) -> Result<Extrapolated, Silence> {
        let fit = || power::closed_form(self.early.metric(), self.early.horizon());
        *self.closed_form.get_or_init(fit)
    }

    pub(super) fn robust(&self) -> Result<f64, Silence> {
        *self
            .robust
            .get_or_init(|| power::robust(self.early.metric(), self.early.horizon()))
    }
}

impl<'a> Table<'a> {
    /// Of runs by their number, each with what is seen of it.
    pub(super) fn new(runs: &[(usize, Early<'a>)]) -> Self {
        let early: Vec<Early<'a>> = runs.iter().map(|(_, early)| *early).collect();
        let (of_settings, partial) = settings::features(&early);
        let curves = complete(
            &early
                .iter()
                .map(|run| curve::features(*run).to_vec())
                .collect::<Vec<_>>(),
        );
        let names: Vec<&str> = early
            .first()
            .map_or_else(Vec::new, |run| run.norms().collect());
        let norms = |run: &Early<'a>| {
            names
                .iter()
                .flat_map(|name| curve::norm_features(*run, name))
                .collect()
        };
        let norms = complete(&early.iter().map(norms).collect::<Vec<_>>());
        let row = |(index, (run, early)): (usize, &(usize, Early<'a>))| {
            let settings = of_settings.iter().map(|feature| feature.value(*early));
            let features = curves[index].iter().copied().chain(settings);
            Row {
                run: *run,
                early: *early,
                features: features.chain(norms[index].iter().copied()).collect(),
                last: early
                    .metric()
                    .last()
                    .map(|(_, value)| *value)
                    .ok_or(Silence::NoEvaluation),
                closed_form: OnceLock::new(),
                robust: OnceLock::new(),
            }
        };
        Self {
            rows: runs.iter().enumerate().map(row).collect(),
            curve: curves.first().map_or(0, Vec::len),
            settings: of_settings.len(),
            norms: norms.first().map_or(0, Vec::len),
            labels: of_settings
                .iter()
                .map(settings::SettingFeature::label)
                .collect(),
            partial,
        }
    }
}

/// The columns that every row has.
fn complete(rows: &[Vec<Option<f64>>]) -> Vec<Vec<f64>> {
    let columns = rows.first().map_or(0, Vec::len);
    let kept: Vec<usize> = (0..columns)
        .filter(|column| rows.iter().all(|row| row[*column].is_some()))
        .collect();
    rows.iter()
        .map(|row| kept.iter().filter_map(|column| row[*column]).collect())
        .collect()
}
