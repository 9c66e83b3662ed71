//! nanochat's scaling laws: the depth decides a whole run.
//!
//! Depth gives the width. Width and depth give the parameters, parameters the tokens to train on, tokens the batch
//! size, and the batch size gives the learning rates and the weight decay. Each value can be overridden. An override
//! does not change the values before it in this chain.
//!
//! Everything here is arithmetic on a [`Request`], without tensors, devices or data. So a dry run on a laptop can print
//! the cost of a 24-layer model.
//!
//! Source: karpathy/nanochat at commit 92d63d4 (`scripts/base_train.py`, `nanochat/gpt.py`).
//!
//! | symbol  | law                                                                  |
//! |---------|----------------------------------------------------------------------|
//! | `P`     | parameters of the blocks and of the head, without embeddings         |
//! | `D`     | `12 * P` tokens                                                      |
//! | `B`     | `2^19 * (D / D_ref)^0.383` tokens, to the nearest power of two       |
//! | `lr`    | each base rate times `sqrt(B / 2^19)`                                |
//! | `wd`    | `0.28 * sqrt(B / 2^19) * D_ref / D`, Muon only                       |
//! | `N`     | `D / B` steps, rounded down                                          |
//!
//! `D_ref` is the `D` of a 12-layer model with the same vocabulary, head size and aspect ratio.
//!
//! In [`NanochatVersion::Next`], `D` of batch and weight decay is the number of tokens of the chosen duration, the rate of
//! the head falls with the width and not with its root, and those of the tables do not depend on it.

mod batch;
mod error;
mod report;
mod shape;

use crate::nanochat::{
    GptConfig, GroupSpec, LearningRates, LrSchedule, MuonSchedule, NanochatVersion, SHORT_SEQ_LEN,
    groups,
};
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
/// Tokens for each scaling parameter of the model at which the base learning rates were tuned, in the next version.
const REFERENCE_RATIO: f64 = 12.0;
/// Most steps of a run; more are a typing error.
const MAX_STEPS: u64 = 1 << 40;
/// Exponent of the best batch size over the tokens of a run (Bergsma et al., 2025, *Power Lines*, arXiv:2505.13738).
const BATCH_EXPONENT: f64 = 0.383;

/// Requested settings of a run. The laws decide the settings that are `None`.
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
    /// Version of nanochat, which decides the model and the laws.
    pub version: NanochatVersion,
    /// Number of transformer blocks.
    pub depth: usize,
    /// Number of token ids, before the table is padded to a multiple of 64.
    pub vocab_size: usize,
    /// Context length in tokens.
    pub sequence_len: usize,
    /// Attention window of each layer, tiled: `L` sees the whole context, `S` about a quarter of it.
    pub window_pattern: String,
    /// Tokens of the window `S`, of the next version only.
    pub short_seq_len: usize,
    /// Width per layer, before rounding up to whole heads.
    pub aspect_ratio: usize,
    /// Channels of one attention head. Defaults to 128, or to 64 with `n_embd`.
    pub head_dim: Option<usize>,
    /// Precision of the model's activations.
    pub precision: Precision,
    /// Tokens to train on for each scaling parameter.
    pub target_param_data_ratio: f64,
    /// Width in channels. Defaults to `depth * aspect_ratio`.
    pub n_embd: Option<usize>,
    /// Peak learning rate of Muon, without batch scaling; all other groups change by the same factor.
    pub lr_override: Option<f64>,
    /// Learning rates before any scaling.
    pub rates: LearningRates,
    /// Sequences in one forward and backward pass.
    pub micro_batch: MicroBatch,
    /// Devices that share each step, with the same number of micro-batches each.
    pub devices: usize,
    /// Tokens in one step. Defaults to the law's.
    pub total_batch_size: Option<usize>,
    /// Number of steps. Takes precedence over `target_flops`; without both the law decides.
    pub num_iterations: Option<u64>,
    /// Floating-point operations to spend, which decide the number of steps.
    pub target_flops: Option<f64>,
    /// Muon's weight decay at the reference model and batch, which the law scales.
    pub weight_decay: f64,
    /// Muon's weight decay, without scaling; `None` for the law's.
    pub weight_decay_override: Option<f64>,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            version: NanochatVersion::default(),
            depth: REFERENCE_DEPTH,
            vocab_size: 32_768,
            sequence_len: 2048,
            window_pattern: "SSSL".to_owned(),
            short_seq_len: SHORT_SEQ_LEN,
            aspect_ratio: 64,
            head_dim: None,
            precision: Precision::default(),
            target_param_data_ratio: 12.0,
            n_embd: None,
            lr_override: None,
            rates: LearningRates::default(),
            micro_batch: MicroBatch::AtMost(32),
            devices: 1,
            total_batch_size: None,
            num_iterations: None,
            target_flops: None,
            weight_decay: REFERENCE_WEIGHT_DECAY,
            weight_decay_override: None,
        }
    }
}

/// Resolved settings of a run.
///
/// `Display` writes the page that a program prints before training.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Recipe {
    /// Settings of the model.
    pub config: GptConfig,
    /// `D`: tokens to train on by the laws, for any number of steps.
    pub target_tokens: u64,
    /// `B`: tokens in one step, over all micro-batches.
    pub total_batch_size: usize,
    /// Sequences in one forward and backward pass.
    pub micro_batch: usize,
    /// `N`: optimizer updates.
    pub num_iterations: u64,
    /// Factor of the base learning rates: `sqrt(B / 2^19)`, or `lr_override / 0.02`.
    pub lr_multiplier: f64,
    /// Learning rates scaled to the batch. [`groups`](Self::groups) scales them to the width.
    pub rates: LearningRates,
    /// Muon's weight decay at the first step.
    pub weight_decay: f64,
    /// Muon's weight decay before the law has scaled it; `None` if it is given without scaling.
    #[serde(skip)] // a result of the fields above
    pub base_weight_decay: Option<f64>,
}

impl Recipe {
    /// Applies the laws to a request.
    ///
    /// # Errors
    ///
    /// A [`RecipeError`] with the wrong value and a suggestion.
    pub fn derive(request: &Request) -> Result<Self, RecipeError> {
        request.check()?;
        let config = shape::of(request)?;
        let reference = shape::reference(request)?;
        // nanochat cuts D to whole tokens, but not D_ref.
        let target_tokens = horizon(request, &config)?.trunc();
        let ratio = target_tokens / reference_tokens(request, &reference);

        let total_batch_size = match request.total_batch_size {
            Some(tokens) => tokens,
            None => best_batch(ratio),
        };
        let micro_batch =
            request
                .micro_batch
                .fit(total_batch_size, config.sequence_len, request.devices)?;
        let batch_scale = (total_batch_size as f64 / REFERENCE_BATCH as f64).sqrt();
        let weight_decay = request
            .weight_decay_override
            .unwrap_or(request.weight_decay * batch_scale / ratio);
        let (rates, lr_multiplier) = rates(request, batch_scale);

        Ok(Self {
            num_iterations: num_iterations(request, &config, target_tokens, total_batch_size)?,
            config,
            target_tokens: target_tokens as u64,
            total_batch_size,
            micro_batch,
            lr_multiplier,
            rates,
            weight_decay,
            base_weight_decay: match request.weight_decay_override {
                Some(_) => None,
                None => Some(request.weight_decay),
            },
        })
    }

    /// Returns every parameter group with its peak learning rate; Muon's momentum and weight decay follow `schedule`.
    #[must_use]
    pub fn groups(&self, schedule: MuonSchedule) -> Vec<GroupSpec> {
        groups(&self.config, self.rates, self.weight_decay, Some(schedule))
    }

    /// Returns the groups of a trainer, whose learning rates follow `schedule`.
    ///
    /// Muon's momentum falls in the warmdown of the learning rates.
    #[must_use]
    pub fn scheduled_groups(&self, schedule: LrSchedule) -> Vec<bdh::Group> {
        let muon = MuonSchedule {
            warmdown_ratio: schedule.warmdown_ratio,
            ..MuonSchedule::new(self.num_iterations)
        };
        let mut scheduled = Vec::new();
        for group in self.groups(muon) {
            scheduled.push(group.scheduled(|peak_lr| schedule.with_peak(peak_lr)));
        }
        scheduled
    }

    /// Returns the training cost of one token in floating-point operations, forward and backward.
    #[must_use]
    pub fn flops_per_token(&self) -> f64 {
        self.config.flops_per_token(self.config.sequence_len)
    }

    /// Returns the number of micro-batches averaged into one update.
    #[must_use]
    pub fn grad_accum_steps(&self) -> usize {
        self.total_batch_size / (self.micro_batch * self.config.sequence_len)
    }

    /// Returns the number of tokens of the whole run.
    #[must_use]
    pub fn total_tokens(&self) -> f64 {
        // A float: the products of the largest models do not fit 64 bits.
        self.total_batch_size as f64 * self.num_iterations as f64
    }

    /// Returns the floating-point operations of the whole run, forward and backward.
    #[must_use]
    pub fn total_flops(&self) -> f64 {
        self.flops_per_token() * self.total_tokens()
    }
}

/// Returns the learning rates and their factor, from the override or from the batch.
fn rates(request: &Request, batch_scale: f64) -> (LearningRates, f64) {
    match request.lr_override {
        Some(lr) => (request.rates.with_matrix(lr), lr / request.rates.matrix),
        None => (request.rates.scaled(batch_scale), batch_scale),
    }
}

/// Returns the tokens by which the laws choose batch and weight decay.
///
/// In master these are always those of the ratio. In the next version they are those of the run: by the number of steps,
/// by the FLOPs to spend, or by the ratio, in this order of precedence.
fn horizon(request: &Request, config: &GptConfig) -> Result<f64, RecipeError> {
    if request.version == NanochatVersion::Master {
        return Ok(tokens_by_law(request, config));
    }
    match (request.num_iterations, request.target_flops) {
        (Some(steps), _) => match request.total_batch_size {
            Some(batch) => Ok(steps as f64 * batch as f64),
            None => Err(RecipeError::StepsWithoutBatch { steps }),
        },
        (None, Some(flops)) => Ok(flops / config.flops_per_token(config.sequence_len)),
        (None, None) => Ok(tokens_by_law(request, config)),
    }
}

/// Returns the tokens of the run at which the base learning rates were tuned.
fn reference_tokens(request: &Request, reference: &GptConfig) -> f64 {
    match request.version {
        NanochatVersion::Master => tokens_by_law(request, reference),
        NanochatVersion::Next => REFERENCE_RATIO * reference.num_params().scaling() as f64,
    }
}

/// Returns the tokens to train a model on: a fixed number for each scaling parameter.
fn tokens_by_law(request: &Request, config: &GptConfig) -> f64 {
    request.target_param_data_ratio * config.num_params().scaling() as f64
}

/// Returns the best batch in tokens for a run `ratio` times as long as the reference.
fn best_batch(ratio: f64) -> usize {
    let batch = REFERENCE_BATCH as f64 * ratio.powf(BATCH_EXPONENT);
    // Python rounds halves to even. The clamp only matters for models too large for any machine.
    1 << (batch.log2().round_ties_even().clamp(0.0, 40.0) as u32)
}

/// Returns the steps of the run: as given, or by the FLOPs to spend, or by `D` tokens, in this order of precedence.
fn num_iterations(
    request: &Request,
    config: &GptConfig,
    target_tokens: f64,
    total_batch_size: usize,
) -> Result<u64, RecipeError> {
    let batch = total_batch_size as f64;
    let steps = match (request.num_iterations, request.target_flops) {
        (Some(steps), _) => steps,
        (None, Some(flops)) if request.version == NanochatVersion::Master => {
            (flops / (config.flops_per_token(config.sequence_len) * batch)).round_ties_even() as u64
        }
        (None, _) => (target_tokens / batch).floor() as u64,
    };
    if steps > MAX_STEPS {
        Err(RecipeError::TooLarge {
            name: "number of steps",
            value: usize::try_from(steps).unwrap_or(usize::MAX),
            max: MAX_STEPS as usize,
        })
    } else if steps == 0 {
        Err(RecipeError::NoSteps { total_batch_size })
    } else {
        Ok(steps)
    }
}

#[cfg(test)]
mod tests;
