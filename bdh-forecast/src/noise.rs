//! Seed noise: how much the end changes with the seed alone.

use super::run::Run;
use serde::Serialize;
use std::collections::BTreeMap;

/// Spread of the ends of runs that differ only in `seed`; no prediction can be more accurate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SeedNoise {
    /// Pooled standard deviation of the ends.
    pub std: f64,
    /// Number of runs that have replicates.
    pub runs: usize,
    /// Number of configurations with replicates.
    pub configurations: usize,
}

impl SeedNoise {
    /// Measures the seed noise; `None` unless two finished runs share a configuration.
    #[must_use]
    pub fn of(runs: &[Run]) -> Option<Self> {
        let groups = replicates(runs);
        if groups.is_empty() {
            return None;
        }
        let (mut count, mut squares) = (0, 0.0);
        for ends in &groups {
            count += ends.len();
            squares += squared_deviations(ends);
        }
        // Each group's mean costs one degree of freedom.
        let variance = squares / (count - groups.len()) as f64;
        Some(Self {
            std: variance.sqrt(),
            runs: count,
            configurations: groups.len(),
        })
    }
}

/// Returns the ends of the runs of each configuration with two or more finished runs.
fn replicates(runs: &[Run]) -> Vec<Vec<f64>> {
    let mut groups: BTreeMap<_, Vec<f64>> = BTreeMap::new();
    for run in runs {
        if let Some(end) = run.final_value() {
            groups.entry(run.configuration()).or_default().push(end);
        }
    }
    groups.retain(|_, ends| ends.len() > 1);
    groups.into_values().collect()
}

/// Sums the squared deviations from the mean.
fn squared_deviations(ends: &[f64]) -> f64 {
    let mean = ends.iter().sum::<f64>() / ends.len() as f64;
    ends.iter().map(|end| (end - mean).powi(2)).sum()
}
