//! `meta_NNNNNN.json`: the description of a checkpoint.

use super::ImportError;
use crate::nanochat::config::{GptConfig, NanochatVersion};
use bdh::BoxError;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Description of a checkpoint: `meta_NNNNNN.json`, under nanochat's names.
///
/// Fields that are not listed here are ignored, and only the step and the model's settings are required.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// Completed updates.
    pub step: u64,
    /// Validation loss in bits per byte; `None` if it was not computed.
    #[serde(default)]
    pub val_bpb: Option<f64>,
    /// Settings of the model.
    pub model_config: ModelConfig,
    /// Flags of the training program, by name.
    #[serde(default)]
    pub user_config: Value,
    /// Rows of a micro-batch on one device; 0 if not known.
    #[serde(default)]
    pub device_batch_size: usize,
    /// Tokens of a row; 0 if not known.
    #[serde(default)]
    pub max_seq_len: usize,
    /// Tokens of an update; 0 if not known.
    #[serde(default)]
    pub total_batch_size: usize,
    /// Position of the data loader after the last batch: `pq_idx`, `rg_idx` and `epoch`.
    #[serde(default)]
    pub dataloader_state_dict: Value,
    /// Numbers that the training loop keeps.
    #[serde(default)]
    pub loop_state: LoopState,
}

/// Settings of a model in a [`Meta`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// Tokens of the longest training input.
    pub sequence_len: usize,
    /// Number of token ids, before padding.
    pub vocab_size: usize,
    /// Number of blocks.
    pub n_layer: usize,
    /// Query heads of each attention.
    pub n_head: usize,
    /// Key and value heads of each attention.
    pub n_kv_head: usize,
    /// Channels of the residual stream.
    pub n_embd: usize,
    /// Attention window of each layer, `S` or `L`. Defaults to `L`, which older checkpoints do not have.
    #[serde(default = "long_windows")]
    pub window_pattern: String,
    /// Tokens of a short window; only the rewrite of nanochat has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub short_seq_len: Option<usize>,
}

/// Numbers that nanochat's training loop keeps across a resume, as far as they are known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LoopState {
    /// Lowest validation loss so far, in bits per byte.
    pub min_val_bpb: Option<f64>,
    /// Moving average of the training loss, not yet corrected for its start at 0.
    pub smooth_train_loss: Option<f64>,
    /// Training time after the first ten steps, in seconds.
    pub total_training_time: Option<f64>,
}

fn long_windows() -> String {
    "L".to_owned()
}

impl Meta {
    /// Creates the description of a model after `step` updates; nothing else is known.
    #[must_use]
    pub fn new(step: u64, config: &GptConfig) -> Self {
        Self {
            step,
            model_config: config.into(),
            ..Self::default()
        }
    }

    /// Reads the description of the checkpoint of a step.
    pub(super) fn read(path: &Path, step: u64) -> Result<Self, ImportError> {
        let read = || -> Result<Self, BoxError> {
            let meta: Self = serde_json::from_str(&plain_json(&fs::read_to_string(path)?))?;
            if meta.step != step {
                return Err(format!("its step is {}, not {step}", meta.step).into());
            }
            Ok(meta)
        };
        read().map_err(|source| ImportError::Meta {
            path: path.to_owned(),
            source,
        })
    }
}

impl From<&GptConfig> for ModelConfig {
    fn from(config: &GptConfig) -> Self {
        let is_next = config.version == NanochatVersion::Next;
        Self {
            sequence_len: config.sequence_len,
            vocab_size: config.vocab_size,
            n_layer: config.n_layer,
            n_head: config.n_head,
            n_kv_head: config.n_kv_head,
            n_embd: config.n_embd,
            window_pattern: config.window_pattern.clone(),
            short_seq_len: is_next.then_some(config.short_seq_len),
        }
    }
}

impl From<&ModelConfig> for GptConfig {
    /// Converts the settings; the precision is the default one.
    fn from(config: &ModelConfig) -> Self {
        let common = Self {
            sequence_len: config.sequence_len,
            vocab_size: config.vocab_size,
            n_layer: config.n_layer,
            n_head: config.n_head,
            n_kv_head: config.n_kv_head,
            n_embd: config.n_embd,
            window_pattern: config.window_pattern.clone(),
            ..Self::default()
        };
        match config.short_seq_len {
            None => common,
            Some(short_seq_len) => Self {
                version: NanochatVersion::Next,
                short_seq_len,
                ..common
            },
        }
    }
}

/// Numbers that Python writes into JSON, although JSON does not have them.
const ODD: [&str; 3] = ["NaN", "Infinity", "-Infinity"];

/// Replaces the numbers that JSON does not have by null, outside of texts.
fn plain_json(text: &str) -> String {
    let (mut plain, mut rest, mut in_text) = (String::with_capacity(text.len()), text, false);
    while let Some(letter) = rest.chars().next() {
        let odd = ODD.iter().find(|word| !in_text && rest.starts_with(**word));
        let length = match odd {
            Some(word) => word.len(),
            // An escaped quotation mark does not end a text.
            None if in_text && letter == '\\' => {
                1 + rest[1..].chars().next().map_or(0, char::len_utf8)
            }
            None => letter.len_utf8(),
        };
        in_text ^= letter == '"';
        let (taken, later) = rest.split_at(length);
        plain.push_str(if odd.is_some() { "null" } else { taken });
        rest = later;
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_json_does_not_have_become_null_outside_of_texts() {
        let text = r#"{"a": -Infinity, "NaN \" Infinity": "ü NaN", "b": [NaN, 1e3, Infinity]}"#;
        let expected = r#"{"a": null, "NaN \" Infinity": "ü NaN", "b": [null, 1e3, null]}"#;
        assert_eq!(plain_json(text), expected);
    }

    #[test]
    fn a_short_description_is_read_and_unknown_fields_are_ignored() {
        let text = r#"{
            "step": 7, "val_bpb": NaN, "new": [1], "loop_state": {"min_val_bpb": Infinity, "later": 1},
            "model_config": {"sequence_len": 8, "vocab_size": 9, "n_layer": 1, "n_head": 2, "n_kv_head": 2, "n_embd": 32,
                             "new": 1}
        }"#;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("meta_000007.json");
        fs::write(&path, text).expect("a file");
        let meta = Meta::read(&path, 7).expect("the required fields");
        assert_eq!(
            (meta.val_bpb, meta.loop_state),
            (None, LoopState::default())
        );
        let config = GptConfig::from(&meta.model_config);
        assert_eq!(config.window_pattern, "L");
        assert_eq!(config.version, NanochatVersion::Master);
        assert_eq!(ModelConfig::from(&config), meta.model_config);
        let error = Meta::read(&path, 8).expect_err("another step").to_string();
        assert!(error.contains("(its step is 7, not 8)"), "{error}");
    }
}
