//! Fine-tuning: a pretrained backbone is loaded into a new model, frozen at first, then trained at lower rates.
//!
//! ```text
//! cargo run --example fine_tune
//! cargo run --example fine_tune -- --steps 200 --frozen-steps 50
//! ```
//!
//! The first call trains a backbone to recognize digits, and saves it. From it starts a model that separates odd digits
//! from even ones.

use bdh::burn::tensor::{Device, Int, Tensor, activation::relu};
use bdh::burn::{self, module::Module, nn, optim::AdamWConfig};
use bdh::cadence::{every, last, start, steps};
use bdh::data::cycle;
use bdh::metrics::{Classes, Metrics};
use bdh::schedule::{constant, warmup_cosine};
use bdh::{BatchSize, Group, LossContext, Task, Trainer, freeze};
use bdh_callbacks::Console;
use bdh_examples::digits::{self, Digit, Images, SIDE};
use clap::Parser;
use std::path::{Path, PathBuf};

#[derive(Parser)]
struct Args {
    /// File of the pretrained backbone, made if it does not exist
    #[arg(long, default_value = "backbone.safetensors")]
    backbone: PathBuf,
    /// File of the fine-tuned model
    #[arg(long, default_value = "fine_tuned.safetensors")]
    out: PathBuf,
    /// Steps of fine-tuning
    #[arg(long, default_value_t = 80)]
    steps: u64,
    /// Steps of them in which the backbone is frozen
    #[arg(long, default_value_t = 30)]
    frozen_steps: u64,
}

fn main() -> bdh::Result {
    let args = Args::parse();
    let device = bdh::device("cpu")?;
    if !args.backbone.exists() {
        pretrain(&args.backbone, &device)?;
    }

    bdh::seed(&device, 1);
    let model = Classifier::new(2, &device);
    let part = [("", "backbone.")]; // the whole file, into a part of the model
    let (model, report) = bdh::load_matching_prefixes(model, &args.backbone, &part)?;
    eprintln!("{report}");

    let lr = warmup_cosine(3e-3, 10);
    let mut run = Trainer::builder(Classify { num_classes: 2 }, model)
        .train_data(cycle(batches(&digits::generated(1_000, 2), is_odd)).shuffled(0))
        .eval_data("val", batches(&digits::generated(250, 3), is_odd))
        .freeze(freeze("backbone.*").until(steps(args.frozen_steps)));
    for block in 0..2 {
        let prefix = format!("backbone.blocks.{block}.");
        run = run.group(Group::new(
            format!("block{block}"),
            move |param| param.name.starts_with(&prefix),
            AdamWConfig::new().build(),
            lr.scaled(0.3_f64.powi(2 - block)), // the farther from the head, the lower
        ));
    }
    let result = run
        .optimizer(AdamWConfig::new().build(), lr) // the head
        .steps(args.steps)
        .eval(start() | every(10) | last())
        .sink(Console::default())
        .build()?
        .fit()?;
    bdh::save_weights(&result.model, &args.out)?;
    Ok(())
}

/// Trains a model to recognize digits, and saves its backbone.
fn pretrain(path: &Path, device: &Device) -> bdh::Result {
    bdh::seed(device, 0);
    let task = Classify { num_classes: 10 };
    let result = Trainer::builder(task, Classifier::new(10, device))
        .train_data(cycle(batches(&digits::generated(2_000, 0), |digit| digit)).shuffled(0))
        .eval_data("val", batches(&digits::generated(250, 1), |digit| digit))
        .optimizer(AdamWConfig::new().build(), constant(3e-3))
        .steps(60)
        .sink(Console::default())
        .build()?
        .fit()?;
    bdh::save_weights(&result.model.backbone, path)?;
    Ok(())
}

/// Returns 1 for odd digits and 0 for even ones.
fn is_odd(digit: i32) -> i32 {
    digit % 2
}

/// Returns batches of 64 images, of the class that `class` makes of the digit.
fn batches(digits: &[Digit], class: fn(i32) -> i32) -> Vec<Images> {
    let mut batches = Vec::new();
    for chunk in digits.chunks(64) {
        let mut images = Images::of(chunk);
        for label in &mut images.labels {
            *label = class(*label);
        }
        batches.push(images);
    }
    batches
}

#[derive(Module, Debug)]
struct Classifier {
    backbone: Backbone,
    head: nn::Linear,
}

#[derive(Module, Debug)]
struct Backbone {
    blocks: Vec<Block>,
    pool: nn::pool::MaxPool2d,
}

#[derive(Module, Debug)]
struct Block {
    conv: nn::conv::Conv2d,
    norm: nn::BatchNorm,
}

impl Classifier {
    fn new(num_classes: usize, device: &Device) -> Self {
        let blocks = [[1, 8], [8, 16]].map(|channels| Block::new(channels, device));
        let pool = nn::pool::MaxPool2dConfig::new([2, 2]).init();
        Self {
            backbone: Backbone {
                blocks: blocks.into(),
                pool,
            },
            head: nn::LinearConfig::new(16 * (SIDE / 4) * (SIDE / 4), num_classes).init(device),
        }
    }

    /// Returns logits, `[batch, classes]`, and targets, `[batch]`.
    fn forward(&self, images: &Images) -> (Tensor<2>, Tensor<1, Int>) {
        let (mut x, targets) = images.to_device(&self.head.weight.device());
        for Block { conv, norm } in &self.backbone.blocks {
            let y = relu(norm.forward(conv.forward(x)));
            x = self.backbone.pool.forward(y); // half as wide and high
        }
        (self.head.forward(x.flatten(1, 3)), targets)
    }
}

impl Block {
    fn new(channels: [usize; 2], device: &Device) -> Self {
        let conv = nn::conv::Conv2dConfig::new(channels, [3, 3]);
        Self {
            conv: conv.with_padding(nn::PaddingConfig2d::Same).init(device),
            norm: nn::BatchNormConfig::new(channels[1]).init(device),
        }
    }
}

/// Classification of images.
struct Classify {
    num_classes: usize,
}

impl Task for Classify {
    type Model = Classifier;
    type Batch = Images;

    fn size(&self, images: &Images) -> BatchSize {
        BatchSize::samples(images.labels.len())
    }

    fn loss(&self, model: &Classifier, images: &Images, _: &LossContext<'_>) -> Tensor<1> {
        let (logits, targets) = model.forward(images);
        let loss = nn::loss::CrossEntropyLoss::new(None, &logits.device());
        loss.forward(logits, targets)
    }

    fn eval(&self, model: &Classifier, images: &Images, metrics: &mut Metrics) {
        let (logits, targets) = model.forward(images);
        let classes = Classes::new(self.num_classes).confusion(false);
        metrics.classes(&classes, logits, targets);
    }
}
