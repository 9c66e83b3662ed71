//! Settings of a [`Bdh`], their checks, and counts that follow from them.

use super::model::Bdh;
use crate::init::Weights;
use bdh::burn::tensor::Device;
use bdh::ops::Precision;
use serde::{Deserialize, Serialize};

/// Settings of a [`Bdh`], under the names of the original's `BDHConfig`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BdhConfig {
    /// Number of layers, which share one set of weights. Defaults to 6.
    pub n_layer: usize,
    /// Channels of the residual stream. Defaults to 256.
    pub n_embd: usize,
    /// Share of the products of activities that dropout sets to 0 in training. Defaults to 0.1.
    pub dropout: f64,
    /// Number of heads. Defaults to 4.
    pub n_head: usize,
    /// Neurons per channel, over all heads. Defaults to 128.
    pub mlp_internal_dim_multiplier: usize,
    /// Number of token ids. Defaults to 256, one for each byte.
    pub vocab_size: usize,
    /// Number of positions whose rotations are tabulated. Longer inputs compute theirs each time. Defaults to 512.
    pub context: usize,
    /// Precision of activations; parameters, gradients and logits are always `f32`. Defaults to `f32`.
    pub precision: Precision,
}

impl Default for BdhConfig {
    fn default() -> Self {
        Self {
            n_layer: 6,
            n_embd: 256,
            dropout: 0.1,
            n_head: 4,
            mlp_internal_dim_multiplier: 128,
            vocab_size: 256,
            context: 512,
            precision: Precision::default(),
        }
    }
}

/// Error of settings that describe no model.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BdhConfigError {
    /// A count is zero.
    #[error("`{field}` is 0: it must be at least 1")]
    Zero {
        /// The setting.
        field: &'static str,
    },
    /// The neurons of a head do not form pairs.
    #[error(
        "{neurons} neurons (n_embd {n_embd} times mlp_internal_dim_multiplier {multiplier}) do not form pairs in \
         {n_head} heads: the number of neurons must be a multiple of {}", 2 * n_head
    )]
    UnevenHeads {
        /// Neurons of all heads.
        neurons: usize,
        /// Requested width.
        n_embd: usize,
        /// Requested multiplier.
        multiplier: usize,
        /// Requested number of heads.
        n_head: usize,
    },
    /// The dropout is negative, or leaves nothing.
    #[error("`dropout` is {dropout}: it must be 0 or more and below 1, such as 0.1")]
    Dropout {
        /// Requested share.
        dropout: f64,
    },
}

impl BdhConfig {
    /// Checks that the settings describe a model.
    ///
    /// # Errors
    ///
    /// The first [`BdhConfigError`] that applies; its message suggests a setting that works.
    pub fn check(&self) -> Result<(), BdhConfigError> {
        let Self {
            n_embd,
            n_head,
            mlp_internal_dim_multiplier: multiplier,
            dropout,
            ..
        } = *self;
        let counts = [
            ("n_layer", self.n_layer),
            ("n_embd", n_embd),
            ("n_head", n_head),
            ("mlp_internal_dim_multiplier", multiplier),
            ("vocab_size", self.vocab_size),
        ];
        if let Some((field, _)) = counts.into_iter().find(|(_, count)| *count == 0) {
            return Err(BdhConfigError::Zero { field });
        }
        let neurons = self.neurons();
        if !neurons.is_multiple_of(2 * n_head) {
            return Err(BdhConfigError::UnevenHeads {
                neurons,
                n_embd,
                multiplier,
                n_head,
            });
        }
        if !(0.0..1.0).contains(&dropout) {
            return Err(BdhConfigError::Dropout { dropout });
        }
        Ok(())
    }

    /// Builds the model with initial weights drawn from `seed`.
    ///
    /// # Errors
    ///
    /// A [`BdhConfigError`] if [`check`](Self::check) fails.
    pub fn init(&self, seed: u64, device: &Device) -> Result<Bdh, BdhConfigError> {
        self.check()?;
        Ok(Bdh::new(self, &Weights::new(seed, device)))
    }

    /// Returns the number of neurons of all heads.
    #[must_use]
    pub fn neurons(&self) -> usize {
        self.n_embd * self.mlp_internal_dim_multiplier
    }

    /// Returns the number of parameters, which all layers share.
    #[must_use]
    pub fn num_params(&self) -> usize {
        3 * self.n_embd * self.neurons() + 2 * self.n_embd * self.vocab_size
    }

    /// Returns the training cost of one token in floating-point operations, forward and backward.
    ///
    /// Three times the forward pass, `L·(6·D·n + 2·T·n + 2·nh·T·D) + 2·D·V` with n neurons. L layers use the same
    /// weights, so the usual rule of six operations per parameter would be wrong by a factor of about ten.
    #[must_use]
    pub fn flops_per_token(&self, seq_len: usize) -> f64 {
        let Self {
            n_layer,
            n_embd,
            n_head,
            vocab_size,
            ..
        } = *self;
        let neurons = self.neurons();
        let attention = 2 * seq_len * neurons + 2 * n_head * seq_len * n_embd;
        let forward = n_layer * (6 * n_embd * neurons + attention) + 2 * n_embd * vocab_size;
        3.0 * forward as f64
    }

    /// Estimates the peak memory of a training step, in bytes, for batches of `rows` rows of `seq_len` tokens.
    ///
    /// The estimate is always for f32, because bf16 has not been measured. At the peak each layer has about ten tensors
    /// with an element for each neuron and token (measured on the CPU with four layers of 4096 neurons: 86 MB for a row
    /// of 128 tokens; PyTorch keeps 5.6 tensors). Scores and logits are small in comparison. Parameters count six
    /// times: weights, gradients, two moments and a copy of each half.
    #[must_use]
    pub fn training_bytes(&self, rows: usize, seq_len: usize) -> f64 {
        let tokens = (rows * seq_len) as f64;
        let activations = KEPT_PER_LAYER * self.n_layer as f64 * self.neurons() as f64 * tokens;
        let scores = (self.n_layer * self.n_head * seq_len) as f64 * tokens;
        let logits = 4.0 * tokens * self.vocab_size as f64;
        4.0 * (activations + scores + logits + 6.0 * self.num_params() as f64)
    }
}

/// Number of tensors with an element for each neuron and token that each layer has at the peak.
const KEPT_PER_LAYER: f64 = 10.0;

#[cfg(test)]
mod tests {
    use super::*;
    use bdh::burn::module::Module;

    #[test]
    fn default_has_the_parameters_and_cost_of_the_original() {
        let config = BdhConfig::default();
        assert_eq!(config.num_params(), 25_296_896);
        let forward = config.flops_per_token(512) / 3.0;
        assert!((forward / 5.097e8 - 1.0).abs() < 1e-3, "{forward}"); // four digits
    }

    #[test]
    fn count_from_settings_is_the_count_of_the_module() {
        let config = BdhConfig {
            n_layer: 2,
            n_embd: 8,
            n_head: 2,
            mlp_internal_dim_multiplier: 4,
            vocab_size: 16,
            ..BdhConfig::default()
        };
        let model = config
            .init(0, &Device::flex())
            .expect("the settings are sound");
        assert_eq!(model.num_params(), config.num_params());
    }

    #[test]
    fn errors_name_the_setting_and_suggest_a_value() {
        let odd = BdhConfig {
            n_embd: 3,
            mlp_internal_dim_multiplier: 3,
            ..BdhConfig::default()
        };
        let cases = [
            (
                odd,
                "9 neurons (n_embd 3 times mlp_internal_dim_multiplier 3) do not form pairs in 4 heads: \
                 the number of neurons must be a multiple of 8",
            ),
            (
                BdhConfig {
                    dropout: 1.0,
                    ..BdhConfig::default()
                },
                "`dropout` is 1: it must be 0 or more and below 1, such as 0.1",
            ),
            (
                BdhConfig {
                    n_head: 0,
                    ..BdhConfig::default()
                },
                "`n_head` is 0: it must be at least 1",
            ),
        ];
        for (config, message) in cases {
            let error = config
                .check()
                .expect_err("the settings contradict each other");
            assert_eq!(error.to_string(), message);
        }
    }
}
