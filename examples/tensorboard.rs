//! Runs for TensorBoard: scalars, histograms of weights, samples of text, and a table of settings.
//!
//! ```text
//! cargo run --example tensorboard -- --lr 0.01
//! cargo run --example tensorboard -- --lr 0.1
//! tensorboard --logdir runs
//! ```

use bdh::burn::{self, module::Module, nn, optim::AdamWConfig, tensor::Int, tensor::Tensor};
use bdh::cadence::{every, last, start};
use bdh::hooks::AfterOptimizerStep;
use bdh::lm::{RandomCrops, Sampling, bytes, windows};
use bdh::schedule::warmup_cosine;
use bdh::{Cadence, Probe, Trainer, Value, callback};
use bdh::{Callback, CausalLm, HookResult, NextToken};
use bdh_callbacks::{Layout, Norms, TensorBoard};
use bdh_data::Tokenizer;
use clap::Parser;
use serde_json::json;

/// Allocator that reuses the memory of the previous step's tensors, while the system's returns large blocks.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const TEXT: &str = include_str!("../docs/architecture.md");

#[derive(Parser)]
struct Args {
    /// Directory of all runs; each gets a directory named after its learning rate
    #[arg(long, default_value = "runs")]
    runs: std::path::PathBuf,
    /// Peak learning rate
    #[arg(long, default_value_t = 0.1)]
    lr: f64,
}

#[derive(Module, Debug)]
struct Bigram {
    next: nn::Embedding, // [257, 257]: for each byte, how likely each is to follow
}

impl CausalLm for Bigram {
    fn logits(&self, tokens: Tensor<2, Int>, _: &Probe<'_>) -> Tensor<3> {
        self.next.forward(tokens)
    }
}

/// Callback that records histograms of the weights, and a sample of text.
struct Look;

#[callback]
impl Callback for Look {
    fn cadence(&self) -> Cadence {
        every(25)
    }

    fn after_optimizer_step(&mut self, ctx: &AfterOptimizerStep<'_>) -> HookResult {
        for param in ctx.weights.iter() {
            ctx.log(param.name(), param.histogram(64));
        }
        let how = Sampling {
            max_tokens: 200,
            temperature: 0.5,
            ..Sampling::default()
        };
        if let Some(text) = ctx.text() {
            ctx.log("sample", Value::Text(text.generate("A run ", &how)?));
        }
        Ok(())
    }
}

fn main() -> bdh::Result {
    let Args { runs, lr } = Args::parse();
    let device = bdh::device("cpu")?;
    bdh::seed(&device, 0); // runs that differ in their rate alone
    let (train, val) = TEXT.split_at(TEXT.floor_char_boundary(TEXT.len() * 9 / 10));
    let narrow = nn::Initializer::Normal {
        mean: 0.0,
        std: 0.02,
    };
    let model = Bigram {
        next: nn::EmbeddingConfig::new(257, 257)
            .with_initializer(narrow)
            .init(&device),
    };
    let losses = Layout::default().lines("loss", "train and val", ["train/loss", "val/loss"]);

    Trainer::builder(NextToken::new().vocabulary(Tokenizer::Bytes), model)
        .train_data(RandomCrops::of_bytes(train, 16, 64, 0)?)
        .eval_data("val", windows(&bytes(val), 8, 64))
        .optimizer(AdamWConfig::new().build(), warmup_cosine(lr, 20))
        .steps(300)
        .eval(start() | every(50) | last())
        .callback(Norms::default())
        .callback(Look)
        .config(json!({ "lr": lr, "warmup": 20 }))
        .sink(TensorBoard::default().layout(losses))
        .run_dir(runs.join(format!("lr-{lr}")))
        .build()?
        .fit()?;
    Ok(())
}
