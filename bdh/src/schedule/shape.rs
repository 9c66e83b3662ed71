//! Built-in shapes: a linear warmup, then a constant rate or a decay.

use super::Progress;
use serde::Serialize;
use std::f64::consts::PI;

/// A warmup to a peak, and a decay. The serialized form is that of every checkpoint so far.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Shape {
    pub(super) peak: f64,
    pub(super) warmup: u64,
    pub(super) decay: Decay,
    pub(super) final_fraction: f64,
}

/// Shape of the decay from the peak to the final learning rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Decay {
    None,
    Linear,
    Cosine,
    /// Stays at the peak, then falls linearly over the last fraction of the run.
    Warmdown(f64),
}

impl Shape {
    pub(super) fn lr(&self, progress: &Progress) -> f64 {
        if progress.step < self.warmup {
            // `+ 1`: a learning rate of 0 on the first update would waste a batch.
            return self.peak * (progress.step + 1) as f64 / self.warmup as f64;
        }
        let remaining = match progress.steps {
            Some(steps) => self.remaining(progress.step, steps),
            None => self.remaining_by_share(progress.share),
        };
        self.peak * (remaining + (1.0 - remaining) * self.final_fraction)
    }

    /// Returns the part of the way from the final learning rate to the peak: 1 before the decay, 0 at its end.
    fn remaining(&self, update: u64, steps: u64) -> f64 {
        match self.decay {
            Decay::None => 1.0,
            Decay::Linear => 1.0 - self.done(update, steps),
            Decay::Cosine => half_cosine(self.done(update, steps)),
            Decay::Warmdown(fraction) => {
                let warmdown = warmdown_updates(fraction, steps);
                ((steps.saturating_sub(update)) as f64 / warmdown).min(1.0)
            }
        }
    }

    /// Returns the part of the way left in a run whose number of updates is not known.
    fn remaining_by_share(&self, share: f64) -> f64 {
        match self.decay {
            Decay::None => 1.0,
            Decay::Linear => 1.0 - share,
            Decay::Cosine => half_cosine(share),
            Decay::Warmdown(fraction) => ((1.0 - share) / fraction).min(1.0),
        }
    }

    /// Returns the part of the decay that is done: 0 at the first update after the warmup, 1 at the last update.
    fn done(&self, update: u64, steps: u64) -> f64 {
        let last = steps.saturating_sub(1);
        let decay = last.saturating_sub(self.warmup).max(1);
        (update - self.warmup).min(decay) as f64 / decay as f64
    }

    /// Returns the updates at which the curve bends: the end of the warmup, and the start of the decay.
    pub(super) fn bends(&self, steps: u64) -> Vec<u64> {
        let mut bends = vec![self.warmup.saturating_sub(1), self.warmup];
        if let Decay::Warmdown(fraction) = self.decay {
            bends.push(steps.saturating_sub(warmdown_updates(fraction, steps) as u64));
        }
        bends.retain(|update| *update < steps);
        bends
    }
}

fn half_cosine(done: f64) -> f64 {
    0.5 * (1.0 + (PI * done).cos())
}

/// Returns the number of updates in the last `fraction` of a run.
fn warmdown_updates(fraction: f64, steps: u64) -> f64 {
    // Python's `round`, which nanochat uses, rounds halves to even.
    (fraction * steps as f64).round_ties_even()
}
