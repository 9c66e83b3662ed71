//! The bootstrap: how much a figure depends on which runs there happen to be.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

/// A 95 % bootstrap interval: the range of a figure over samples of the same runs, drawn with replacement.
///
/// Source: B. Efron, "Bootstrap methods: another look at the jackknife", 1979.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct BootstrapInterval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Number of bootstrap samples.
const SAMPLES: usize = 1_000;

impl BootstrapInterval {
    /// Returns the interval of the figures of all samples; `None` without any figure.
    pub(super) fn of(mut figures: Vec<f64>) -> Option<Self> {
        figures.sort_by(f64::total_cmp);
        let count = figures.len() as f64;
        Some(Self {
            low: *figures.get((0.025 * count) as usize)?,
            high: *figures.get((0.975 * count) as usize)?,
        })
    }
}

/// Draws the bootstrap samples of `n` runs: how often each run occurs in each sample.
///
/// Samples depend on `n` alone, so figures of two predictors can be compared sample by sample.
pub(super) fn resamples(n: usize) -> Vec<Vec<u32>> {
    let mut rng = ChaCha8Rng::seed_from_u64(n as u64);
    let mut samples = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        let mut times = vec![0; n];
        for _ in 0..n {
            times[rng.random_range(0..n)] += 1;
        }
        samples.push(times);
    }
    samples
}
