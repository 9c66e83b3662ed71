//! A convolutional network for images of digits: data loader, metrics, early stop, best checkpoint, resume.
//!
//! ```text
//! cargo run --example mnist                            # after Ctrl-C or a crash, the same command continues
//! cargo run --example mnist --features mnist-download  # MNIST itself instead of generated images
//! tensorboard --logdir runs
//! ```

use bdh::burn::tensor::{Device, Int, Tensor, activation::relu};
use bdh::burn::{self, module::Module, nn, optim::AdamWConfig};
use bdh::cadence::{Span, epochs, every, last};
use bdh::metrics::{Classes, Metrics};
use bdh::{BatchSize, LossContext, Task, Trainer, TrainerBuilder};
use bdh::{data::DatasetLoader, schedule::warmup_cosine};
use bdh_callbacks::{Checkpoints, ConfusionMatrix, Console, EarlyStop, Mode, TensorBoard};
use bdh_examples::digits::{self, Images, SIDE, Stack};
use clap::Parser;

#[derive(Module, Debug)]
pub(crate) struct Cnn {
    conv: [nn::conv::Conv2d; 2],
    norm: [nn::BatchNorm; 2],
    pool: nn::pool::MaxPool2d,
    dropout: nn::Dropout,
    head: nn::Linear,
}

impl Cnn {
    fn new(device: &Device) -> Self {
        let conv = |channels| nn::conv::Conv2dConfig::new(channels, [3, 3]);
        let same = nn::PaddingConfig2d::Same;
        Self {
            conv: [[1, 8], [8, 16]].map(|c| conv(c).with_padding(same.clone()).init(device)),
            norm: [8, 16].map(|channels| nn::BatchNormConfig::new(channels).init(device)),
            pool: nn::pool::MaxPool2dConfig::new([2, 2]).init(),
            dropout: nn::DropoutConfig::new(0.25).init(),
            head: nn::LinearConfig::new(16 * (SIDE / 4) * (SIDE / 4), 10).init(device),
        }
    }

    /// Takes images, `[batch, 1, 28, 28]`, and returns logits, `[batch, 10]`.
    fn forward(&self, mut x: Tensor<4>) -> Tensor<2> {
        for (conv, norm) in self.conv.iter().zip(&self.norm) {
            x = self.pool.forward(relu(norm.forward(conv.forward(x)))); // half as wide and high
        }
        self.head.forward(self.dropout.forward(x.flatten(1, 3)))
    }
}

pub(crate) struct Classify;

impl Task for Classify {
    type Model = Cnn;
    type Batch = Images; // on the host, made by the loader's threads

    fn size(&self, images: &Images) -> BatchSize {
        BatchSize::samples(images.labels.len())
    }

    fn loss(&self, model: &Cnn, images: &Images, _: &LossContext<'_>) -> Tensor<1> {
        let (pixels, targets) = images.to_device(&model.head.weight.device());
        cross_entropy(model.forward(pixels), targets)
    }

    fn eval(&self, model: &Cnn, images: &Images, metrics: &mut Metrics) {
        let (pixels, targets) = images.to_device(&model.head.weight.device());
        let (logits, count) = (model.forward(pixels), images.labels.len() as f64);
        metrics.classes(&Classes::new(10), logits.clone(), targets.clone());
        metrics.mean("loss", cross_entropy(logits, targets) * count, count);
    }
}

fn cross_entropy(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    let loss = nn::loss::CrossEntropyLoss::new(None, &logits.device());
    loss.forward(logits, targets)
}

#[derive(Parser)]
pub(crate) struct Args {
    /// Length of the run, such as `6 epochs`, `500 steps` or `2min`
    #[arg(long, default_value = "6 epochs")]
    pub(crate) duration: Span,
    /// Number of images to train on; a quarter of it is evaluated
    #[arg(long, default_value_t = 2_000)]
    pub(crate) images: usize,
    /// Directory of the run
    #[arg(long, default_value = "runs/mnist")]
    pub(crate) run_dir: std::path::PathBuf,
}

/// Composes a run of [`Classify`].
pub(crate) fn compose(args: &Args) -> bdh::Result<TrainerBuilder<Classify>> {
    let loader = |images| DatasetLoader::new(images, Stack).batch_size(64).workers(2);
    let run = Trainer::builder_with(Classify, &bdh::device("cpu")?, Cnn::new)
        .train_data(loader(digits::train(args.images)).shuffle(0))
        .eval_data("val", loader(digits::test(args.images / 4)))
        .optimizer(AdamWConfig::new().build(), warmup_cosine(3e-3, 20))
        .duration(args.duration)
        .eval(every(epochs(1)) | last())
        .callback(
            Checkpoints::default()
                .metric("val/accuracy")
                .mode(Mode::Max),
        )
        .callback(EarlyStop::default().metric("val/accuracy").mode(Mode::Max))
        .callback(ConfusionMatrix::default());
    Ok(run)
}

fn main() -> bdh::Result {
    let args = Args::parse();
    let run = compose(&args)?.checkpoint(every(20) | last());
    let run = run.run_dir(args.run_dir).resume("auto");
    let run = run.sink(Console::default()).sink(TensorBoard::default());
    let result = run.build()?.fit()?;
    if let Some(best) = result.best_checkpoint {
        eprintln!("best checkpoint: {}", best.display());
    }
    Ok(())
}
