//! What decides the shape of a [`Gpt`]: its settings and their checks.

use super::gpt::Gpt;
use bdh::burn::tensor::Device;
use bdh::ops::Precision;
use serde::{Deserialize, Serialize};

/// Channels of the normed block input that gate the value embeddings.
pub(super) const VALUE_GATE_CHANNELS: usize = 12;
/// Channels of an embedded token that gate the smear of the token before it.
pub(crate) const SMEAR_GATE_CHANNELS: usize = 24;
/// Tables and the head have their rows padded to a multiple of this, for the matrix units of GPUs.
const VOCAB_MULTIPLE: usize = 64;
/// Short windows are rounded up to a multiple of this, the tile of the attention kernels.
const WINDOW_MULTIPLE: usize = 128;

/// The settings of a [`Gpt`], under the names of nanochat's `GPTConfig`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GptConfig {
    /// Tokens that the longest input holds. Defaults to 2048.
    pub sequence_len: usize,
    /// Token ids, before padding. Defaults to 32768.
    pub vocab_size: usize,
    /// Blocks of attention and MLP. Defaults to 12.
    pub n_layer: usize,
    /// Query heads of each attention. Defaults to 6.
    pub n_head: usize,
    /// Key and value heads; each serves `n_head / n_kv_head` query heads. Defaults to 6.
    pub n_kv_head: usize,
    /// Channels of the residual stream. Defaults to 768.
    pub n_embd: usize,
    /// `S` (a quarter of `sequence_len`) or `L` (all of it) for each layer, tiled. Defaults to `SSSL`.
    ///
    /// The last layer sees everything, whatever the pattern says.
    pub window_pattern: String,
    /// What it computes in; parameters, gradients and logits are `f32` either way. Defaults to `f32`.
    pub precision: Precision,
}

impl Default for GptConfig {
    fn default() -> Self {
        Self {
            sequence_len: 2048,
            vocab_size: 32_768,
            n_layer: 12,
            n_head: 6,
            n_kv_head: 6,
            n_embd: 768,
            window_pattern: "SSSL".into(),
            precision: Precision::default(),
        }
    }
}

/// Why settings describe no model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GptConfigError {
    /// A count is zero.
    #[error("`{field}` is 0, and the model needs at least 1")]
    Zero {
        /// The setting.
        field: &'static str,
    },
    /// The width cannot be cut into heads.
    #[error("n_embd {n_embd} is not a multiple of n_head {n_head}; n_embd {} would be", n_embd.next_multiple_of(*n_head))]
    UnevenHeads {
        /// The width asked for.
        n_embd: usize,
        /// The heads asked for.
        n_head: usize,
    },
    /// Rotary embeddings turn pairs of channels.
    #[error(
        "n_embd {n_embd} over n_head {n_head} gives heads of {} channels, and rotary embeddings need an even \
         number; n_embd {} would give {}",
        n_embd / n_head, n_embd + n_head, n_embd / n_head + 1
    )]
    OddHeadSize {
        /// The width asked for.
        n_embd: usize,
        /// The heads asked for.
        n_head: usize,
    },
    /// The smear gate reads more channels than there are.
    #[error(
        "n_embd {n_embd} is too narrow: the smear gate reads the first {SMEAR_GATE_CHANNELS} channels, so n_embd must be {SMEAR_GATE_CHANNELS} or more"
    )]
    Narrow {
        /// The width asked for.
        n_embd: usize,
    },
    /// Query heads cannot be shared out among key heads.
    #[error(
        "n_head {n_head} is not a multiple of n_kv_head {n_kv_head}; n_kv_head 1 or {n_head} would work"
    )]
    UnevenGroups {
        /// The query heads asked for.
        n_head: usize,
        /// The key and value heads asked for.
        n_kv_head: usize,
    },
    /// The window pattern is empty or has a foreign letter.
    #[error(
        "window_pattern `{pattern}` is not made of S and L, one letter a layer, such as SSSL or L"
    )]
    WindowPattern {
        /// The pattern asked for.
        pattern: String,
    },
}

impl GptConfig {
    /// Checks that the settings describe a model.
    ///
    /// # Errors
    ///
    /// The first [`GptConfigError`] that applies; its message says what would work.
    pub fn check(&self) -> Result<(), GptConfigError> {
        let Self {
            n_embd,
            n_head,
            n_kv_head,
            ..
        } = *self;
        self.check_counts()?;
        if !n_embd.is_multiple_of(n_head) {
            return Err(GptConfigError::UnevenHeads { n_embd, n_head });
        }
        if !self.head_size().is_multiple_of(2) {
            return Err(GptConfigError::OddHeadSize { n_embd, n_head });
        }
        if n_embd < SMEAR_GATE_CHANNELS {
            return Err(GptConfigError::Narrow { n_embd });
        }
        if !n_head.is_multiple_of(n_kv_head) {
            return Err(GptConfigError::UnevenGroups { n_head, n_kv_head });
        }
        if self.window_pattern.is_empty()
            || self.window_pattern.contains(|letter| !is_window(letter))
        {
            return Err(GptConfigError::WindowPattern {
                pattern: self.window_pattern.clone(),
            });
        }
        Ok(())
    }

    fn check_counts(&self) -> Result<(), GptConfigError> {
        let counts = [
            ("sequence_len", self.sequence_len),
            ("vocab_size", self.vocab_size),
            ("n_layer", self.n_layer),
            ("n_head", self.n_head),
            ("n_kv_head", self.n_kv_head),
        ];
        match counts.into_iter().find(|(_, count)| *count == 0) {
            Some((field, _)) => Err(GptConfigError::Zero { field }),
            None => Ok(()),
        }
    }

    /// Builds the model with the weights that `seed` stands for.
    ///
    /// The weights depend on `seed` and the parameters' names alone: drawing something else before, or on
    /// another device, changes nothing.
    ///
    /// # Errors
    ///
    /// Those of [`check`](Self::check).
    pub fn init(&self, seed: u64, device: &Device) -> Result<Gpt, GptConfigError> {
        self.check()?;
        Ok(Gpt::draw(self, seed, device))
    }

    /// Channels of one attention head.
    #[must_use]
    pub fn head_size(&self) -> usize {
        self.n_embd / self.n_head
    }

    /// Rows of the token tables and the head: the vocabulary rounded up to a multiple of 64.
    #[must_use]
    pub fn padded_vocab(&self) -> usize {
        self.vocab_size.next_multiple_of(VOCAB_MULTIPLE)
    }

    /// Channels of all key heads together, and so of a value embedding.
    #[must_use]
    pub fn kv_width(&self) -> usize {
        self.n_kv_head * self.head_size()
    }

    /// How many tokens back a query of `layer` sees, itself not counted.
    #[must_use]
    pub fn window(&self, layer: usize) -> usize {
        let letters = self.window_pattern.as_bytes();
        let long =
            layer + 1 == self.n_layer || letters[layer % letters.len()].eq_ignore_ascii_case(&b'L');
        if long {
            self.sequence_len
        } else {
            self.short_window()
        }
    }

    /// The window that `S` stands for: a quarter of the sequence, in whole tiles of 128 tokens.
    pub(super) fn short_window(&self) -> usize {
        self.sequence_len
            .div_ceil(4)
            .next_multiple_of(WINDOW_MULTIPLE)
    }

    /// Whether `layer` adds an embedding of the token to its values: every other layer, the last included.
    #[must_use]
    pub fn has_value_embedding(&self, layer: usize) -> bool {
        layer % 2 == (self.n_layer - 1) % 2
    }
}

fn is_window(letter: char) -> bool {
    matches!(letter.to_ascii_uppercase(), 'S' | 'L')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> GptConfig {
        GptConfig {
            n_layer: 2,
            n_head: 2,
            n_kv_head: 1,
            n_embd: 32,
            ..GptConfig::default()
        }
    }

    #[test]
    fn short_windows_are_a_quarter_in_whole_tiles_and_the_last_layer_sees_all() {
        let mut config = GptConfig {
            n_layer: 6,
            ..GptConfig::default()
        };
        let windows: Vec<_> = (0..6).map(|layer| config.window(layer)).collect();
        assert_eq!(windows, [512, 512, 512, 2048, 512, 2048]);
        config.sequence_len = 512;
        assert_eq!((config.window(0), config.window(3)), (128, 512));
        config.sequence_len = 16; // shorter than a tile: no query is that far from the first token
        assert_eq!((config.window(0), config.window(3)), (128, 16));
    }

    #[test]
    fn every_other_layer_up_to_the_last_has_a_value_embedding() {
        let of = |n_layer| {
            let config = GptConfig {
                n_layer,
                ..GptConfig::default()
            };
            (0..n_layer)
                .filter(|&layer| config.has_value_embedding(layer))
                .collect::<Vec<_>>()
        };
        assert_eq!((of(1), of(2), of(3)), (vec![0], vec![1], vec![0, 2]));
    }

    #[test]
    fn a_setting_that_cannot_work_is_named_with_one_that_would() {
        let cases = [
            (
                GptConfig {
                    n_embd: 33,
                    ..small()
                },
                "n_embd 33 is not a multiple of n_head 2; n_embd 34 would be",
            ),
            (
                GptConfig {
                    n_embd: 34,
                    ..small()
                },
                "n_embd 34 over n_head 2 gives heads of 17 channels, and rotary embeddings need an even number; \
                 n_embd 36 would give 18",
            ),
            (
                GptConfig {
                    n_embd: 16,
                    ..small()
                },
                "n_embd 16 is too narrow: the smear gate reads the first 24 channels, so n_embd must be 24 or \
                 more",
            ),
            (
                GptConfig {
                    n_head: 4,
                    n_kv_head: 3,
                    ..small()
                },
                "n_head 4 is not a multiple of n_kv_head 3; n_kv_head 1 or 4 would work",
            ),
            (
                GptConfig {
                    window_pattern: "SLM".into(),
                    ..small()
                },
                "window_pattern `SLM` is not made of S and L, one letter a layer, such as SSSL or L",
            ),
            (
                GptConfig {
                    n_head: 0,
                    ..small()
                },
                "`n_head` is 0, and the model needs at least 1",
            ),
        ];
        for (config, message) in cases {
            let error = config
                .check()
                .expect_err("the settings contradict each other");
            assert_eq!(error.to_string(), message);
        }
        assert_eq!(small().check(), Ok(()));
    }

    #[test]
    fn a_config_reads_back_from_json_with_defaults_for_what_is_left_out() {
        let config: GptConfig =
            serde_json::from_str(r#"{"n_layer": 2}"#).expect("a partial config is one");
        assert_eq!(
            config,
            GptConfig {
                n_layer: 2,
                ..GptConfig::default()
            }
        );
    }
}
