//! Synthetic sweeps with a known law.

#![allow(dead_code, reason = "each test uses only some of the items")]

use bdh_forecast::{End, Run};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Steps of each run.
pub(crate) const HORIZON: u64 = 1_000;

/// The law `L(s) = L0 + A S1^-α - C S2`, where L0 is a parabola in log lr and a line in depth.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Law {
    pub(crate) exponent: f64,
    /// λ in S2.
    pub(crate) memory: f64,
    /// C, the effect of annealing on the curve.
    pub(crate) gain: f64,
    /// Standard deviation of each evaluation, the last included.
    pub(crate) noise: f64,
    /// Standard deviation of L0 that no setting explains.
    pub(crate) spread: f64,
}

impl Default for Law {
    fn default() -> Self {
        Self {
            exponent: 0.5,
            memory: 0.99,
            gain: 0.004,
            noise: 0.01,
            spread: 0.0,
        }
    }
}

impl Law {
    /// Draws runs with random settings.
    ///
    /// Each run is evaluated every 50 steps; the learning rate warms up for 50 steps and decays to 0 from step 400 on.
    pub(crate) fn sweep(self, runs: usize, seed: u64) -> Vec<Run> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..runs).map(|index| self.run(index, &mut rng)).collect()
    }

    fn run(self, index: usize, rng: &mut impl Rng) -> Run {
        let depth = [2.0, 3.0, 4.0][index % 3];
        let log_lr = -9.0 + 4.0 * rng.random::<f64>();
        let limit = 3.0 - 0.2 * depth + 0.1 * (log_lr + 6.5).powi(2) + self.spread * normal(rng);
        let height = 4.0 + rng.random::<f64>();
        let rates: Vec<f64> = (0..=HORIZON).map(multiplier).collect();
        let (mut area, mut momentum, mut annealed) = (0.0, 0.0, 0.0);
        let (mut metric, mut loss) = (vec![(0, 8.0 + normal(rng) * self.noise)], Vec::new());
        for step in 1..=HORIZON {
            let at = step as usize;
            area += rates[at];
            momentum = self.memory * momentum + (rates[at - 1] - rates[at]).max(0.0);
            annealed += momentum;
            let value = limit + height * area.powf(-self.exponent) - self.gain * annealed;
            if step % 50 == 0 {
                metric.push((step, value + self.noise * normal(rng)));
            }
            if step % 10 == 0 {
                loss.push((step, value + 0.05 * normal(rng)));
            }
        }
        let end = metric.last().map_or(f64::NAN, |(_, value)| *value);
        let lr = |step: u64| (step, log_lr.exp() * rates[step as usize]);
        let norm = |step: u64| (step, 10.0 + log_lr.exp() * step as f64);
        Run {
            name: format!("trial-{index:03}"),
            order: index as u64,
            settings: [("depth", depth), ("lr", log_lr.exp())]
                .map(|(k, v)| (k.to_owned(), v))
                .into(),
            horizon: HORIZON,
            metric,
            loss,
            lr: (0..=HORIZON).step_by(5).map(lr).collect(),
            norms: [(
                "weight_norm".to_owned(),
                (0..=HORIZON).step_by(10).map(norm).collect(),
            )]
            .into(),
            cost: 0.0,
            end: End::Finished(end),
        }
    }
}

fn multiplier(step: u64) -> f64 {
    match step {
        0..50 => step as f64 / 50.0,
        50..400 => 1.0,
        _ => (HORIZON - step) as f64 / 600.0,
    }
}

/// Draws a normal number with mean 0 and variance 1 (Box and Muller).
pub(crate) fn normal(rng: &mut impl Rng) -> f64 {
    let (radius, angle) = (1.0 - rng.random::<f64>(), rng.random::<f64>());
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}
