//! The three models with about 425 thousand parameters, each with the optimizer of its original.

use crate::{Bench, ROWS, SEQ_LEN, Trained};
use bdh::ops::AdamW;
use bdh::schedule::constant;
use bdh::{BoxError, Group};
use bdh_models::bdh_model::BdhConfig;
use bdh_models::gpt2::{self, Gpt2Config};
use bdh_models::nanochat::{self, GptConfig, LearningRates, LrSchedule, MuonSchedule};

/// Trains all three models.
pub(crate) fn all(bench: &Bench) -> Result<Vec<Trained>, BoxError> {
    Ok(vec![bdh(bench)?, gpt2(bench)?, nanochat(bench)?])
}

/// Trains BDH with AdamW at a constant 1e-3 and a decay of 0.1, like BDH's `train.py`.
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

/// Trains GPT-2 with AdamW, build-nanogpt's groups and cosine, and nanoGPT's 1e-3 for small models.
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

/// Trains nanochat with Muon and AdamW, nanochat's rates for this batch, and a decay of 0.1 because its law does not
/// suit small models.
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
    let muon = MuonSchedule::new(bench.steps);
    let schedule = LrSchedule {
        warmup_steps: bench.steps / 20,
        ..LrSchedule::default()
    };
    let mut groups = Vec::new();
    for group in nanochat::groups(&config, rates, 0.1, Some(muon)) {
        groups.push(group.scheduled(|peak_lr| schedule.with_peak(peak_lr)));
    }
    bench.train("nanochat", model, groups, ".mlp")
}
