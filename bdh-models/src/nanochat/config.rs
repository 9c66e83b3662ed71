//! Settings of a [`Gpt`], and their checks.

use super::gpt::Gpt;
use bdh::burn::tensor::Device;
use bdh::ops::Precision;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Channels of the normed block input that gate the value embeddings.
pub(super) const VALUE_GATE_CHANNELS: usize = 12;
/// Channels of an embedded token that gate the smear of the token before it.
pub(crate) const SMEAR_GATE_CHANNELS: usize = 24;
/// Multiple that the rows of tables and head are padded to, for the matrix units of GPUs.
const VOCAB_MULTIPLE: usize = 64;
/// Multiple that short windows are rounded up to: the tile of nanochat's attention kernels.
const WINDOW_MULTIPLE: usize = 128;
/// Multiple of `sequence_len` that the rotary tables reach. Source: nanochat.
const CONTEXT_MULTIPLE: usize = 10;
/// Short window of nanochat's next version, in tokens.
pub const SHORT_SEQ_LEN: usize = 512;

/// Version of nanochat that a model and its training follow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NanochatVersion {
    /// nanochat's master branch at 92d63d4.
    #[default]
    Master,
    /// The author's open rewrite (pull request 800): no smear, value embeddings from a normal distribution, short windows
    /// of a fixed length, and laws that follow the chosen number of tokens.
    Next,
}

/// Error of a name that is no version of nanochat.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown version `{0}` of nanochat: use master or next")]
pub struct UnknownVersion(String);

impl FromStr for NanochatVersion {
    type Err = UnknownVersion;

    fn from_str(name: &str) -> Result<Self, UnknownVersion> {
        match name {
            "master" => Ok(Self::Master),
            "next" => Ok(Self::Next),
            other => Err(UnknownVersion(other.to_owned())),
        }
    }
}

impl fmt::Display for NanochatVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Master => "master",
            Self::Next => "next",
        })
    }
}

/// Settings of a [`Gpt`], under the names of nanochat's `GPTConfig`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GptConfig {
    /// Tokens of the training sequences; evaluation and generation reach [`max_context`](Self::max_context). Defaults to
    /// 2048.
    pub sequence_len: usize,
    /// Number of token ids, before padding. Defaults to 32768.
    pub vocab_size: usize,
    /// Number of blocks of attention and MLP. Defaults to 12.
    pub n_layer: usize,
    /// Query heads of each attention. Defaults to 6.
    pub n_head: usize,
    /// Key and value heads; each serves `n_head / n_kv_head` query heads. Defaults to 6.
    pub n_kv_head: usize,
    /// Channels of the residual stream. Defaults to 768.
    pub n_embd: usize,
    /// Attention window of each layer, tiled: `S` is a quarter of `sequence_len`, `L` all of it. Defaults to `SSSL`.
    ///
    /// The window of the last layer is always `L`.
    pub window_pattern: String,
    /// Precision of activations; parameters, gradients and logits are always `f32`. Defaults to `f32`.
    pub precision: Precision,
    /// Version of nanochat. Defaults to master.
    #[serde(skip_serializing_if = "is_master")]
    pub version: NanochatVersion,
    /// Tokens of the window `S`, of the next version only. Defaults to 512.
    #[serde(skip_serializing_if = "is_default_window")]
    pub short_seq_len: usize,
}

// Configurations that were saved before the fields existed stay equal to new ones.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_master(version: &NanochatVersion) -> bool {
    *version == NanochatVersion::Master
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_default_window(tokens: &usize) -> bool {
    *tokens == SHORT_SEQ_LEN
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
            version: NanochatVersion::default(),
            short_seq_len: SHORT_SEQ_LEN,
        }
    }
}

/// Error of settings that describe no model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GptConfigError {
    /// A count is zero.
    #[error("`{field}` is 0: it must be at least 1")]
    Zero {
        /// The setting.
        field: &'static str,
    },
    /// The width is not a multiple of the number of heads.
    #[error("n_embd {n_embd} is not a multiple of n_head {n_head}: use n_embd {}", n_embd.next_multiple_of(*n_head))]
    UnevenHeads {
        /// Requested width.
        n_embd: usize,
        /// Requested number of heads.
        n_head: usize,
    },
    /// The head size is odd, and rotary embeddings rotate pairs of channels.
    #[error(
        "n_embd {n_embd} over n_head {n_head} gives a head size of {}, and rotary embeddings need an even \
         one: use n_embd {}, which gives {}",
        n_embd / n_head, n_embd + n_head, n_embd / n_head + 1
    )]
    OddHeadSize {
        /// Requested width.
        n_embd: usize,
        /// Requested number of heads.
        n_head: usize,
    },
    /// The width is smaller than the number of channels that the smear gate reads.
    #[error(
        "n_embd {n_embd} is too small: the smear gate reads {SMEAR_GATE_CHANNELS} channels, so use {SMEAR_GATE_CHANNELS} or more"
    )]
    Narrow {
        /// Requested width.
        n_embd: usize,
    },
    /// The number of query heads is not a multiple of the number of key heads.
    #[error(
        "n_head {n_head} is not a multiple of n_kv_head {n_kv_head}: use n_kv_head 1 or {n_head}"
    )]
    UnevenGroups {
        /// Requested number of query heads.
        n_head: usize,
        /// Requested number of key and value heads.
        n_kv_head: usize,
    },
    /// The window pattern is empty, or has letters other than S and L.
    #[error(
        "window_pattern `{pattern}` must consist of the letters S and L, one for each layer, such as SSSL or L"
    )]
    WindowPattern {
        /// Requested pattern.
        pattern: String,
    },
}

impl GptConfig {
    /// Checks that the settings describe a model.
    ///
    /// # Errors
    ///
    /// The first [`GptConfigError`] that applies; its message suggests a setting that works.
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
        if self.has_smear() && n_embd < SMEAR_GATE_CHANNELS {
            return Err(GptConfigError::Narrow { n_embd });
        }
        if !n_head.is_multiple_of(n_kv_head) {
            return Err(GptConfigError::UnevenGroups { n_head, n_kv_head });
        }
        self.check_window_pattern()
    }

    fn check_window_pattern(&self) -> Result<(), GptConfigError> {
        let pattern = &self.window_pattern;
        if pattern.is_empty() || pattern.contains(|letter| !is_window(letter)) {
            return Err(GptConfigError::WindowPattern {
                pattern: pattern.clone(),
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
            ("short_seq_len", self.short_seq_len),
        ];
        match counts.into_iter().find(|(_, count)| *count == 0) {
            Some((field, _)) => Err(GptConfigError::Zero { field }),
            None => Ok(()),
        }
    }

    /// Builds the model with initial weights drawn from `seed`.
    ///
    /// The weights depend only on `seed` and the names of the parameters, not on the device or on earlier draws.
    ///
    /// # Errors
    ///
    /// A [`GptConfigError`] if [`check`](Self::check) fails.
    pub fn init(&self, seed: u64, device: &Device) -> Result<Gpt, GptConfigError> {
        self.check()?;
        Ok(Gpt::draw(self, seed, device))
    }

    /// Returns the number of channels of an attention head.
    #[must_use]
    pub fn head_size(&self) -> usize {
        self.n_embd / self.n_head
    }

    /// Returns the rows of the token tables and the head: the vocabulary rounded up to a multiple of 64.
    #[must_use]
    pub fn padded_vocab(&self) -> usize {
        self.vocab_size.next_multiple_of(VOCAB_MULTIPLE)
    }

    /// Returns the number of channels of all key heads together, which is also that of a value embedding.
    #[must_use]
    pub fn kv_width(&self) -> usize {
        self.n_kv_head * self.head_size()
    }

    /// Returns how many earlier tokens a query of `layer` sees.
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

    /// Returns the window of `S`: a quarter of the sequence, rounded up to whole tiles of 128 tokens; in the next version
    /// a number of tokens.
    pub(super) fn short_window(&self) -> usize {
        match self.version {
            NanochatVersion::Master => self
                .sequence_len
                .div_ceil(4)
                .next_multiple_of(WINDOW_MULTIPLE),
            NanochatVersion::Next => self.short_seq_len,
        }
    }

    /// Returns the tokens of the longest input: ten times `sequence_len`, as far as nanochat's rotary tables reach.
    #[must_use]
    pub fn max_context(&self) -> usize {
        CONTEXT_MULTIPLE * self.sequence_len
    }

    /// Returns whether a little of each token is added to the next one, which the next version does not do.
    #[must_use]
    pub fn has_smear(&self) -> bool {
        self.version == NanochatVersion::Master
    }

    /// Returns whether `layer` adds an embedding of the token to its values: every other layer, including the last.
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
    fn short_windows_are_whole_tiles_and_the_last_window_is_long() {
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
    fn every_other_layer_has_a_value_embedding() {
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
    fn errors_name_the_setting_and_suggest_a_value() {
        let cases = [
            (
                GptConfig {
                    n_embd: 33,
                    ..small()
                },
                "n_embd 33 is not a multiple of n_head 2: use n_embd 34",
            ),
            (
                GptConfig {
                    n_embd: 34,
                    ..small()
                },
                "n_embd 34 over n_head 2 gives a head size of 17, and rotary embeddings need an even one: \
                 use n_embd 36, which gives 18",
            ),
            (
                GptConfig {
                    n_embd: 16,
                    ..small()
                },
                "n_embd 16 is too small: the smear gate reads 24 channels, so use 24 or more",
            ),
            (
                GptConfig {
                    n_head: 4,
                    n_kv_head: 3,
                    ..small()
                },
                "n_head 4 is not a multiple of n_kv_head 3: use n_kv_head 1 or 4",
            ),
            (
                GptConfig {
                    window_pattern: "SLM".into(),
                    ..small()
                },
                "window_pattern `SLM` must consist of the letters S and L, one for each layer, such as SSSL or L",
            ),
            (
                GptConfig {
                    n_head: 0,
                    ..small()
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
        assert_eq!(small().check(), Ok(()));
    }

    #[test]
    fn partial_json_config_is_completed_with_defaults() {
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
