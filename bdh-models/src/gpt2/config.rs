//! Settings of a [`Gpt2`], their checks, and counts that follow from them.

use super::model::Gpt2;
use crate::init::Weights;
use bdh::burn::tensor::Device;
use bdh::ops::Precision;
use serde::{Deserialize, Serialize};

/// Settings of a [`Gpt2`], under the names of nanoGPT's `GPTConfig`. The default is GPT-2 with 124M parameters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gpt2Config {
    /// Tokens of the longest input. Defaults to 1024.
    pub block_size: usize,
    /// Number of token ids. Defaults to 50257; build-nanogpt trains with 50304, a multiple of 128.
    pub vocab_size: usize,
    /// Number of blocks of attention and MLP. Defaults to 12.
    pub n_layer: usize,
    /// Number of attention heads. Defaults to 12.
    pub n_head: usize,
    /// Channels of the residual stream. Defaults to 768.
    pub n_embd: usize,
    /// Whether linear layers and norms have a bias. Defaults to true, like GPT-2.
    pub bias: bool,
    /// Form of the GELU. Defaults to the approximation that GPT-2 was trained with.
    pub gelu: Gelu,
    /// Precision of activations; parameters, gradients and logits are always `f32`. Defaults to `f32`.
    pub precision: Precision,
}

/// Form of the GELU in the MLPs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gelu {
    /// Exact form with the error function, used by nanoGPT.
    Erf,
    /// Approximation with a hyperbolic tangent, used by GPT-2 and build-nanogpt.
    #[default]
    Tanh,
}

impl Default for Gpt2Config {
    fn default() -> Self {
        Self::sized(12, 12, 768)
    }
}

/// Error of settings that describe no model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Gpt2ConfigError {
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
}

impl Gpt2Config {
    /// Returns GPT-2 with other sizes.
    ///
    /// 124M is 12, 12, 768; 350M is 24, 16, 1024; 774M is 36, 20, 1280; 1558M is 48, 25, 1600.
    #[must_use]
    pub fn sized(n_layer: usize, n_head: usize, n_embd: usize) -> Self {
        Self {
            block_size: 1024,
            vocab_size: 50_257,
            n_layer,
            n_head,
            n_embd,
            bias: true,
            gelu: Gelu::default(),
            precision: Precision::default(),
        }
    }

    /// Checks that the settings describe a model.
    ///
    /// # Errors
    ///
    /// The first [`Gpt2ConfigError`] that applies; its message suggests a setting that works.
    pub fn check(&self) -> Result<(), Gpt2ConfigError> {
        let Self { n_embd, n_head, .. } = *self;
        let counts = [
            ("block_size", self.block_size),
            ("vocab_size", self.vocab_size),
            ("n_layer", self.n_layer),
            ("n_head", n_head),
            ("n_embd", n_embd),
        ];
        match counts.into_iter().find(|(_, count)| *count == 0) {
            Some((field, _)) => Err(Gpt2ConfigError::Zero { field }),
            None if !n_embd.is_multiple_of(n_head) => {
                Err(Gpt2ConfigError::UnevenHeads { n_embd, n_head })
            }
            None => Ok(()),
        }
    }

    /// Builds the model with initial weights drawn from `seed`.
    ///
    /// # Errors
    ///
    /// A [`Gpt2ConfigError`] if [`check`](Self::check) fails.
    pub fn init(&self, seed: u64, device: &Device) -> Result<Gpt2, Gpt2ConfigError> {
        self.check()?;
        Ok(Gpt2::new(self, &Weights::new(seed, device), device))
    }

    /// Returns the number of parameters. The head is the token table and counts once.
    #[must_use]
    pub fn num_params(&self) -> usize {
        let mut count = 0;
        for (_, shape) in self.parameters() {
            count += shape.iter().product::<usize>();
        }
        count
    }

    /// Returns the training cost of one token in floating-point operations, forward and backward.
    ///
    /// Six for each weight that multiplies the token, including the head and without the table of positions, and
    /// `12·n_layer·n_embd·seq_len` for attention. Source: nanoGPT's `estimate_mfu`.
    #[must_use]
    pub fn flops_per_token(&self, seq_len: usize) -> f64 {
        let multiplied = self.num_params() - self.block_size * self.n_embd;
        (6 * multiplied) as f64 + (12 * self.n_layer * self.n_embd * seq_len) as f64
    }

    /// Returns the name of each parameter and its shape in burn's layout, where linear weights are `[in, out]`.
    pub(super) fn parameters(&self) -> Vec<(String, Vec<usize>)> {
        let width = self.n_embd;
        let mut all = vec![
            (
                "transformer.wte.weight".to_owned(),
                vec![self.vocab_size, width],
            ),
            (
                "transformer.wpe.weight".to_owned(),
                vec![self.block_size, width],
            ),
        ];
        for layer in 0..self.n_layer {
            let of_layer = [
                ("ln_1", vec![width]),
                ("attn.c_attn", vec![width, 3 * width]),
                ("attn.c_proj", vec![width, width]),
                ("ln_2", vec![width]),
                ("mlp.c_fc", vec![width, 4 * width]),
                ("mlp.c_proj", vec![4 * width, width]),
            ];
            for (name, shape) in of_layer {
                self.add(&mut all, &format!("transformer.h.{layer}.{name}"), shape);
            }
        }
        self.add(&mut all, "transformer.ln_f", vec![width]);
        all
    }

    /// Adds a weight, and its bias with an element for each output.
    fn add(&self, all: &mut Vec<(String, Vec<usize>)>, name: &str, shape: Vec<usize>) {
        let outputs = shape.last().copied().into_iter().collect();
        all.push((format!("{name}.weight"), shape));
        if self.bias {
            all.push((format!("{name}.bias"), outputs));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bdh::stats::ParamTable;

    #[test]
    fn each_size_of_gpt_2_has_its_number_of_parameters() {
        let sizes = [
            (Gpt2Config::default(), 124_439_808),
            (
                Gpt2Config {
                    vocab_size: 50_304,
                    ..Gpt2Config::default()
                },
                124_475_904,
            ),
            (Gpt2Config::sized(24, 16, 1024), 354_823_168),
            (Gpt2Config::sized(36, 20, 1280), 774_030_080),
            (Gpt2Config::sized(48, 25, 1600), 1_557_611_200),
        ];
        for (config, params) in sizes {
            assert_eq!(config.num_params(), params, "{config:?}");
        }
    }

    #[test]
    fn parameters_from_settings_are_those_of_the_module() {
        for bias in [true, false] {
            let small = Gpt2Config {
                block_size: 8,
                vocab_size: 10,
                bias,
                ..Gpt2Config::sized(2, 2, 4)
            };
            let model = small
                .init(0, &Device::flex().autodiff())
                .expect("the settings are sound");
            let table = ParamTable::of(&model);
            let listed = |(name, shape): &(String, Vec<usize>)| (name.clone(), shape.clone());
            let module = table
                .iter()
                .map(|param| (param.name.clone(), param.shape.clone()));
            let settings = small.parameters();
            assert_eq!(
                module.collect::<Vec<_>>(),
                settings.iter().map(listed).collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn errors_name_the_setting_and_suggest_a_value() {
        let uneven = Gpt2Config::sized(2, 3, 64)
            .check()
            .expect_err("64 over 3")
            .to_string();
        assert_eq!(
            uneven,
            "n_embd 64 is not a multiple of n_head 3: use n_embd 66"
        );
        let zero = Gpt2Config {
            block_size: 0,
            ..Gpt2Config::default()
        };
        let zero = zero.check().expect_err("no tokens").to_string();
        assert_eq!(zero, "`block_size` is 0: it must be at least 1");
    }
}
