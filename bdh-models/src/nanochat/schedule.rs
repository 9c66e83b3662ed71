//! Schedules over a run, as pure functions of the step: learning rates, and Muon's momentum and weight decay.

use bdh::Schedule;
use bdh::schedule::warmup_stable_decay;
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// Schedule of all learning rates: linear warmup, constant, linear warmdown. The default values are nanochat's.
///
/// Source: `scripts/base_train.py` of karpathy/nanochat at 92d63d4.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LrSchedule {
    /// Updates in which the learning rates rise. Defaults to 40.
    pub warmup_steps: u64,
    /// Share of the run in which the learning rates fall. Defaults to 0.65.
    pub warmdown_ratio: f64,
    /// Last learning rate, as a share of the peak. Defaults to 0.05.
    pub final_lr_frac: f64,
}

impl Default for LrSchedule {
    fn default() -> Self {
        Self {
            warmup_steps: 40,
            warmdown_ratio: 0.65,
            final_lr_frac: 0.05,
        }
    }
}

impl LrSchedule {
    /// Returns the trainer's schedule for a peak learning rate.
    #[must_use]
    pub fn with_peak(self, peak_lr: f64) -> Schedule {
        warmup_stable_decay(peak_lr, self.warmup_steps, self.warmdown_ratio).to(self.final_lr_frac)
    }
}

/// Schedule of Muon's momentum and weight decay.
///
/// A step is the number of completed updates: the first update has `momentum(0)`.
///
/// Source: `scripts/base_train.py` of karpathy/nanochat at 92d63d4.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MuonSchedule {
    /// Updates of the whole run.
    pub num_iterations: u64,
    /// Updates in which the momentum rises from 0.85 to 0.97. nanochat: 400.
    pub momentum_warmup: u64,
    /// Share of the run, at its end, in which the momentum falls. nanochat: 0.65.
    pub warmdown_ratio: f64,
}

impl MuonSchedule {
    /// Creates nanochat's schedule for a run of `num_iterations` updates.
    #[must_use]
    pub fn new(num_iterations: u64) -> Self {
        Self {
            num_iterations,
            momentum_warmup: 400,
            warmdown_ratio: 0.65,
        }
    }

    /// Returns Muon's momentum at `step`. The warmup of the momentum takes precedence over the warmdown.
    #[must_use]
    pub fn momentum(&self, step: u64) -> f64 {
        if step < self.momentum_warmup {
            return lerp(0.85, 0.97, step as f64 / self.momentum_warmup as f64);
        }
        if step < self.plateau_end() || self.warmdown() == 0 {
            return 0.97;
        }
        let done = (step - self.plateau_end()) as f64 / self.warmdown() as f64;
        lerp(0.97, 0.90, done.min(1.0))
    }

    /// Returns the factor of Muon's weight decay at `step`: half a cosine, from 1 to 0.
    #[must_use]
    pub fn decay_multiplier(&self, step: u64) -> f64 {
        let done = (step as f64 / self.num_iterations.max(1) as f64).min(1.0);
        0.5 * (1.0 + (PI * done).cos())
    }

    /// Returns the updates in the warmdown. A half is rounded to even, as Python does.
    fn warmdown(&self) -> u64 {
        (self.warmdown_ratio * self.num_iterations as f64).round_ties_even() as u64
    }

    /// Returns the last step before the warmdown.
    fn plateau_end(&self) -> u64 {
        self.num_iterations.saturating_sub(self.warmdown())
    }
}

/// Interpolates linearly between `from` and `to`.
fn lerp(from: f64, to: f64, part: f64) -> f64 {
    (1.0 - part) * from + part * to
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-12
    }

    #[test]
    fn momentum_rises_first_and_falls_with_the_warmdown() {
        let schedule = MuonSchedule::new(2000); // 1300 updates of warmdown, after step 700
        let expected = [
            (0, 0.85),
            (1, 0.8503),
            (200, 0.91),
            (400, 0.97),
            (700, 0.97),
            (1350, 0.935),
            (2000, 0.90),
        ];
        for (step, momentum) in expected {
            assert!(
                close(schedule.momentum(step), momentum),
                "step {step}: {}",
                schedule.momentum(step)
            );
        }
        // A run of 100 warms its momentum up through its warmdown and beyond its end.
        assert!(close(MuonSchedule::new(100).momentum(100), 0.88));
    }

    #[test]
    fn weight_decay_follows_half_a_cosine() {
        let schedule = MuonSchedule::new(1000);
        for (step, multiplier) in [
            (0, 1.0),
            (250, 0.5 + 0.5 * (PI / 4.0).cos()),
            (500, 0.5),
            (1000, 0.0),
        ] {
            assert!(
                close(schedule.decay_multiplier(step), multiplier),
                "step {step}"
            );
        }
    }

    #[test]
    fn half_an_update_of_warmdown_rounds_to_even() {
        assert_eq!(MuonSchedule::new(10).warmdown(), 6); // 6.5
        assert_eq!(MuonSchedule::new(30).warmdown(), 20); // 19.5
    }

    proptest! {
        #[test]
        fn momentum_and_decay_stay_in_range(n in 0_u64..5000, step in 0_u64..6000) {
            let schedule = MuonSchedule::new(n);
            prop_assert!((0.85..=0.97 + 1e-12).contains(&schedule.momentum(step)));
            prop_assert!((0.0..=1.0).contains(&schedule.decay_multiplier(step)));
        }
    }
}
