//! Trials where an improvement is to be expected.

use bdh_forecast::cholesky::{backward, cholesky, forward};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use statrs::distribution::{Continuous, ContinuousCDF, Normal};

/// Bayesian optimization in the unit cube: a Gaussian process over the trials that are done, and the expected
/// improvement on the best of them.
///
/// The kernel is Matérn with ν = 3/2 and one length scale, which is chosen, with the share of noise, by the marginal
/// likelihood. Values are normalized. A trial that runs counts as an average one, so that trials that run at once keep
/// apart. Source: C. Rasmussen and C. Williams, "Gaussian Processes for Machine Learning", 2006, algorithm 2.1; D. Jones
/// et al., "Efficient Global Optimization", 1998.
#[derive(Debug, Clone, Default)]
pub struct Bayes {
    points: Vec<Vec<f64>>,
    /// Less is better; `None` while a trial runs.
    values: Vec<Option<f64>>,
}

/// Trials that are drawn at random before the first guess.
const FIRST: usize = 2;

/// Trials that are looked at, the newest: the cost grows with the cube of their number.
const MOST: usize = 100;

/// Points at random, of which the best is taken.
const CANDIDATES: usize = 1_000;

/// Length scales, in a cube of side 1, of which the likeliest is taken.
const LENGTHS: [f64; 9] = [0.05, 0.1, 0.2, 0.35, 0.5, 0.8, 1.2, 2.0, 4.0];

/// Shares of the variance that may be noise.
const NOISES: [f64; 3] = [1e-7, 1e-3, 3e-2];

impl Bayes {
    /// Adds a trial that is done, with its value, of which less is better: negate what is to be maximized. One that
    /// failed or diverged, whose value is not finite, counts as the worst.
    pub fn done(&mut self, point: Vec<f64>, value: f64) {
        self.points.push(point);
        self.values.push(Some(value));
    }

    /// Adds a trial that runs.
    pub fn running(&mut self, point: Vec<f64>) {
        self.points.push(point);
        self.values.push(None);
    }

    /// The point of trial `index`, from 0, of the sweep with this seed, in a cube of so many dimensions.
    #[must_use]
    pub fn next(&self, dimensions: usize, seed: u64, index: u64) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(index);
        let mut random = || (0..dimensions).map(|_| rng.random()).collect::<Vec<f64>>();
        let first = random();
        let recent = &self.values[self.window()..];
        let finite = recent
            .iter()
            .flatten()
            .filter(|value| value.is_finite())
            .count();
        let Some(process) = (finite >= FIRST).then(|| self.process()).flatten() else {
            return first;
        };
        let candidates = std::iter::repeat_with(random).take(CANDIDATES);
        let rated = candidates.map(|point| (process.expected_improvement(&point), point));
        rated
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map_or(first, |(_, point)| point)
    }

    /// Where the trials that are looked at begin.
    fn window(&self) -> usize {
        self.points.len().saturating_sub(MOST)
    }

    /// The likeliest process; `None` if the trials allow of none.
    fn process(&self) -> Option<Process<'_>> {
        let from = self.window();
        let (points, values) = (&self.points[from..], normalized(&self.values[from..]));
        let settings = LENGTHS
            .iter()
            .flat_map(|length| NOISES.map(|noise| (*length, noise)));
        let processes =
            settings.filter_map(|(length, noise)| Process::fit(points, &values, length, noise));
        processes.max_by(|a, b| a.likelihood.total_cmp(&b.likelihood))
    }
}

/// Mean 0 and variance 1; failures are the worst, running trials the mean.
fn normalized(values: &[Option<f64>]) -> Vec<f64> {
    let finite: Vec<f64> = values
        .iter()
        .flatten()
        .copied()
        .filter(|x| x.is_finite())
        .collect();
    let worst = finite.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let done: Vec<f64> = values
        .iter()
        .flatten()
        .map(|x| if x.is_finite() { *x } else { worst })
        .collect();
    let mean = done.iter().sum::<f64>() / done.len() as f64;
    let variance = done.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / done.len() as f64;
    let std = if variance > 0.0 { variance.sqrt() } else { 1.0 };
    let value = |value: &Option<f64>| match value {
        Some(x) if x.is_finite() => (x - mean) / std,
        Some(_) => (worst - mean) / std,
        None => 0.0,
    };
    values.iter().map(value).collect()
}

/// A Gaussian process that knows some points.
struct Process<'a> {
    points: &'a [Vec<f64>],
    length: f64,
    /// The Cholesky factor of the kernel matrix, row by row below the diagonal.
    factor: Vec<Vec<f64>>,
    /// The inverse of the kernel matrix times the values.
    weights: Vec<f64>,
    best: f64,
    likelihood: f64,
}

impl<'a> Process<'a> {
    /// `None` if the kernel matrix has no factor in 64 bits.
    fn fit(points: &'a [Vec<f64>], values: &[f64], length: f64, noise: f64) -> Option<Self> {
        let kernel = |i: usize, j: usize| {
            matern(&points[i], &points[j], length) + if i == j { noise } else { 0.0 }
        };
        let factor = cholesky(points.len(), kernel)?;
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

    /// By how much the best is undercut there on average, in standard deviations of the values.
    fn expected_improvement(&self, point: &[f64]) -> f64 {
        let kernel: Vec<f64> = self
            .points
            .iter()
            .map(|known| matern(known, point, self.length))
            .collect();
        let mean: f64 = kernel.iter().zip(&self.weights).map(|(k, w)| k * w).sum();
        let explained: f64 = forward(&self.factor, &kernel).iter().map(|x| x * x).sum();
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

    /// The best of 25 trials on a bowl with its bottom at (0.3, 0.7).
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
    fn it_beats_chance_on_a_bowl() {
        let wins = (0..20)
            .filter(|seed| best_of_25(*seed, true) < best_of_25(*seed, false))
            .count();
        assert!(wins >= 18, "{wins} of 20");
        let mut guided: Vec<_> = (0..20).map(|seed| best_of_25(seed, true)).collect();
        guided.sort_by(f64::total_cmp);
        assert!(guided[10] < 0.001, "{guided:?}");
    }

    #[test]
    fn failed_and_running_trials_are_no_trouble() {
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
