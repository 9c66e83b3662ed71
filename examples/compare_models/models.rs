//! The three models at about 425 thousand parameters, each with the optimizer of its original.

use crate::{Bench, ROWS, SEQ_LEN, Trained};
use bdh::ops::AdamW;
use bdh::{BoxError, Group, constant, warmup_stable_decay};
use bdh_models::gpt2::{self, Gpt2Config};
use bdh_models::hatchling::BdhConfig;
use bdh_models::nanochat::{self, GptConfig, LearningRates, Schedule};

/// Trains all three in turn.
pub(crate) fn all(bench: &Bench) -> Result<Vec<Trained>, BoxError> {
    Ok(vec![bdh(bench)?, gpt2(bench)?, nanochat(bench)?])
}

/// AdamW at a constant 1e-3 with a decay of 0.1, as BDH's `train.py`.
fn bdh(bench: &Bench) -> Result<Trained, BoxError> {
    let config = BdhConfig {
        n_layer: 3,
        n_embd: 64,
        mlp_internal_dim_multiplier: 32,
        ..BdhConfig::default()
    };
    let model = config.init(bench.seed, &bdh::device("cpu")?)?;
    let adamw = AdamW {
        weight_decay: 0.1,
        ..AdamW::default()
    };
    bench.train(
        "BDH",
        model,
        [Group::new("default", |_| true, adamw, constant(1e-3))],
        ".xy",
    )
}

/// AdamW with build-nanogpt's groups and cosine, at nanoGPT's 1e-3 for models this small.
fn gpt2(bench: &Bench) -> Result<Trained, BoxError> {
    let config = Gpt2Config {
        block_size: SEQ_LEN,
        vocab_size: 256,
        ..Gpt2Config::sized(4, 3, 90)
    };
    let model = config.init(bench.seed, &bdh::device("cpu")?)?;
    let warmup = bench.steps / 20;
    bench.train(
        "GPT-2",
        model,
        gpt2::groups(0.1, gpt2::schedule(1e-3, warmup)),
        ".mlp",
    )
}

/// Muon and AdamW with nanochat's rates for this batch, and a decay of 0.1: its law is for larger models.
fn nanochat(bench: &Bench) -> Result<Trained, BoxError> {
    let config = GptConfig {
        sequence_len: SEQ_LEN,
        vocab_size: 256,
        n_layer: 4,
        n_head: 3,
        n_kv_head: 3,
        n_embd: 84,
        window_pattern: "L".into(),
        ..GptConfig::default()
    };
    let model = config.init(bench.seed, &bdh::device("cpu")?)?;
    let by_batch = ((ROWS * SEQ_LEN) as f64 / 524_288.0).sqrt();
    let rates = LearningRates::default().scaled(by_batch);
    let groups = nanochat::groups(&config, rates, 0.1, Some(Schedule::new(bench.steps)));
    let warmup = bench.steps / 20;
    let lr = |peak| warmup_stable_decay(peak, warmup, 0.65).to(0.05);
    let groups: Vec<_> = groups.iter().map(|group| group.scheduled(lr)).collect();
    bench.train("nanochat", model, groups, ".mlp")
}
