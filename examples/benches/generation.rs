//! Gain of the cache of keys and values, and of continuing several prompts in one call.
//!
//! ```text
//! cargo bench --profile dev -p bdh-examples --bench generation
//! ```
//!
//! The first table adds 16 tokens to a prefix: with the cache, which computes the new token alone, and without, which
//! computes the whole text for each token. The second continues the three default prompts of `Samples` by 64 tokens, one
//! by one and together. Variants must give the same texts, so that the work is comparable.

#![expect(clippy::print_stdout, reason = "a bench prints a table")]
#![expect(clippy::unwrap_used, reason = "a bench that cannot run fails at once")]

#[path = "support/paired.rs"]
mod paired;

use bdh::burn::module::Module;
use bdh::burn::tensor::{Int, Tensor, TensorData};
use bdh::lm::{Generated, Sampling};
use bdh::text::TextTask;
use bdh::{CausalLm, Probe};
use bdh_data::Tokenizer;
use bdh_models::nanochat::{Gpt, GptConfig};
use paired::{Variant, measure, time};
use std::time::Duration;

/// Allocator that reuses the memory of the previous step's tensors, like that of the programs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PROMPTS: [&str; 3] = [
    "To be or not to be",
    "Once upon a time",
    "In a galaxy far, far away",
];
const TOKENS: usize = 64;
const ROUNDS: usize = 9;

/// Tokens before the ones that are added. The model is trained on 256, and reads ten times as many.
const PREFIXES: [usize; 3] = [64, 512, 2048];
const ADDED: usize = 16;
/// Rounds of the first table, whose slowest variant takes seconds.
const PREFIX_ROUNDS: usize = 3;

fn model(depth: usize, width: usize) -> Gpt {
    let config = GptConfig {
        sequence_len: 256,
        vocab_size: Tokenizer::Bytes.vocab_size(),
        n_layer: depth,
        n_head: width / 64,
        n_kv_head: width / 64,
        n_embd: width,
        ..GptConfig::default()
    };
    config
        .init(42, &bdh::device("cpu").unwrap())
        .unwrap()
        .valid()
}

/// Returns the likeliest token.
fn likeliest(logits: Tensor<1>) -> i32 {
    logits.argmax(0).into_scalar::<i64>() as i32
}

/// Adds tokens with the cache; the time does not include that of the prefix.
fn with_cache(model: &Gpt, prefix: &[i32]) -> (Vec<i32>, Duration) {
    let mut stream = model.stream().unwrap();
    let mut next = likeliest(stream.read_all(prefix));
    let mut added = Vec::new();
    let took = time(|| {
        for _ in 0..ADDED {
            added.push(next);
            next = likeliest(stream.read(next));
        }
    });
    (added, took)
}

/// Adds tokens by computing the whole text for each.
fn without_cache(model: &Gpt, prefix: &[i32]) -> (Vec<i32>, Duration) {
    let device = model.lm_head.weight.device();
    let mut text = prefix.to_vec();
    let took = time(|| {
        for _ in 0..ADDED {
            let ids = TensorData::new(text.clone(), [1, text.len()]);
            let logits = model.logits(Tensor::<2, Int>::from_data(ids, &device), &Probe::off());
            let last = logits.narrow(1, text.len() - 1, 1).reshape([-1]);
            text.push(likeliest(last));
        }
    });
    (text.split_off(prefix.len()), took)
}

/// Prints the speed of generation after prefixes of several lengths.
fn prefixes() {
    let model = model(4, 256);
    println!(
        "{:<24} {:>14} {:>14} {:>8}",
        "prefix, tokens", "cache, tok/s", "without, tok/s", "gain"
    );
    for length in PREFIXES {
        let prefix: Vec<i32> = (0..length).map(|index| (index * 37 % 250) as i32).collect();
        assert_eq!(
            with_cache(&model, &prefix).0,
            without_cache(&model, &prefix).0
        );
        let mut variants = [
            Variant::new("cache", || with_cache(&model, &prefix).1),
            Variant::new("without", || without_cache(&model, &prefix).1),
        ];
        let times = measure(&mut variants, PREFIX_ROUNDS);
        let speed = |index: usize| ADDED as f64 / times[index].median().as_secs_f64();
        let gain = times[1].ratio(&times[0]);
        println!(
            "{length:<24} {:>14.1} {:>14.1} {gain:>8.1}",
            speed(0),
            speed(1)
        );
    }
    println!();
}

fn main() {
    prefixes();
    let task = bdh::NextToken::<Gpt>::new().vocabulary(Tokenizer::Bytes);
    let how = |seed| Sampling {
        max_tokens: TOKENS,
        temperature: 1.0,
        seed,
        ..Sampling::default()
    };
    let prompts: Vec<_> = PROMPTS.into_iter().zip((0..).map(how)).collect();
    println!(
        "{:<24} {:>14} {:>14} {:>8}",
        "three prompts", "alone, ms", "together, ms", "gain"
    );
    for (depth, width) in [(2, 64), (4, 256)] {
        let model = model(depth, width);
        let together = || task.generate(&model, &prompts).unwrap();
        let alone = || -> Vec<Generated> {
            prompts
                .chunks(1)
                .flat_map(|one| task.generate(&model, one).unwrap())
                .collect()
        };
        let texts = |all: Vec<Generated>| all.into_iter().map(|one| one.text).collect::<Vec<_>>();
        assert_eq!(texts(alone()), texts(together()));
        let mut variants = [
            Variant::new(format!("depth {depth}, width {width}"), || {
                time(|| drop(alone()))
            }),
            Variant::new("together", || time(|| drop(together()))),
        ];
        let times = measure(&mut variants, ROUNDS);
        let ms = |index: usize| times[index].median().as_secs_f64() * 1e3;
        let (name, gain) = (&variants[0].name, times[0].ratio(&times[1]));
        println!("{name:<24} {:>14.1} {:>14.1} {gain:>8.2}", ms(0), ms(1));
    }
}
