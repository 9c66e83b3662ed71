//! Parameters and floating-point operations of a model, from its settings.
//!
//! The counts are arithmetic on the settings and allocate no tensor.

use super::config::{GptConfig, SMEAR_GATE_CHANNELS, VALUE_GATE_CHANNELS};
use serde::{Deserialize, Serialize};

/// Parameter counts of a [`Gpt`](super::Gpt) by part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParamCounts {
    /// The token table.
    pub wte: usize,
    /// The value embeddings of all layers.
    pub value_embeds: usize,
    /// The output head.
    pub lm_head: usize,
    /// All matrices of the blocks, including the gates of the value embeddings.
    pub transformer: usize,
    /// The lambdas and the smear gate.
    pub scalars: usize,
}

impl ParamCounts {
    /// Returns the number of all parameters.
    #[must_use]
    pub fn total(&self) -> usize {
        self.wte + self.value_embeds + self.lm_head + self.transformer + self.scalars
    }

    /// Returns the number of parameters that nanochat's scaling laws count: the matrices of the blocks and the head.
    #[must_use]
    pub fn scaling(&self) -> usize {
        self.transformer + self.lm_head
    }
}

impl GptConfig {
    /// Returns the number of parameters by part.
    #[must_use]
    pub fn num_params(&self) -> ParamCounts {
        let value_layers = (0..self.n_layer)
            .filter(|&layer| self.has_value_embedding(layer))
            .count();
        let attention = 2 * self.n_embd * self.n_embd + 2 * self.n_embd * self.kv_width();
        let mlp = 8 * self.n_embd * self.n_embd;
        ParamCounts {
            wte: self.padded_vocab() * self.n_embd,
            value_embeds: value_layers * self.padded_vocab() * self.kv_width(),
            lm_head: self.padded_vocab() * self.n_embd,
            transformer: self.n_layer * (attention + mlp)
                + value_layers * VALUE_GATE_CHANNELS * self.n_kv_head,
            scalars: 2 * self.n_layer + self.smear_gate() + usize::from(self.has_smear()) + 1, // all lambdas, the smear gate
        }
    }

    /// Returns the number of parameters of the smear gate.
    fn smear_gate(&self) -> usize {
        if self.has_smear() {
            SMEAR_GATE_CHANNELS
        } else {
            0
        }
    }

    /// Returns the training cost of one token in floating-point operations, forward and backward.
    ///
    /// Six for each weight that multiplies the token, and `12·n_head·head_size·min(window, seq_len)` for the attention
    /// of each layer. Tables are looked up, not multiplied, so they do not count.
    #[must_use]
    pub fn flops_per_token(&self, seq_len: usize) -> f64 {
        let multiplied = self.num_params().scaling() + self.smear_gate();
        let seen: usize = (0..self.n_layer)
            .map(|layer| self.window(layer).min(seq_len))
            .sum();
        (6 * multiplied) as f64 + (12 * self.n_embd * seen) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the model of nanochat's `--depth`: 64 channels per layer, heads of `head_size`.
    fn depth(depth: usize, head_size: usize) -> GptConfig {
        let n_embd = (depth * 64).next_multiple_of(head_size);
        let n_head = n_embd / head_size;
        GptConfig {
            n_layer: depth,
            n_embd,
            n_head,
            n_kv_head: n_head,
            ..GptConfig::default()
        }
    }

    #[test]
    fn depth_12_has_the_parameter_counts_of_nanochat() {
        let expected = ParamCounts {
            wte: 25_165_824,
            value_embeds: 150_994_944,
            lm_head: 25_165_824,
            transformer: 84_935_088,
            scalars: 50,
        };
        assert_eq!(depth(12, 128).num_params(), expected);
        assert_eq!(expected.total(), 286_261_730);
    }

    #[test]
    fn every_depth_has_the_parameters_and_cost_of_nanochat() {
        let table = [
            (4, 36_700_242, 11_534_384, 8.02e7),
            (6, 73_531_538, 23_199_852, 1.68e8),
            (8, 125_829_354, 41_943_232, 2.96e8),
            (10, 195_952_986, 70_123_820, 4.95e8),
            (12, 286_261_730, 110_100_912, 7.60e8),
            (16, 536_871_738, 234_881_792, 1.59e9),
            (20, 896_533_746, 435_160_240, 2.89e9),
            (24, 1_384_122_122, 729_810_624, 4.78e9),
        ];
        for (layers, total, scaling, flops) in table {
            let config = depth(layers, 128);
            let counts = config.num_params();
            assert_eq!(
                (counts.total(), counts.scaling()),
                (total, scaling),
                "depth {layers}"
            );
            let error = config.flops_per_token(2048) / flops - 1.0;
            assert!(
                error.abs() < 5e-3,
                "depth {layers}: {}",
                config.flops_per_token(2048)
            ); // three digits
        }
    }
}
