//! How much a figure owes to which runs there happen to be.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

/// The range that holds a figure in 95 % of the samples which one may draw from the same runs, with replacement.
///
/// Source: B. Efron, "Bootstrap methods: another look at the jackknife", 1979.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Between {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// Samples that are drawn.
const SAMPLES: usize = 1_000;

impl Between {
    /// Of the figures of all samples; `None` without any.
    pub(super) fn of(mut figures: Vec<f64>) -> Option<Self> {
        figures.sort_by(f64::total_cmp);
        let at = |share: f64| {
            figures
                .get((share * figures.len() as f64) as usize)
                .copied()
        };
        Some(Self {
            low: at(0.025)?,
            high: at(0.975)?,
        })
    }
}

/// How many times each of `n` runs is in each sample. They are always the same, so that figures of two predictors can
/// be compared sample by sample.
pub(super) fn resamples(n: usize) -> Vec<Vec<u32>> {
    let mut rng = ChaCha8Rng::seed_from_u64(n as u64);
    let sample = |_| {
        let mut times = vec![0; n];
        (0..n).for_each(|_| times[rng.random_range(0..n)] += 1);
        times
    };
    (0..SAMPLES).map(sample).collect()
}
