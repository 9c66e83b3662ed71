//! The page that is printed before training, and warnings about a recipe.

use std::fmt;

use super::{REFERENCE_WEIGHT_DECAY, Recipe};
use crate::nanochat::MuonSchedule;

/// Share of a weight that decay removes in one step, above which there is a warning.
///
/// Muon's momentum peaks at 0.97, so an update acts for about 1 / 0.03 steps. Above this share, weights decay faster
/// than the momentum. nanochat's own models are between 0.002 (24 layers) and 0.027 (4 layers).
const FAST_DECAY: f64 = 0.03;
/// Weight decay that trains small models well.
const GENTLE_DECAY: f64 = 0.1;

/// Warning about a recipe that is allowed, but probably not intended.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Warning {
    /// Muon's weight decay is faster than its momentum.
    FastDecay {
        /// Muon's peak learning rate.
        peak_lr: f64,
        /// Muon's weight decay at the first step.
        weight_decay: f64,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::FastDecay {
            peak_lr,
            weight_decay,
        } = *self;
        let rate = peak_lr * weight_decay;
        write!(
            f,
            "Muon's weight decay {weight_decay:.3} at learning rate {peak_lr:.3e} removes up to {:.1} % of a weight in \
             every step, and all of it within {:.0} steps: nanochat's law ({REFERENCE_WEIGHT_DECAY} at 12 layers) does \
             not suit models this small; `--weight-decay-override {GENTLE_DECAY}` removes {:.2} %",
            100.0 * rate,
            (1.0 / rate).ceil(),
            100.0 * peak_lr * GENTLE_DECAY,
        )
    }
}

impl Recipe {
    /// Returns warnings about settings that are allowed, but probably not intended.
    #[must_use]
    pub fn warnings(&self) -> Vec<Warning> {
        let (peak_lr, weight_decay) = (self.rates.matrix, self.weight_decay);
        if peak_lr * weight_decay > FAST_DECAY {
            return vec![Warning::FastDecay {
                peak_lr,
                weight_decay,
            }];
        }
        Vec::new()
    }

    /// Writes the shape of the model and its parameters.
    fn write_model(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (config, params) = (&self.config, self.config.num_params());
        writeln!(
            f,
            "model    depth {}, width {} = heads {} x {}, vocabulary {} (padded to {}), windows {}",
            config.n_layer,
            config.n_embd,
            config.n_head,
            config.head_size(),
            config.vocab_size,
            config.padded_vocab(),
            config.window_pattern,
        )?;
        writeln!(
            f,
            "params   {} in total, {} count for scaling",
            grouped(params.total() as u64),
            grouped(params.scaling() as u64)
        )
    }

    /// Writes the batch, and the duration of the run in steps, tokens and operations.
    fn write_duration(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "batch    {} tokens = micro-batch {} x context {} x accumulation {}",
            grouped(self.total_batch_size as u64),
            self.micro_batch,
            self.config.sequence_len,
            self.grad_accum_steps(),
        )?;
        writeln!(
            f,
            "duration {} steps, {} tokens, {:.2} per scaling parameter (the law: {})",
            grouped(self.num_iterations),
            grouped(self.total_tokens() as u64),
            self.total_tokens() / self.config.num_params().scaling() as f64,
            grouped(self.target_tokens),
        )?;
        writeln!(
            f,
            "compute  {:.3e} FLOPs per token, {:.3e} in total",
            self.flops_per_token(),
            self.total_flops()
        )?;
        let decay = self.weight_decay;
        match self.base_weight_decay {
            Some(base) => writeln!(f, "decay    {decay:.6} of Muon, {base} scaled by the law"),
            None => writeln!(f, "decay    {decay:.6} of Muon, as given"),
        }
    }
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_model(f)?;
        self.write_duration(f)?;
        write!(f, "groups")?;
        for group in self.groups(MuonSchedule::new(self.num_iterations)) {
            write!(f, "\n  {group}")?;
        }
        Ok(())
    }
}

/// Formats a count with commas between groups of three digits.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
