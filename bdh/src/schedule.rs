//! Learning rate schedules: pure functions of the step, so a resumed run has nothing to restore.

use serde::Serialize;
use std::f64::consts::PI;

/// The learning rate of a parameter group over the run.
///
/// # Examples
///
/// ```
/// use bdh::schedule::warmup_cosine;
///
/// let schedule = warmup_cosine(3e-4, 100).to(0.1);
/// assert_eq!(schedule.lr(99, 2_000), 3e-4); // the 100th update is the first at the peak
/// assert!((schedule.lr(1_999, 2_000) - 3e-5).abs() < 1e-9);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Schedule {
    peak: f64,
    warmup: u64,
    decay: Decay,
    final_fraction: f64,
}

/// Shape of the decay from the peak to the final learning rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Decay {
    None,
    Linear,
    Cosine,
    /// Stays at the peak, then falls linearly over the last fraction of the run.
    Warmdown(f64),
}

/// Keeps the learning rate at `lr` for the whole run.
#[must_use]
pub fn constant(lr: f64) -> Schedule {
    Schedule {
        peak: lr,
        warmup: 0,
        decay: Decay::None,
        final_fraction: 0.0,
    }
}

/// Rises linearly to `peak` over `warmup` updates and stays there.
#[must_use]
pub fn warmup_constant(peak: f64, warmup: u64) -> Schedule {
    Schedule {
        warmup,
        ..constant(peak)
    }
}

/// Rises linearly to `peak` over `warmup` updates, then falls linearly to zero at the end of the run.
#[must_use]
pub fn warmup_linear(peak: f64, warmup: u64) -> Schedule {
    Schedule {
        warmup,
        decay: Decay::Linear,
        ..constant(peak)
    }
}

/// Rises linearly to `peak` over `warmup` updates, then falls along half a cosine to zero at the end.
#[must_use]
pub fn warmup_cosine(peak: f64, warmup: u64) -> Schedule {
    Schedule {
        warmup,
        decay: Decay::Cosine,
        ..constant(peak)
    }
}

/// Rises linearly over `warmup` updates, holds `peak`, and falls linearly to zero at the end (WSD).
///
/// The fall takes the last `warmdown` of the run, a fraction from 0 to 1.
///
/// Source: nanochat's `get_lr_multiplier`, with `warmdown` 0.65 and a final fraction of 0.05.
#[must_use]
pub fn warmup_stable_decay(peak: f64, warmup: u64, warmdown: f64) -> Schedule {
    Schedule {
        warmup,
        decay: Decay::Warmdown(warmdown),
        ..constant(peak)
    }
}

impl Schedule {
    /// Sets the final learning rate, as a fraction of the peak. Defaults to 0.
    #[must_use]
    pub fn to(self, final_fraction: f64) -> Self {
        Self {
            final_fraction,
            ..self
        }
    }

    /// Returns the learning rate of update `update` (0 is the first) in a run of `steps` updates.
    #[must_use]
    pub fn lr(&self, update: u64, steps: u64) -> f64 {
        if update < self.warmup {
            // `+ 1`: a learning rate of 0 on the first update would waste a batch.
            return self.peak * (update + 1) as f64 / self.warmup as f64;
        }
        let remaining = self.remaining(update, steps);
        self.peak * (remaining + (1.0 - remaining) * self.final_fraction)
    }

    /// Returns the part of the way from the final learning rate to the peak: 1 before the decay, 0 at its end.
    fn remaining(&self, update: u64, steps: u64) -> f64 {
        match self.decay {
            Decay::None => 1.0,
            Decay::Linear => 1.0 - self.progress(update, steps),
            Decay::Cosine => 0.5 * (1.0 + (PI * self.progress(update, steps)).cos()),
            Decay::Warmdown(fraction) => {
                // Python's `round`, which nanochat uses, rounds halves to even.
                let warmdown = (fraction * steps as f64).round_ties_even();
                ((steps.saturating_sub(update)) as f64 / warmdown).min(1.0)
            }
        }
    }

    /// Returns the progress of the decay: 0 at the first update after the warmup, 1 at the last update.
    fn progress(&self, update: u64, steps: u64) -> f64 {
        let last = steps.saturating_sub(1);
        let decay = last.saturating_sub(self.warmup).max(1);
        (update - self.warmup).min(decay) as f64 / decay as f64
    }

    /// Returns the number of warmup updates.
    #[must_use]
    pub fn warmup(&self) -> u64 {
        self.warmup
    }

    /// Returns the highest learning rate.
    #[must_use]
    pub fn peak(&self) -> f64 {
        self.peak
    }
}

impl From<f64> for Schedule {
    fn from(lr: f64) -> Self {
        constant(lr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warmup_reaches_the_peak_on_its_last_update() {
        let schedule = warmup_constant(1.0, 4);
        let lrs: Vec<_> = (0..6).map(|update| schedule.lr(update, 10)).collect();
        assert_eq!(lrs, [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn linear_and_cosine_end_at_the_final_fraction() {
        for schedule in [warmup_linear(2.0, 3), warmup_cosine(2.0, 3)] {
            assert!(schedule.lr(99, 100).abs() < 1e-15);
            assert!((schedule.to(0.1).lr(99, 100) - 0.2).abs() < 1e-15);
            assert_eq!(schedule.lr(3, 100), 2.0);
        }
    }

    #[test]
    fn warmup_stable_decay_equals_nanochats_multiplier() {
        // models.md 1.2: N = 100, W = 65, (N − it)/W + (1 − (N − it)/W)·0.05 once it > N − W.
        let schedule = warmup_stable_decay(1.0, 40, 0.65).to(0.05);
        assert_eq!(schedule.lr(0, 100), 1.0 / 40.0);
        let p: f64 = 30.0 / 65.0;
        assert!((schedule.lr(70, 100) - (p + (1.0 - p) * 0.05)).abs() < 1e-15);
        assert_eq!(warmup_stable_decay(1.0, 0, 0.65).to(0.05).lr(35, 100), 1.0);
    }

    #[test]
    fn runs_shorter_than_the_warmup_have_finite_learning_rates() {
        for schedule in [warmup_cosine(1.0, 50), warmup_linear(1.0, 50)] {
            assert!((0..20).all(|update| schedule.lr(update, 10).is_finite()));
        }
        assert!(warmup_stable_decay(1.0, 0, 0.0).lr(9, 10).is_finite());
    }
}
