//! A custom callback, which records the signal-to-noise ratio of each parameter's gradient.
//!
//! The program creates it by its name, like a configuration file would.

use bdh::burn::{self, module::Module, nn, optim::AdamWConfig, tensor::Int, tensor::Tensor};
use bdh::hooks::AfterBackward;
use bdh::lm::{RandomCrops, bytes, windows};
use bdh::{Callback, CausalLm, HookResult, MemorySink, NextToken, Probe, Trainer};
use bdh::{callback, registry};
use serde::{Deserialize, Serialize};

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct SignalToNoise {
    min_elements: usize, // smaller parameters are too noisy to be worth a curve
}

#[callback("signal_to_noise")] // registered: a configuration file can now name it
impl Callback for SignalToNoise {
    fn after_backward(&mut self, ctx: &AfterBackward<'_>) -> HookResult {
        for param in ctx.gradients.iter() {
            if param.info().num_elements() >= self.min_elements {
                // Still on the device: all values of a step are read together, later.
                ctx.log(format!("snr/{}", param.name()), param.mean() / param.std());
            }
        }
        Ok(())
    }
}

#[derive(Module, Debug)]
struct Bigram {
    embed: nn::Embedding,
    head: nn::Linear,
}

impl CausalLm for Bigram {
    fn logits(&self, tokens: Tensor<2, Int>, _: &Probe<'_>) -> Tensor<3> {
        self.head.forward(self.embed.forward(tokens))
    }
}

fn main() -> bdh::Result {
    let text = include_str!("../docs/architecture.md");
    let val = windows(&bytes(text), 8, 64);
    let device = bdh::device("cpu")?;
    bdh::seed(&device, 0); // first weights that are the same in every run
    let embed = nn::EmbeddingConfig::new(256, 32).init(&device);
    let model = Bigram {
        embed,
        head: nn::LinearConfig::new(32, 256).init(&device),
    };
    let file = "[[callback]]\nuse = \"signal_to_noise\"\non = 50\nmin_elements = 1_000";
    let memory = MemorySink::default();
    let run = Trainer::builder(NextToken::new(), model)
        .train_data(RandomCrops::of_bytes(text, 16, 64, 0)?)
        .eval_data("val", val)
        .optimizer(AdamWConfig::new().build(), 0.01)
        .steps(300)
        .callbacks(registry::from_toml(file)?)
        .sink(memory.clone());
    run.build()?.fit()?;
    for (step, snr) in memory.series("snr/embed.weight") {
        eprintln!("step {step:>3}: mean over standard deviation of the gradient {snr:+.5}");
    }
    Ok(())
}
