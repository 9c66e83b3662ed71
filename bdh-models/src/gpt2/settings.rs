//! Hugging Face's `config.json`, read whole: a setting that decides what is computed, and that [`Gpt2`](super::Gpt2) does not
//! compute, is refused by its name.

use super::config::{Gelu, Gpt2Config};
use super::load::{Gpt2LoadError, read};
use serde_json::{Map, Value, json};
use std::path::Path;

/// Settings on which no logit depends: of generation, of other heads, of training from nothing (dropout among them, which
/// ours does without), and of the library.
const FREE: [&str; 66] = [
    "architectures",
    "attn_implementation",
    "attn_pdrop",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "classifier_dropout",
    "cls_token_id",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dtype",
    "early_stopping",
    "embd_pdrop",
    "encoder_no_repeat_ngram_size",
    "eos_token_id",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "gradient_checkpointing",
    "id2label",
    "initializer_range",
    "is_decoder",
    "keys_to_ignore_at_inference",
    "label2id",
    "length_penalty",
    "max_length",
    "max_new_tokens",
    "min_length",
    "n_special",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_labels",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_past",
    "output_scores",
    "pad_token_id",
    "predict_special_tokens",
    "prefix",
    "problem_type",
    "remove_invalid_values",
    "repetition_penalty",
    "resid_pdrop",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "typical_p",
    "use_cache",
];

impl Gpt2Config {
    /// Reads the settings of a Hugging Face directory, from its `config.json`.
    ///
    /// # Errors
    ///
    /// [`Gpt2LoadError::Unreadable`], [`Broken`](Gpt2LoadError::Broken), [`Config`](Gpt2LoadError::Config), or
    /// [`Setting`](Gpt2LoadError::Setting) for one that this model does not compute.
    pub fn from_dir(dir: &Path) -> Result<Self, Gpt2LoadError> {
        let path = dir.join("config.json");
        let text = read(&path)?;
        let broken = |why: String| Gpt2LoadError::Broken {
            path: path.clone(),
            why,
        };
        let mut settings: Map<String, Value> =
            serde_json::from_slice(&text).map_err(|error| broken(error.to_string()))?;
        let mut count = |name: &str| {
            let number = settings.remove(name).and_then(|value| value.as_u64());
            number.ok_or_else(|| broken(format!("it has no number `{name}`")))
        };
        let shape = [count("n_layer")?, count("n_head")?, count("n_embd")?].map(|n| n as usize);
        let config = Self {
            block_size: count("n_positions")? as usize,
            vocab_size: count("vocab_size")? as usize,
            ..Self::sized(shape[0], shape[1], shape[2])
        };
        config.check()?;
        let refused = |name: &str, value: Value, expected: String| Gpt2LoadError::Setting {
            path: path.clone(),
            name: name.to_owned(),
            value: value.to_string(),
            expected,
        };
        let gelu = match settings.remove("activation_function") {
            None | Some(Value::Null) => Gelu::Tanh, // GPT-2's own
            Some(value) => match value.as_str() {
                Some("gelu_new" | "gelu_pytorch_tanh") => Gelu::Tanh,
                Some("gelu") => Gelu::Erf,
                _ => {
                    let known =
                        "this model computes \"gelu_new\", \"gelu_pytorch_tanh\" or \"gelu\"";
                    return Err(refused("activation_function", value, known.to_owned()));
                }
            },
        };
        for (name, value) in settings {
            let is_free = name.starts_with('_') || FREE.contains(&name.as_str());
            if is_free || value.is_null() {
                continue; // null is the default, which is ours
            }
            match config.fixed(&name) {
                Some(ours) if ours == value => {}
                Some(ours) => {
                    return Err(refused(
                        &name,
                        value,
                        format!("this model computes with {ours}"),
                    ));
                }
                None => {
                    let unknown =
                        "this model does not know it; remove it if no number depends on it";
                    return Err(refused(&name, value, unknown.to_owned()));
                }
            }
        }
        Ok(Self { gelu, ..config })
    }

    /// The only value that this model computes with of a setting that others may vary.
    fn fixed(&self, name: &str) -> Option<Value> {
        Some(match name {
            "model_type" => json!("gpt2"),
            "n_ctx" => json!(self.block_size),
            "n_inner" => json!(self.n_embd.saturating_mul(4)),
            "layer_norm_epsilon" => json!(1e-5),
            "scale_attn_weights" | "tie_word_embeddings" => json!(true),
            "scale_attn_by_inverse_layer_idx"
            | "reorder_and_upcast_attn"
            | "add_cross_attention"
            | "is_encoder_decoder"
            | "use_bfloat16" => json!(false),
            "chunk_size_feed_forward" => json!(0),
            "pruned_heads" => json!({}),
            _ => return None,
        })
    }
}
