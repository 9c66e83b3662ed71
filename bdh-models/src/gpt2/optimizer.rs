//! Which parameters decay, and how fast all of them move.

use bdh::ops::AdamW;
use bdh::{Group, Schedule, warmup_cosine};

/// The two groups of a [`Gpt2`](super::Gpt2): matrices and tables decay, biases and gains do not.
///
/// AdamW with betas 0.9 and 0.95 and an epsilon of 1e-8.
///
/// Source: `configure_optimizers` of karpathy/build-nanogpt at 6104ab1.
#[must_use]
pub fn groups(weight_decay: f32, schedule: Schedule) -> [Group; 2] {
    [
        Group::new(
            "decay",
            |param| param.rank() >= 2,
            adamw(weight_decay),
            schedule,
        ),
        Group::new("no_decay", |_| true, adamw(0.0), schedule),
    ]
}

/// Rises linearly over `warmup` updates, then falls along half a cosine to a tenth of `peak` at the last one.
///
/// build-nanogpt's would reach its tenth one update later; of its 19073 updates none is further than 1e-4 of the peak
/// from this.
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
    fn the_schedule_is_that_of_build_nanogpt() {
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
