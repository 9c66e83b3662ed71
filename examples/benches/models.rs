//! Speed of BDH in training, compared with its plain formula, and in generation.
//!
//! ```text
//! cargo bench --profile dev -p bdh-examples --bench models
//! cargo bench --profile dev -p bdh-examples --bench models tiny       # one preset
//! ```
//!
//! Variants run alternately; ratios are medians over rounds.

#![expect(clippy::print_stdout, reason = "a bench prints a table")]

#[path = "support/paired.rs"]
mod paired;
#[path = "../../bdh-models/tests/support/plain.rs"]
mod plain;

use bdh::burn::module::Module;
use bdh::burn::tensor::{Device, Int, Tensor, TensorData};
use bdh::lm::{TokenStream, token_nll};
use bdh::{CausalLm, Probe};
use bdh_models::bdh_model::{Bdh, BdhConfig};
use paired::{Variant, measure, time};

/// Allocator that reuses the memory of the previous step's tensors, like that of the programs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Preset of `bdh_shakespeare` with the sizes of the measurement.
struct Size {
    name: &'static str,
    config: BdhConfig,
    rows: usize,
    seq_len: usize,
    /// Number of tokens to generate after [`PROMPT`].
    new: usize,
    rounds: usize,
}

/// Number of tokens of the prompt.
const PROMPT: usize = 20;

fn main() {
    let of = |n_layer, n_embd| BdhConfig {
        n_layer,
        n_embd,
        mlp_internal_dim_multiplier: 32,
        dropout: 0.0,
        ..BdhConfig::default()
    };
    let paper = BdhConfig {
        dropout: 0.0,
        ..BdhConfig::default()
    };
    let sizes = [
        Size {
            name: "tiny",
            config: of(3, 64),
            rows: 8,
            seq_len: 64,
            new: 100,
            rounds: 7,
        },
        Size {
            name: "small",
            config: of(4, 128),
            rows: 8,
            seq_len: 128,
            new: 100,
            rounds: 7,
        },
        // One row of a quarter of the length: a CPU takes minutes for a whole step.
        Size {
            name: "paper",
            config: paper,
            rows: 1,
            seq_len: 128,
            new: 20,
            rounds: 3,
        },
    ];
    let asked: Vec<_> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    for size in sizes
        .iter()
        .filter(|size| asked.is_empty() || asked.iter().any(|name| name == size.name))
    {
        train(size);
        generate(size);
    }
}

/// Measures forward and backward passes of the model and of the formula.
fn train(size: &Size) {
    let Size {
        name,
        config,
        rows,
        seq_len,
        ..
    } = size;
    let (rows, seq_len) = (*rows, *seq_len);
    let device = Device::flex().autodiff();
    let model = config.init(0, &device).expect("the settings are sound");
    let tokens = text(rows, seq_len, &device);
    let backward = |logits: Tensor<3>| {
        let loss = token_nll(logits, tokens.clone()).mean();
        drop(loss.backward());
    };
    let dropout = BdhConfig {
        dropout: 0.1,
        ..config.clone()
    };
    let dropout = dropout.init(0, &device).expect("the settings are sound");
    let models = [("ours", &model), ("with dropout", &dropout)];
    let plain = || time(|| backward(plain::logits(&model, tokens.clone())));
    let mut variants = vec![Variant::new("formula", plain)];
    variants.extend(models.map(|(name, model)| {
        let once = || backward(model.logits(tokens.clone(), &Probe::off()));
        Variant::new(name, move || time(once))
    }));

    let times = measure(&mut variants, size.rounds);
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

/// Measures generation after a prompt, with the state and by recomputation.
fn generate(
    Size {
        name,
        config,
        new,
        rounds,
        ..
    }: &Size,
) {
    let model = config
        .init(0, &Device::flex())
        .expect("the settings are sound")
        .no_grad();
    let ids: Vec<i32> = (0..PROMPT + new).map(|at| (at * 7 % 256) as i32).collect();
    let mut variants = [
        Variant::new("recomputed", || time(|| recompute(&model, &ids))),
        Variant::new("with state", || time(|| stream(&model, &ids))),
    ];
    let times = measure(&mut variants, *rounds);
    println!("{name}: {new} tokens after {PROMPT}");
    for (variant, times_of) in variants.iter().zip(&times) {
        let per_second = *new as f64 / times_of.median().as_secs_f64();
        let ratio = times_of.ratio(&times[0]);
        println!(
            "  {:<14} {per_second:>9.0} tokens/s  {ratio:.2} of recomputation's time",
            variant.name
        );
    }
}

fn recompute(model: &Bdh, ids: &[i32]) {
    for len in PROMPT..ids.len() {
        let tokens = TensorData::new(ids[..len].to_vec(), [1, len]);
        let tokens = Tensor::<2, Int>::from_data(tokens, &Device::flex());
        drop(
            model
                .logits(tokens, &Probe::off())
                .narrow(1, len - 1, 1)
                .into_data(),
        );
    }
}

fn stream(model: &Bdh, ids: &[i32]) {
    let mut stream = model.recurrent();
    for id in ids {
        drop(stream.read(*id).into_data());
    }
}

fn text(rows: usize, seq_len: usize, device: &Device) -> Tensor<2, Int> {
    let ids: Vec<i32> = (0..rows * seq_len)
        .map(|at| (at * at % 251) as i32)
        .collect();
    Tensor::from_data(TensorData::new(ids, [rows, seq_len]), device)
}
