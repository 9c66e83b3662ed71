//! Features made of the settings.

use super::early::Early;
use std::collections::BTreeSet;

/// A setting as a number to learn from.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SettingFeature {
    name: String,
    is_log: bool,
    /// If set, the feature is the squared distance from this value.
    square_around: Option<f64>,
}

/// Ratio of largest to smallest value from which the feature is the logarithm of the setting.
///
/// From this ratio on, what counts is the factor between two values. Below, a logarithm is nearly a line, and the plain
/// number reads better.
const LOG_FROM: f64 = 3.0;

/// Number of distinct values from which the square is a feature, too.
///
/// A setting drawn at random, such as a learning rate, has that many, and its best value may lie in between. A parabola
/// through fewer values would just interpolate.
const SQUARE_FROM: usize = 6;

/// Returns features of the settings that all runs have and that differ, and the names of settings that only some have.
///
/// Settings are known before a run begins, so those of runs yet to be predicted may be used.
pub(super) fn features(runs: &[Early<'_>]) -> (Vec<SettingFeature>, Vec<String>) {
    let (mut features, mut partial) = (Vec::new(), Vec::new());
    for name in all_names(runs) {
        let values: Option<Vec<f64>> = runs.iter().map(|run| run.setting(name)).collect();
        match values {
            Some(values) => features.extend(features_of(name, &values)),
            None => partial.push(name.to_owned()),
        }
    }
    // One setting may have two names: equal columns teach nothing twice.
    let mut seen = BTreeSet::new();
    features.retain(|feature| seen.insert(feature.column(runs)));
    (features, partial)
}

/// Returns the names of the settings that any run has.
fn all_names<'a>(runs: &[Early<'a>]) -> BTreeSet<&'a str> {
    let mut names = BTreeSet::new();
    for run in runs {
        names.extend(run.settings());
    }
    names
}

/// Returns the features of one setting; none if all values are equal.
fn features_of(name: &str, values: &[f64]) -> Vec<SettingFeature> {
    let (low, high) = range(values);
    if low == high {
        return Vec::new();
    }
    let is_log = low > 0.0 && high / low >= LOG_FROM;
    let plain = SettingFeature {
        name: name.to_owned(),
        is_log,
        square_around: None,
    };
    let distinct: BTreeSet<u64> = values.iter().map(|value| value.to_bits()).collect();
    if distinct.len() < SQUARE_FROM {
        return vec![plain];
    }
    let square = plain.squared(low, high);
    vec![plain, square]
}

/// Returns the least and the greatest value.
fn range(values: &[f64]) -> (f64, f64) {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    (low, high)
}

impl SettingFeature {
    /// Returns the squared distance from the middle of the range.
    fn squared(&self, low: f64, high: f64) -> Self {
        let middle = if self.is_log {
            f64::midpoint(low.ln(), high.ln())
        } else {
            f64::midpoint(low, high)
        };
        Self {
            square_around: Some(middle),
            ..self.clone()
        }
    }

    /// Returns the feature of a run that has the setting.
    pub(super) fn value(&self, run: Early<'_>) -> f64 {
        let setting = run.setting(&self.name).unwrap_or(f64::NAN);
        let value = if self.is_log { setting.ln() } else { setting };
        match self.square_around {
            Some(middle) => (value - middle).powi(2),
            None => value,
        }
    }

    /// Returns the bits of the feature of each run.
    fn column(&self, runs: &[Early<'_>]) -> Vec<u64> {
        runs.iter().map(|run| self.value(*run).to_bits()).collect()
    }

    /// Returns the feature's name, such as `depth`, `log lr` or `(log lr)²`.
    pub(super) fn label(&self) -> String {
        let name = &self.name;
        match (self.is_log, self.square_around.is_some()) {
            (false, false) => name.clone(),
            (true, false) => format!("log {name}"),
            (false, true) => format!("{name}²"),
            (true, true) => format!("(log {name})²"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::run::Run;
    use super::*;

    fn labels(runs: &[Run]) -> (Vec<String>, Vec<String>) {
        let early: Vec<_> = runs.iter().map(|run| Early::new(run, 1)).collect();
        let (features, partial) = features(&early);
        (
            features.iter().map(SettingFeature::label).collect(),
            partial,
        )
    }

    #[test]
    fn range_and_distinct_values_decide_the_features() {
        let mut runs: Vec<Run> = (0..8)
            .map(|i| Run {
                horizon: 9,
                ..named(i)
            })
            .collect();
        let all = labels(&runs).0;
        assert_eq!(
            all,
            [
                "depth",
                "log lr",
                "(log lr)²",
                "shift",
                "shift²",
                "log width"
            ]
        );
        runs[3].settings.remove("width");
        runs[4].horizon = 10;
        let (rest, partial) = labels(&runs);
        assert_eq!(
            rest,
            ["depth", "horizon", "log lr", "(log lr)²", "shift", "shift²"]
        );
        assert_eq!(partial, ["width"]);
    }

    fn named(i: i32) -> Run {
        let x = f64::from(i);
        let settings = [
            ("seed", x),
            ("same", 7.0),
            ("depth", [8.0, 12.0, 16.0][i as usize % 3]),
            ("width", [256.0, 768.0][i as usize % 2]),
            ("shift", x - 3.0),
            ("lr", 1e-4 * 2_f64.powi(i)),
            ("twice_the_depth", [8.0, 12.0, 16.0][i as usize % 3]),
        ];
        Run {
            settings: settings.map(|(name, x)| (name.to_owned(), x)).into(),
            ..Run::default()
        }
    }
}
