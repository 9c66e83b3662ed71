//! How much the seed alone changes.

use super::run::Run;
use serde::Serialize;
use std::collections::BTreeMap;

/// How much runs differ at the end that differ in nothing but `seed`. No prediction can be better.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SeedNoise {
    /// The pooled standard deviation of ends.
    pub std: f64,
    /// Runs that have replicates.
    pub runs: usize,
    /// Configurations that they belong to.
    pub configurations: usize,
}

impl SeedNoise {
    /// `None` without two finished runs of one configuration.
    #[must_use]
    pub fn of(runs: &[Run]) -> Option<Self> {
        let mut groups: BTreeMap<_, Vec<f64>> = BTreeMap::new();
        for run in runs {
            if let Some(end) = run.final_value() {
                groups.entry(run.configuration()).or_default().push(end);
            }
        }
        let groups: Vec<Vec<f64>> = groups.into_values().filter(|ends| ends.len() > 1).collect();
        let runs: usize = groups.iter().map(Vec::len).sum();
        let squares = |ends: &Vec<f64>| {
            let mean = ends.iter().sum::<f64>() / ends.len() as f64;
            ends.iter().map(|end| (end - mean).powi(2)).sum::<f64>()
        };
        let variance = groups.iter().map(squares).sum::<f64>() / (runs - groups.len()) as f64;
        let noise = Self {
            std: variance.sqrt(),
            runs,
            configurations: groups.len(),
        };
        (!groups.is_empty()).then_some(noise)
    }
}
