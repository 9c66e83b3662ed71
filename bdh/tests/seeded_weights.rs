//! Runs of one program with one seed are bit-identical, initial weights included.

use bdh::burn; // `derive(Module)` generates paths that begin with `burn`
use bdh::burn::module::Module;
use bdh::burn::nn::{Dropout, DropoutConfig, Embedding, EmbeddingConfig, Linear, LinearConfig};
use bdh::burn::optim::AdamWConfig;
use bdh::burn::tensor::{Device, Distribution, Int, Tensor};
use bdh::data::stream;
use bdh::lm::RandomCrops;
use bdh::{CausalLm, MemorySink, NextToken, Probe, TokenBatch, Trainer};

/// A model with burn's own initial weights, unlike the other tests.
#[derive(Module, Debug)]
struct Bigram {
    embed: Embedding,
    dropout: Dropout,
    head: Linear,
}

impl Bigram {
    fn new(device: &Device) -> Self {
        Self {
            embed: EmbeddingConfig::new(256, 4).init(device),
            dropout: DropoutConfig::new(0.1).init(),
            head: LinearConfig::new(4, 256).init(device),
        }
    }
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
    let model = Bigram::new(&device);
    let text = "A run of a program is the same run each time. ".repeat(10);
    let crops = RandomCrops::of_bytes(&text, 4, 8, seed).expect("long enough");
    let memory = MemorySink::default();
    let run = Trainer::builder(NextToken::new(), model)
        .train_data(crops)
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

/// The first loss of a run whose model is made in `build`, with eval data that draws random numbers itself.
fn first_loss_of_made(seed: u64) -> u64 {
    let device = bdh::device("cpu").expect("the CPU is compiled in");
    let own = device.clone();
    let val = stream(move || {
        drop(Tensor::<1>::random([3], Distribution::Default, &own).into_data());
        vec![TokenBatch::from_rows(&[vec![1, 2, 3]])]
    });
    let text = "A run of a program is the same run each time. ".repeat(10);
    let memory = MemorySink::default();
    let run = Trainer::builder_with(NextToken::new(), &device, Bigram::new)
        .train_data(RandomCrops::of_bytes(&text, 4, 8, seed).expect("long enough"))
        .eval_data("val", val)
        .optimizer(AdamWConfig::new().build(), 0.01)
        .steps(1)
        .seed(seed)
        .stop_on_signals(false)
        .sink(memory.clone());
    let trainer = run.build().expect("a valid run");
    trainer.fit().expect("a run that completes");
    memory.series("train/loss")[0].1.to_bits()
}

// One test: the CPU has one generator, and tests share the process.
#[test]
fn runs_with_one_seed_are_equal_and_another_seed_differs() {
    let first = losses(7);
    assert_eq!(first.len(), 20);
    assert_eq!(losses(7), first);
    assert_eq!(losses(7), first);
    assert_ne!(losses(8)[0], first[0]);
    assert_eq!(first_loss_of_made(7), first[0]);
}
