//! Bayesian optimization: trials where an improvement is expected.

use bdh_forecast::cholesky::{backward, cholesky, forward};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use statrs::distribution::{Continuous, ContinuousCDF, Normal};

/// Bayesian optimization in the unit cube: a Gaussian process over the finished trials, and the expected improvement on
/// the best of them.
///
/// The kernel is Matérn with ν = 3/2 and one length scale, which is chosen, with the share of noise, by the marginal
/// likelihood. Values are normalized. A running trial counts as an average one, so that concurrent trials keep apart.
/// Source: C. Rasmussen and C. Williams, "Gaussian Processes for Machine Learning", 2006, algorithm 2.1; D. Jones et
/// al., "Efficient Global Optimization", 1998.
#[derive(Debug, Clone, Default)]
pub struct Bayes {
    points: Vec<Vec<f64>>,
    /// Values to minimize; `None` while a trial runs.
    values: Vec<Option<f64>>,
}

/// Number of trials that are drawn at random before the first guess.
const FIRST: usize = 2;

/// Largest number of trials to learn from, the newest ones: the cost grows with the cube of their number.
const MOST: usize = 100;

/// Number of random points to compare.
const CANDIDATES: usize = 1_000;

/// Length scales to try, in a cube of side 1.
const LENGTHS: [f64; 9] = [0.05, 0.1, 0.2, 0.35, 0.5, 0.8, 1.2, 2.0, 4.0];

/// Shares of noise in the variance to try.
const NOISES: [f64; 3] = [1e-7, 1e-3, 3e-2];

impl Bayes {
    /// Adds a finished trial with its value, where lower is better: negate a metric to maximize.
    ///
    /// A trial that failed or diverged has a value that is not finite, and counts as the worst.
    pub fn done(&mut self, point: Vec<f64>, value: f64) {
        self.points.push(point);
        self.values.push(Some(value));
    }

    /// Adds a running trial.
    pub fn running(&mut self, point: Vec<f64>) {
        self.points.push(point);
        self.values.push(None);
    }

    /// Returns the point of trial `index`, from 0, of the sweep with this seed, in a cube with this number of
    /// dimensions.
    #[must_use]
    pub fn next(&self, dimensions: usize, seed: u64, index: u64) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(index);
        let first = random_point(&mut rng, dimensions);
        let Some(process) = self.process() else {
            return first;
        };
        best_candidate(&process, &mut rng, dimensions).unwrap_or(first)
    }

    /// Returns the likeliest process; `None` with too few finite values, or if no process fits.
    fn process(&self) -> Option<Process<'_>> {
        let from = self.points.len().saturating_sub(MOST);
        let (points, values) = (&self.points[from..], &self.values[from..]);
        let finite = values.iter().flatten().filter(|x| x.is_finite());
        if finite.count() < FIRST {
            return None;
        }
        Process::likeliest(points, &normalized(values))
    }
}

/// Returns the random point with the largest expected improvement; of equal ones the last.
fn best_candidate(
    process: &Process<'_>,
    rng: &mut ChaCha8Rng,
    dimensions: usize,
) -> Option<Vec<f64>> {
    let mut best = None;
    let mut most = f64::NEG_INFINITY;
    for _ in 0..CANDIDATES {
        let point = random_point(rng, dimensions);
        let gain = process.expected_improvement(&point);
        if best.is_none() || gain.total_cmp(&most).is_ge() {
            (best, most) = (Some(point), gain);
        }
    }
    best
}

fn random_point(rng: &mut ChaCha8Rng, dimensions: usize) -> Vec<f64> {
    (0..dimensions).map(|_| rng.random()).collect()
}

/// Scales values to mean 0 and variance 1; failed trials get the worst value, running ones the mean.
fn normalized(values: &[Option<f64>]) -> Vec<f64> {
    let mut done: Vec<f64> = values.iter().flatten().copied().collect();
    replace_failures(&mut done);
    let (mean, std) = mean_and_std(&done);
    let mut scaled = done.into_iter().map(|x| (x - mean) / std);
    let mut normalized = Vec::with_capacity(values.len());
    for value in values {
        let done = value.and_then(|_| scaled.next());
        normalized.push(done.unwrap_or(0.0));
    }
    normalized
}

/// Returns the mean and the standard deviation of some values; a deviation of 0 becomes 1.
fn mean_and_std(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
    let std = if variance > 0.0 { variance.sqrt() } else { 1.0 };
    (mean, std)
}

/// Replaces values that are not finite by the worst finite one.
fn replace_failures(values: &mut [f64]) {
    let finite = values.iter().copied().filter(|x| x.is_finite());
    let worst = finite.fold(f64::NEG_INFINITY, f64::max);
    for value in values {
        if !value.is_finite() {
            *value = worst;
        }
    }
}

/// A Gaussian process conditioned on some points.
struct Process<'a> {
    points: &'a [Vec<f64>],
    length: f64,
    /// Cholesky factor of the kernel matrix, row by row up to the diagonal.
    factor: Vec<Vec<f64>>,
    /// Inverse of the kernel matrix times the values.
    weights: Vec<f64>,
    best: f64,
    likelihood: f64,
}

impl<'a> Process<'a> {
    /// Fits a process for each length and noise and returns the likeliest; of equal ones the last.
    fn likeliest(points: &'a [Vec<f64>], values: &[f64]) -> Option<Self> {
        let mut best: Option<Self> = None;
        for length in LENGTHS {
            for noise in NOISES {
                let Some(process) = Self::fit(points, values, length, noise) else {
                    continue;
                };
                match &best {
                    Some(best) if process.likelihood.total_cmp(&best.likelihood).is_lt() => {}
                    _ => best = Some(process),
                }
            }
        }
        best
    }

    /// Fits a process; `None` if the kernel matrix has no factor in 64-bit floats.
    fn fit(points: &'a [Vec<f64>], values: &[f64], length: f64, noise: f64) -> Option<Self> {
        let factor = cholesky(points.len(), |i, j| {
            matern(&points[i], &points[j], length) + if i == j { noise } else { 0.0 }
        })?;
        let half = forward(&factor, values);
        let log_det: f64 = factor.iter().enumerate().map(|(i, row)| row[i].ln()).sum();
        let fit: f64 = half.iter().map(|x| x * x).sum();
        let weights = backward(&factor, half);
        let best = values.iter().copied().fold(f64::INFINITY, f64::min);
        Some(Self {
            points,
            length,
            factor,
            weights,
            best,
            likelihood: -0.5 * fit - log_det,
        })
    }

    /// Returns the covariances of a point with the known points.
    fn kernel(&self, point: &[f64]) -> Vec<f64> {
        let mut kernel = Vec::with_capacity(self.points.len());
        for known in self.points {
            kernel.push(matern(known, point, self.length));
        }
        kernel
    }

    /// Returns the expected improvement on the best value, in standard deviations of the values.
    fn expected_improvement(&self, point: &[f64]) -> f64 {
        let kernel = self.kernel(point);
        let mean: f64 = kernel.iter().zip(&self.weights).map(|(k, w)| k * w).sum();
        let half = forward(&self.factor, &kernel);
        let explained: f64 = half.iter().map(|x| x * x).sum();
        let std = (1.0 - explained).max(1e-12).sqrt();
        let (gain, normal) = (self.best - mean, Normal::standard());
        gain * normal.cdf(gain / std) + std * normal.pdf(gain / std)
    }
}

/// The Matérn kernel with ν = 3/2.
fn matern(a: &[f64], b: &[f64], length: f64) -> f64 {
    let squared: f64 = a.iter().zip(b).map(|(x, y)| (x - y).powi(2)).sum();
    let r = (3.0 * squared).sqrt() / length;
    (1.0 + r) * (-r).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the best of 25 trials on a bowl with its bottom at (0.3, 0.7).
    fn best_of_25(seed: u64, guided: bool) -> f64 {
        let mut search = Bayes::default();
        let mut best = f64::INFINITY;
        for index in 0..25 {
            let known = if guided {
                search.clone()
            } else {
                Bayes::default()
            };
            let point = known.next(2, seed, index);
            let value = (point[0] - 0.3).powi(2) + 2.0 * (point[1] - 0.7).powi(2);
            best = best.min(value);
            search.done(point, value);
        }
        best
    }

    #[test]
    fn bayes_beats_random_search_on_a_bowl() {
        let wins = (0..20)
            .filter(|seed| best_of_25(*seed, true) < best_of_25(*seed, false))
            .count();
        assert!(wins >= 18, "{wins} of 20");
        let mut guided: Vec<_> = (0..20).map(|seed| best_of_25(seed, true)).collect();
        guided.sort_by(f64::total_cmp);
        assert!(guided[10] < 0.001, "{guided:?}");
    }

    #[test]
    fn failed_and_running_trials_are_handled() {
        let mut search = Bayes::default();
        search.done(vec![0.1, 0.1], f64::NAN);
        search.done(vec![0.2, 0.1], 1.0);
        search.running(vec![0.2, 0.1]); // the same point twice
        search.done(vec![0.9, 0.9], f64::INFINITY);
        assert_eq!(
            search.next(2, 1, 4),
            Bayes::default().next(2, 1, 4),
            "one value is too few"
        );
        search.done(vec![0.5, 0.5], 0.5);
        let next = search.next(2, 1, 5);
        assert!(next.iter().all(|x| (0.0..1.0).contains(x)), "{next:?}");
        assert_ne!(next, Bayes::default().next(2, 1, 5));
    }
}
