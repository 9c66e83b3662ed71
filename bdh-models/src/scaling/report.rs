//! A recipe as the page that is printed before training, and what is wrong with it.

use std::fmt;

use super::{REFERENCE_WEIGHT_DECAY, Recipe};
use crate::nanochat::Schedule;

/// Share of a weight that decay may take in one step before it is worth a warning.
///
/// Muon's momentum peaks at 0.97, so an update is remembered for about 1 / 0.03 steps. Above this rate a weight
/// is forgotten faster than the momentum that wrote it. nanochat's own models lie between 0.002 (24 layers) and
/// 0.027 (4 layers).
const FAST_DECAY: f64 = 0.03;
/// Weight decay that trains small models well.
const GENTLE_DECAY: f64 = 0.1;

/// Something that a run may do, but hardly on purpose.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Warning {
    /// Muon's weight decay outruns its momentum.
    FastDecay {
        /// Muon's peak learning rate.
        lr: f64,
        /// Muon's first weight decay.
        weight_decay: f64,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::FastDecay { lr, weight_decay } = *self;
        let rate = lr * weight_decay;
        write!(
            f,
            "Muon's weight decay {weight_decay:.3} at learning rate {lr:.3e} takes up to {:.1} % of a weight in \
             every step, so that it is forgotten within {:.0} steps: nanochat's law ({REFERENCE_WEIGHT_DECAY} at 12 \
             layers) was not made for models this small; `--weight-decay {GENTLE_DECAY}` makes it {:.2} %",
            100.0 * rate,
            (1.0 / rate).ceil(),
            100.0 * lr * GENTLE_DECAY,
        )
    }
}

impl Recipe {
    /// What in this recipe is allowed but unlikely to be wanted.
    #[must_use]
    pub fn warnings(&self) -> Vec<Warning> {
        let (lr, weight_decay) = (self.rates.matrix, self.weight_decay);
        let too_fast = lr * weight_decay > FAST_DECAY;
        too_fast
            .then_some(Warning::FastDecay { lr, weight_decay })
            .into_iter()
            .collect()
    }
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
            "params   {}, of which {} count for scaling",
            grouped(params.total() as u64),
            grouped(params.scaling() as u64)
        )?;
        writeln!(
            f,
            "batch    {} tokens = micro-batch {} x context {} x accumulation {}",
            grouped(self.total_batch_size as u64),
            self.micro_batch,
            config.sequence_len,
            self.grad_accum_steps(),
        )?;
        writeln!(
            f,
            "horizon  {} steps, {} tokens, {:.2} per scaling parameter (the law: {})",
            grouped(self.num_iterations),
            grouped(self.total_tokens() as u64),
            self.total_tokens() / params.scaling() as f64,
            grouped(self.target_tokens),
        )?;
        writeln!(
            f,
            "compute  {:.3e} FLOPs per token, {:.3e} in all",
            self.flops_per_token(),
            self.total_flops()
        )?;
        write!(f, "groups")?;
        for group in self.groups(Schedule::new(self.num_iterations)) {
            write!(f, "\n  {group}")?;
        }
        Ok(())
    }
}

/// A count with a comma after every three digits.
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
