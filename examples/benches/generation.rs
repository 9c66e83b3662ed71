//! Gain of continuing several prompts in one batch: a third of the device reads and launches, but padding of the
//! shorter contexts.
//!
//! ```text
//! cargo bench --profile dev -p bdh-examples --bench generation
//! ```
//!
//! The bench continues the three default prompts of `Samples` by 64 tokens, one by one and together. Both must give the
//! same texts, so that the work is comparable.

#![expect(clippy::print_stdout, reason = "a bench prints a table")]
#![expect(clippy::unwrap_used, reason = "a bench that cannot run fails at once")]

#[path = "support/paired.rs"]
mod paired;

use bdh::burn::module::Module;
use bdh::lm::{Generated, Sampling};
use bdh::text::TextTask;
use bdh_data::Tokenizer;
use bdh_models::nanochat::{Gpt, GptConfig};
use paired::{Variant, measure, time};

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

fn main() {
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
