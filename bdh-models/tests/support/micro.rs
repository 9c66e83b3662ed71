//! The three models with few parameters, on any device and in both precisions.

#![allow(dead_code, reason = "each test uses a part of it")]

use bdh::burn::tensor::Device;
use bdh::lm::RandomCrops;
use bdh::ops::{AdamW, Precision};
use bdh::schedule::constant;
use bdh::{CausalLm, Group, NextToken, Trainer, TrainerBuilder};
use bdh_data::{DataSpec, PlainBytes, fixed_crops, stream};
use bdh_models::bdh_model::{Bdh, BdhConfig};
use bdh_models::gpt2::{self, Gpt2, Gpt2Config};
use bdh_models::nanochat::{self, Gpt, GptConfig, LearningRates};

pub(crate) const SEQ_LEN: usize = 32;
const VOCABULARY: usize = 258;

/// One of the three models, with about ten thousand parameters.
pub(crate) trait Micro: CausalLm + Sized {
    fn on(device: &Device, precision: Precision) -> Self;

    /// Returns the model's parameter groups.
    fn groups(&self) -> Vec<Group>;
}

impl Micro for Gpt2 {
    fn on(device: &Device, precision: Precision) -> Self {
        let config = Gpt2Config::sized(2, 2, 32);
        let config = Gpt2Config {
            vocab_size: VOCABULARY,
            block_size: SEQ_LEN,
            precision,
            ..config
        };
        config.init(3, device).expect("a model")
    }

    fn groups(&self) -> Vec<Group> {
        gpt2::groups(0.1, constant(3e-3)).into_iter().collect()
    }
}

impl Micro for Gpt {
    fn on(device: &Device, precision: Precision) -> Self {
        let config = GptConfig {
            sequence_len: SEQ_LEN,
            vocab_size: VOCABULARY,
            n_layer: 3, // so that the stream that is backed out is not the last
            n_head: 2,
            n_kv_head: 1,
            n_embd: 32,
            precision,
            ..GptConfig::default()
        };
        config.init(3, device).expect("a model")
    }

    fn groups(&self) -> Vec<Group> {
        let groups = nanochat::groups(self.config(), LearningRates::default(), 0.1, None);
        groups
            .iter()
            .map(|group| group.scheduled(|lr| constant(0.1 * lr)))
            .collect()
    }
}

impl Micro for Bdh {
    fn on(device: &Device, precision: Precision) -> Self {
        let config = BdhConfig {
            n_layer: 2,
            n_embd: 32,
            n_head: 2,
            mlp_internal_dim_multiplier: 8,
            vocab_size: VOCABULARY,
            dropout: 0.0, // the masks of f32 are drawn in another way
            precision,
            ..BdhConfig::default()
        };
        config.init(3, device).expect("a model")
    }

    fn groups(&self) -> Vec<Group> {
        vec![Group::new(
            "all",
            |_| true,
            AdamW::default(),
            constant(3e-3),
        )]
    }
}

/// Returns the tokens of the training text.
pub(crate) fn text() -> Vec<i32> {
    let corpus = DataSpec::Synthetic.load().expect("text that is made here");
    stream(&PlainBytes, &corpus.train)
}

/// Returns training data from that text.
pub(crate) fn crops() -> RandomCrops {
    RandomCrops::new(text(), 4, SEQ_LEN, 3).expect("enough text")
}

/// Composes a run that learns that text.
pub(crate) fn run<M: CausalLm>(model: M) -> TrainerBuilder<NextToken<M>> {
    let val = fixed_crops(text(), 4, SEQ_LEN, 4).expect("enough text");
    Trainer::builder(NextToken::new().vocabulary(PlainBytes), model)
        .train_data(crops())
        .eval_data("val", val)
}
