//! Which settings become features, and how.

use super::early::Early;
use std::collections::BTreeSet;

/// A setting as a number to learn from.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SettingFeature {
    name: String,
    is_log: bool,
    /// The square of the distance from here.
    square_around: Option<f64>,
}

/// From this ratio of largest to smallest value on, what counts is the factor between two values, and the feature is
/// their logarithm. Below, a logarithm is nearly a line, and the plain number reads better.
const LOG_FROM: f64 = 3.0;

/// With so many distinct values or more, as a learning rate has that was drawn at random, there may be a best one in
/// between: the square is a feature too. Through fewer, a parabola would just pass.
const SQUARE_FROM: usize = 6;

/// Features of all settings that differ between the runs and that every run has; the settings only some have.
///
/// Settings are known before a run begins, so those of runs yet to be predicted may be looked at.
pub(super) fn features(runs: &[Early<'_>]) -> (Vec<SettingFeature>, Vec<String>) {
    let names: BTreeSet<&str> = runs.iter().flat_map(|run| run.settings()).collect();
    let (mut features, mut partial) = (Vec::new(), Vec::new());
    for name in names {
        let values: Option<Vec<f64>> = runs.iter().map(|run| run.setting(name)).collect();
        match values {
            Some(values) => features.extend(of_values(name, &values)),
            None => partial.push(name.to_owned()),
        }
    }
    let mut seen = BTreeSet::new();
    // A setting may be there under two names: the same numbers teach nothing twice.
    features.retain(|feature| {
        let column: Vec<u64> = runs
            .iter()
            .map(|run| feature.value(*run).to_bits())
            .collect();
        seen.insert(column)
    });
    (features, partial)
}

fn of_values(name: &str, values: &[f64]) -> Vec<SettingFeature> {
    let (low, high) = values
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| {
            (low.min(*x), high.max(*x))
        });
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
    let middle = if is_log {
        f64::midpoint(low.ln(), high.ln())
    } else {
        f64::midpoint(low, high)
    };
    let square = SettingFeature {
        square_around: Some(middle),
        ..plain.clone()
    };
    let has_square = distinct.len() >= SQUARE_FROM;
    [plain]
        .into_iter()
        .chain(has_square.then_some(square))
        .collect()
}

impl SettingFeature {
    /// Of a run that has the setting.
    pub(super) fn value(&self, run: Early<'_>) -> f64 {
        let value = run.setting(&self.name).unwrap_or(f64::NAN);
        let value = if self.is_log { value.ln() } else { value };
        self.square_around
            .map_or(value, |middle| (value - middle).powi(2))
    }

    /// Such as `depth`, `log lr` and `(log lr)²`.
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
    fn what_differs_becomes_a_feature_by_its_range_and_its_distinct_values() {
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
