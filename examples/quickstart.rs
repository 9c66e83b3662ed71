//! A short training program: a bigram model of the bytes of this repository's documentation.
//!
//! The model needs one method. The trainer adds loss, validation, checkpoints and records.

use bdh::burn::{self, module::Module, nn, optim::AdamWConfig, tensor::Int, tensor::Tensor};
use bdh::cadence::{every, last, start};
use bdh::lm::{RandomCrops, bytes, windows};
use bdh::schedule::warmup_cosine;
use bdh::{CausalLm, NextToken, Probe, Trainer};
use bdh_callbacks::{Console, EarlyCheckpoints, Norms};

#[derive(Module, Debug)]
struct Bigram {
    next: nn::Embedding, // [256, 256]: for each byte, how likely each byte is to follow
}

impl CausalLm for Bigram {
    fn logits(&self, tokens: Tensor<2, Int>, _: &Probe<'_>) -> Tensor<3> {
        self.next.forward(tokens)
    }
}

fn main() -> bdh::Result {
    let text = include_str!("../docs/architecture.md");
    let (train, val) = text.split_at(text.floor_char_boundary(text.len() * 9 / 10));
    let val = windows(&bytes(val), 8, 64);
    let device = bdh::device("cpu")?;
    bdh::seed(&device, 0); // initial weights are drawn before the run, so its own seed does not affect them
    let model = Bigram {
        next: nn::EmbeddingConfig::new(256, 256).init(&device),
    };
    let trainer = Trainer::builder(NextToken::new(), model)
        .train_data(RandomCrops::of_bytes(train, 16, 64, 0)?)
        .eval_data("val", val)
        .optimizer(AdamWConfig::new().build(), warmup_cosine(0.1, 20))
        .steps(300)
        .eval(start() | every(100) | last())
        .callback(Norms::default())
        .callback(EarlyCheckpoints::at([25, 50, 100]))
        .sink(Console::default())
        .run_dir(std::env::temp_dir().join(format!("quickstart-{}", std::process::id())))
        .build()?;
    eprintln!("{}", trainer.plan()); // the steps of each callback, and the files of the run
    eprintln!("{}", trainer.fit()?.overhead);
    Ok(())
}
