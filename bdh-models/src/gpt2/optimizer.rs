//! Parameter groups and learning rate schedule of build-nanogpt.

use bdh::ops::AdamW;
use bdh::schedule::warmup_cosine;
use bdh::{Group, Schedule};

/// Returns the two groups of a [`Gpt2`](super::Gpt2): matrices and tables decay, biases and gains do not.
///
/// Both use AdamW with betas 0.9 and 0.95 and an epsilon of 1e-8.
///
/// Source: `configure_optimizers` of karpathy/build-nanogpt at 6104ab1.
#[must_use]
pub fn groups(weight_decay: f32, schedule: Schedule) -> [Group; 2] {
    [
        Group::new(
            "decay",
            |param| param.rank() >= 2,
            adamw(weight_decay),
            schedule.clone(),
        ),
        Group::new("no_decay", |_| true, adamw(0.0), schedule),
    ]
}

/// Returns build-nanogpt's schedule: a linear warmup, then half a cosine down to a tenth of `peak` at the last update.
///
/// The original would reach the tenth one update later. Over its 19073 updates the difference is at most 1e-4 of the
/// peak.
#[must_use]
pub fn schedule(peak: f64, warmup: u64) -> Schedule {
    warmup_cosine(peak, warmup).to(0.1)
}

fn adamw(weight_decay: f32) -> AdamW {
    AdamW {
        betas: (0.9, 0.95),
        epsilon: 1e-8,
        weight_decay: weight_decay.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedule_matches_build_nanogpt() {
        let (peak, warmup, steps) = (6e-4, 715, 19_073);
        // get_lr of train_gpt2.py
        let original = |it: u64| {
            if it < warmup {
                return peak * (it + 1) as f64 / warmup as f64;
            }
            let ratio = (it - warmup) as f64 / (steps - warmup) as f64;
            let coefficient = 0.5 * (1.0 + (std::f64::consts::PI * ratio).cos());
            peak * 0.1 + coefficient * (peak - peak * 0.1)
        };
        for it in [0, 1, 714, 715, 716, 5_000, 12_345, 19_072] {
            let apart = (schedule(peak, warmup).lr(it, steps) - original(it)).abs() / peak;
            assert!(apart < 1e-4, "update {it}: {apart:e} of the peak");
        }
    }
}
