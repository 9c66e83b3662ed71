//! nanochat's scaling laws: one number, the depth, decides a whole run.
//!
//! Depth gives the width; width and depth give the parameters; parameters give the tokens to train on; tokens
//! give the batch size; and the batch size gives the learning rates and the weight decay. Every one of them can
//! be overridden, and what is overridden later in that chain leaves what comes before it untouched.
//!
//! Everything here is arithmetic on a [`Request`]: no tensor, no device, no data, so that a dry run can print
//! what a 24-layer model would cost on a laptop that could never hold it.
//!
//! Source: karpathy/nanochat at commit 92d63d4 (`scripts/base_train.py`, `nanochat/gpt.py`).
//!
//! | symbol  | law                                                                  |
//! |---------|----------------------------------------------------------------------|
//! | `P`     | parameters of the blocks and of the head; no embedding counts        |
//! | `D`     | `12 * P` tokens                                                      |
//! | `B`     | `2^19 * (D / D_ref)^0.383` tokens, to the nearest power of two       |
//! | `lr`    | each base rate times `sqrt(B / 2^19)`                                |
//! | `wd`    | `0.28 * sqrt(B / 2^19) * D_ref / D`, Muon only                       |
//! | `N`     | `D / B` steps, rounded down                                          |
//!
//! `D_ref` is the `D` of a 12-layer model with the same vocabulary, head size and aspect ratio.

mod batch;
mod error;
mod report;
mod shape;

use crate::nanochat::{GptConfig, Group, LearningRates, Schedule, groups};
use bdh::ops::Precision;
use serde::Serialize;

pub use self::batch::MicroBatch;
pub use self::error::RecipeError;
pub use self::report::Warning;

/// Batch size, in tokens, at which the base learning rates were tuned.
pub const REFERENCE_BATCH: usize = 1 << 19;
/// Layers of the model at which the base learning rates were tuned.
pub const REFERENCE_DEPTH: usize = 12;
/// Muon's weight decay at the reference model and batch.
pub const REFERENCE_WEIGHT_DECAY: f64 = 0.28;
/// How the best batch grows with the tokens of a run (Bergsma et al., 2025, *Power Lines*, arXiv:2505.13738).
const BATCH_EXPONENT: f64 = 0.383;

/// What a run asks for; the laws fill in whatever is `None`.
///
/// The default is nanochat's 12-layer model.
///
/// # Examples
///
/// ```
/// use bdh_models::scaling::{Recipe, Request};
///
/// let recipe = Recipe::derive(&Request { depth: 8, ..Request::default() })?;
/// assert_eq!(recipe.config.n_embd, 512);
/// assert_eq!(recipe.num_iterations, 1920);
/// # Ok::<(), bdh_models::scaling::RecipeError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Transformer blocks.
    pub depth: usize,
    /// Token ids, before the table is padded to a multiple of 64.
    pub vocab_size: usize,
    /// Context length in tokens.
    pub sequence_len: usize,
    /// Attention window of each layer, tiled: `L` sees the whole context, `S` about a quarter of it.
    pub window_pattern: String,
    /// Width per layer, before rounding up to whole heads.
    pub aspect_ratio: usize,
    /// Channels of one attention head: 128, or 64 when `n_embd` is set.
    pub head_dim: Option<usize>,
    /// What the model computes in.
    pub precision: Precision,
    /// Tokens to train on for each scaling parameter.
    pub target_param_data_ratio: f64,
    /// Width, instead of `depth * aspect_ratio`.
    pub n_embd: Option<usize>,
    /// Final learning rate of Muon, instead of batch scaling; moves every other group by the same factor.
    pub lr: Option<f64>,
    /// Learning rates before any scaling.
    pub rates: LearningRates,
    /// Sequences in one forward and backward pass.
    pub micro_batch: MicroBatch,
    /// Devices that share a step, with as many micro-batches each.
    pub devices: usize,
    /// Tokens in one step, instead of the law's.
    pub total_batch_size: Option<usize>,
    /// Steps, instead of the law's; goes before `target_flops`.
    pub num_iterations: Option<u64>,
    /// Compute to spend, from which the number of steps follows.
    pub target_flops: Option<f64>,
    /// Muon's weight decay as it is used, instead of the law's.
    pub weight_decay: Option<f64>,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            depth: REFERENCE_DEPTH,
            vocab_size: 32_768,
            sequence_len: 2048,
            window_pattern: "SSSL".to_owned(),
            aspect_ratio: 64,
            head_dim: None,
            precision: Precision::default(),
            target_param_data_ratio: 12.0,
            n_embd: None,
            lr: None,
            rates: LearningRates::default(),
            micro_batch: MicroBatch::AtMost(32),
            devices: 1,
            total_batch_size: None,
            num_iterations: None,
            target_flops: None,
            weight_decay: None,
        }
    }
}

/// Everything that a run needs to know before it builds a model.
///
/// Its `Display` is the page that a program prints before training.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Recipe {
    /// The model.
    pub config: GptConfig,
    /// `D`: tokens that the laws would train on, whatever the number of steps.
    pub target_tokens: u64,
    /// `B`: tokens in one step, over all micro-batches.
    pub total_batch_size: usize,
    /// Sequences in one forward and backward pass.
    pub micro_batch: usize,
    /// `N`: optimizer updates.
    pub num_iterations: u64,
    /// What every base learning rate was multiplied by: `sqrt(B / 2^19)`, or `lr / 0.02` when `lr` was set.
    pub lr_multiplier: f64,
    /// Learning rates, scaled to the batch but not yet to the width: [`groups`](Self::groups) does that.
    pub rates: LearningRates,
    /// Muon's weight decay at the first step.
    pub weight_decay: f64,
}

impl Recipe {
    /// Applies the laws to a request.
    ///
    /// # Errors
    ///
    /// A [`RecipeError`] that names the value and says what would work.
    pub fn derive(request: &Request) -> Result<Self, RecipeError> {
        request.check()?;
        let config = shape::of(request)?;
        let horizon = |config: &GptConfig| {
            request.target_param_data_ratio * config.num_params().scaling() as f64
        };
        // As in nanochat, D is cut to whole tokens and D_ref is not.
        let target_tokens = horizon(&config).trunc();
        let ratio = target_tokens / horizon(&shape::reference(request)?);

        let total_batch_size = request
            .total_batch_size
            .unwrap_or_else(|| best_batch(ratio));
        let fit =
            |batch: MicroBatch| batch.fit(total_batch_size, config.sequence_len, request.devices);
        let micro_batch = fit(request.micro_batch)?;
        let batch_scale = (total_batch_size as f64 / REFERENCE_BATCH as f64).sqrt();
        let weight_decay = request
            .weight_decay
            .unwrap_or(REFERENCE_WEIGHT_DECAY * batch_scale / ratio);
        let (rates, lr_multiplier) = match request.lr {
            Some(lr) => (request.rates.with_matrix(lr), lr / request.rates.matrix),
            None => (request.rates.scaled(batch_scale), batch_scale),
        };

        Ok(Self {
            num_iterations: num_iterations(request, &config, target_tokens, total_batch_size)?,
            config,
            target_tokens: target_tokens as u64,
            total_batch_size,
            micro_batch,
            lr_multiplier,
            rates,
            weight_decay,
        })
    }

    /// Every parameter group with its final learning rate; Muon's momentum and decay follow `schedule`.
    #[must_use]
    pub fn groups(&self, schedule: Schedule) -> Vec<Group> {
        groups(&self.config, self.rates, self.weight_decay, Some(schedule))
    }

    /// Training cost of one token, forward and backward.
    #[must_use]
    pub fn flops_per_token(&self) -> f64 {
        self.config.flops_per_token(self.config.sequence_len)
    }

    /// Micro-batches averaged into one update.
    #[must_use]
    pub fn grad_accum_steps(&self) -> usize {
        self.total_batch_size / (self.micro_batch * self.config.sequence_len)
    }

    /// Tokens that the run sees, from its first step to its last.
    #[must_use]
    pub fn total_tokens(&self) -> f64 {
        // A float: the products of the largest models do not fit 64 bits.
        self.total_batch_size as f64 * self.num_iterations as f64
    }

    /// Floating-point operations of the whole run, forward and backward.
    #[must_use]
    pub fn total_flops(&self) -> f64 {
        self.flops_per_token() * self.total_tokens()
    }
}

/// Best batch, in tokens, for a run `ratio` times as long as the reference.
fn best_batch(ratio: f64) -> usize {
    let batch = REFERENCE_BATCH as f64 * ratio.powf(BATCH_EXPONENT);
    // Python rounds halves to even. The clamp only matters for models that no machine could hold.
    1 << (batch.log2().round_ties_even().clamp(0.0, 40.0) as u32)
}

/// Steps of the run: those given, else those that spend the FLOPs, else those that see `D` tokens.
fn num_iterations(
    request: &Request,
    config: &GptConfig,
    target_tokens: f64,
    total_batch_size: usize,
) -> Result<u64, RecipeError> {
    let batch = total_batch_size as f64;
    let steps = match (request.num_iterations, request.target_flops) {
        (Some(steps), _) => steps,
        (None, Some(flops)) => {
            (flops / (config.flops_per_token(config.sequence_len) * batch)).round_ties_even() as u64
        }
        (None, None) => (target_tokens / batch).floor() as u64,
    };
    if steps == 0 {
        Err(RecipeError::ShortHorizon { total_batch_size })
    } else {
        Ok(steps)
    }
}

#[cfg(test)]
mod tests;
