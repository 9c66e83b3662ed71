//! Settings from Hugging Face's `config.json`.
//!
//! Every setting is read. A setting that affects the logits, and that [`Gpt2`](super::Gpt2) does not implement, is an
//! error with its name.

use super::config::{Gelu, Gpt2Config};
use super::load::{Gpt2LoadError, damaged, read};
use serde_json::{Map, Value, json};
use std::path::Path;

/// Settings that do not affect logits: of generation, of other heads, of training from scratch (including dropout,
/// which [`Gpt2`](super::Gpt2) does not have), and of the library.
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
    /// Reads the settings of a Hugging Face directory from its `config.json`.
    ///
    /// # Errors
    ///
    /// [`Gpt2LoadError::Unreadable`], [`Broken`](Gpt2LoadError::Broken), [`Config`](Gpt2LoadError::Config), or
    /// [`Setting`](Gpt2LoadError::Setting) for a setting that this model does not implement.
    pub fn from_dir(dir: &Path) -> Result<Self, Gpt2LoadError> {
        let path = dir.join("config.json");
        let mut settings: Map<String, Value> = match serde_json::from_slice(&read(&path)?) {
            Ok(settings) => settings,
            Err(error) => return Err(damaged(&path, error.to_string())),
        };
        let mut count = |name: &str| match settings.remove(name).and_then(|value| value.as_u64()) {
            Some(number) => Ok(number as usize),
            None => Err(damaged(&path, format!("it has no number `{name}`"))),
        };
        let (n_layer, n_head, n_embd) = (count("n_layer")?, count("n_head")?, count("n_embd")?);
        let config = Self {
            block_size: count("n_positions")?,
            vocab_size: count("vocab_size")?,
            ..Self::sized(n_layer, n_head, n_embd)
        };
        config.check()?;
        let gelu = gelu(&path, settings.remove("activation_function"))?;
        for (name, value) in settings {
            config.check_setting(&path, &name, &value)?;
        }
        Ok(Self { gelu, ..config })
    }

    /// Checks that a setting does not affect logits, or has the only value that this model implements.
    fn check_setting(&self, path: &Path, name: &str, value: &Value) -> Result<(), Gpt2LoadError> {
        let is_free = name.starts_with('_') || FREE.contains(&name);
        if is_free || value.is_null() {
            return Ok(()); // null is the default, which this model implements
        }
        let expected = match self.fixed(name) {
            Some(fixed) if fixed == *value => return Ok(()),
            Some(fixed) => format!("this model needs {fixed}"),
            None => "this model does not implement it; remove it if the logits do not depend on it"
                .to_owned(),
        };
        Err(unsupported(path, name, value, expected))
    }

    /// Returns the only value that this model implements of a setting with several values.
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

/// Returns the form of the GELU; without a setting, GPT-2's own.
fn gelu(path: &Path, setting: Option<Value>) -> Result<Gelu, Gpt2LoadError> {
    let Some(value) = setting.filter(|value| !value.is_null()) else {
        return Ok(Gelu::Tanh);
    };
    match value.as_str() {
        Some("gelu_new" | "gelu_pytorch_tanh") => Ok(Gelu::Tanh),
        Some("gelu") => Ok(Gelu::Erf),
        _ => {
            let known = "this model needs \"gelu_new\", \"gelu_pytorch_tanh\" or \"gelu\"";
            let name = "activation_function";
            Err(unsupported(path, name, &value, known.to_owned()))
        }
    }
}

fn unsupported(path: &Path, name: &str, value: &Value, expected: String) -> Gpt2LoadError {
    Gpt2LoadError::Setting {
        path: path.to_owned(),
        name: name.to_owned(),
        value: value.to_string(),
        expected,
    }
}
