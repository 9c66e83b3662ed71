//! Runs of one program with one seed are bit-identical, initial weights included.

use bdh::burn; // `derive(Module)` generates paths that begin with `burn`
use bdh::burn::module::Module;
use bdh::burn::nn::{Dropout, DropoutConfig, Embedding, EmbeddingConfig, Linear, LinearConfig};
use bdh::burn::optim::AdamWConfig;
use bdh::burn::tensor::{Int, Tensor};
use bdh::lm::RandomCrops;
use bdh::{CausalLm, MemorySink, NextToken, Probe, Trainer};

/// A model with burn's own initial weights, unlike the other tests.
#[derive(Module, Debug)]
struct Bigram {
    embed: Embedding,
    dropout: Dropout,
    head: Linear,
}

impl CausalLm for Bigram {
    fn logits(&self, tokens: Tensor<2, Int>, _: &Probe<'_>) -> Tensor<3> {
        self.head
            .forward(self.dropout.forward(self.embed.forward(tokens)))
    }
}

/// Every loss of a run of 20 steps, to the bit.
fn losses(seed: u64) -> Vec<u64> {
    let device = bdh::device("cpu").expect("the CPU is compiled in");
    bdh::seed(&device, seed);
    let model = Bigram {
        embed: EmbeddingConfig::new(256, 4).init(&device),
        dropout: DropoutConfig::new(0.1).init(),
        head: LinearConfig::new(4, 256).init(&device),
    };
    let text = "A run of a program is the same run each time. ".repeat(10);
    let crops = RandomCrops::of_bytes(&text, 4, 8, seed).expect("long enough");
    let memory = MemorySink::default();
    let run = Trainer::builder(NextToken::new(crops, Vec::new()), model)
        .optimizer(AdamWConfig::new().build(), 0.01)
        .steps(20)
        .seed(seed)
        .stop_on_signals(false)
        .sink(memory.clone());
    run.build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes");
    memory
        .series("train/loss")
        .into_iter()
        .map(|(_, loss)| loss.to_bits())
        .collect()
}

// One test: the CPU has one generator, and tests share the process.
#[test]
fn runs_with_one_seed_are_equal_and_another_seed_differs() {
    let first = losses(7);
    assert_eq!(first.len(), 20);
    assert_eq!(losses(7), first);
    assert_eq!(losses(7), first);
    assert_ne!(losses(8)[0], first[0]);
}
