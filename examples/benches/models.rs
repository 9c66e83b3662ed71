//! How fast BDH is, against the formula written down as it is, and how fast it writes.
//!
//! ```text
//! cargo bench --profile dev -p bdh-examples --bench models
//! ```
//!
//! Variants run alternately; ratios are medians over rounds.

#![expect(clippy::print_stdout, reason = "a bench prints a table")]

#[path = "support/paired.rs"]
mod paired;
#[path = "../tests/support/plain.rs"]
mod plain;

use bdh::burn::module::Module;
use bdh::burn::tensor::{Device, Int, Tensor, TensorData};
use bdh::lm::{TokenStream, token_nats};
use bdh::{CausalLm, Probe};
use bdh_examples::hatchling::{Bdh, BdhConfig};
use paired::{Variant, measure, time};

const ROUNDS: usize = 7;

fn main() {
    let sizes = [("tiny", 3, 64, 64, 8), ("small", 4, 128, 128, 8)];
    for (name, n_layer, n_embd, seq_len, rows) in sizes {
        let config = BdhConfig {
            n_layer,
            n_embd,
            mlp_internal_dim_multiplier: 32,
            dropout: 0.0,
            ..BdhConfig::default()
        };
        train(name, &config, rows, seq_len);
        generate(name, &config);
    }
}

/// Forward and backward in blocks of some sizes, beside the formula.
fn train(name: &str, config: &BdhConfig, rows: usize, seq_len: usize) {
    let device = Device::flex().autodiff();
    let model = config.init(0, &device).expect("the settings are sound");
    let tokens = text(rows, seq_len, &device);
    let backward = |logits: Tensor<3>| {
        let loss = token_nats(logits, tokens.clone()).mean();
        drop(loss.backward());
    };
    let blocks = [16, 32, 64, 128].into_iter().filter(|block| *block <= seq_len);
    let blocks =
        blocks.map(|block| (format!("blocks of {block}"), model.clone().with_block(block)));
    let dropout = BdhConfig { dropout: 0.1, ..config.clone() };
    let dropout = dropout.init(0, &device).expect("the settings are sound");
    let models: Vec<_> = blocks.chain([("with dropout".to_owned(), dropout)]).collect();
    let plain = || time(|| backward(plain::logits(&model, tokens.clone())));
    let mut variants = vec![Variant::new("formula", plain)];
    variants.extend(models.iter().map(|(name, model)| {
        let once = || backward(model.logits(tokens.clone(), &Probe::off()));
        Variant::new(name, move || time(once))
    }));

    let times = measure(&mut variants, ROUNDS);
    println!("{name}: forward and backward, {rows} rows of {seq_len} tokens");
    for (variant, times_of) in variants.iter().zip(&times) {
        let per_second = (rows * seq_len) as f64 / times_of.median().as_secs_f64();
        let ratio = times_of.ratio(&times[0]);
        println!(
            "  {:<14} {per_second:>9.0} tokens/s  {ratio:.2} of the formula's time",
            variant.name
        );
    }
}

/// 100 tokens after a prompt of 20, with the state and by recomputation.
fn generate(name: &str, config: &BdhConfig) {
    let model = config.init(0, &Device::flex()).expect("the settings are sound").no_grad();
    let ids: Vec<i32> = (0..120).map(|at| at * 7 % 256).collect();
    let mut variants = [
        Variant::new("recomputed", || time(|| recompute(&model, &ids))),
        Variant::new("with state", || time(|| stream(&model, &ids))),
    ];
    let times = measure(&mut variants, ROUNDS);
    println!("{name}: 100 tokens after 20");
    for (variant, times_of) in variants.iter().zip(&times) {
        let per_second = 100.0 / times_of.median().as_secs_f64();
        let ratio = times_of.ratio(&times[0]);
        println!(
            "  {:<14} {per_second:>9.0} tokens/s  {ratio:.2} of recomputation's time",
            variant.name
        );
    }
}

fn recompute(model: &Bdh, ids: &[i32]) {
    for len in 20..ids.len() {
        let tokens = TensorData::new(ids[..len].to_vec(), [1, len]);
        let tokens = Tensor::<2, Int>::from_data(tokens, &Device::flex());
        drop(model.logits(tokens, &Probe::off()).narrow(1, len - 1, 1).into_data());
    }
}

fn stream(model: &Bdh, ids: &[i32]) {
    let mut stream = model.recurrent();
    for id in ids {
        drop(stream.read(*id).into_data());
    }
}

fn text(rows: usize, seq_len: usize, device: &Device) -> Tensor<2, Int> {
    let ids: Vec<i32> = (0..rows * seq_len).map(|at| (at * at % 251) as i32).collect();
    Tensor::from_data(TensorData::new(ids, [rows, seq_len]), device)
}
