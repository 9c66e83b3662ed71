//! The run by bdh's `Trainer`.

use crate::data::{Images, Stack, images};
use crate::model::Cnn;
use crate::settings::{BATCH, EPOCHS, TRAIN, VAL, WORKERS};
use bdh::cadence::{epochs, every};
use bdh::data::DatasetLoader;
use bdh::metrics::Metrics;
use bdh::{BatchSize, BoxError, LossContext, Task, Trainer};
use bdh_callbacks::{Checkpoints, Console, TensorBoard};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::AdamConfig;
use burn::tensor::{Int, Tensor};
use std::path::Path;

struct Classify;

impl Task for Classify {
    type Model = Cnn;
    type Batch = Images;

    fn size(&self, images: &Images) -> BatchSize {
        BatchSize::samples(images.classes.dims()[0])
    }

    fn loss(&self, model: &Cnn, images: &Images, _: &LossContext<'_>) -> Tensor<1> {
        let logits = model.forward(images.pixels.clone());
        cross_entropy(logits, images.classes.clone())
    }

    fn eval(&self, model: &Cnn, images: &Images, metrics: &mut Metrics) {
        let (logits, classes) = (model.forward(images.pixels.clone()), images.classes.clone());
        let count = classes.dims()[0] as f64;
        metrics.accuracy(logits.clone(), classes.clone());
        metrics.mean("loss", cross_entropy(logits, classes) * count, count);
    }
}

fn cross_entropy(logits: Tensor<2>, classes: Tensor<1, Int>) -> Tensor<1> {
    let loss = CrossEntropyLossConfig::new().init(&logits.device());
    loss.forward(logits, classes)
}

pub fn train(dir: &Path) -> Result<Cnn, BoxError> {
    let loader = |images| {
        DatasetLoader::new(images, Stack)
            .batch_size(BATCH)
            .workers(WORKERS)
    };
    let trainer = Trainer::builder_with(Classify, &bdh::device("cpu")?, Cnn::new)
        .train_data(loader(images(TRAIN, 0)).shuffle(0))
        .eval_data("val", loader(images(VAL, 1)))
        .optimizer(AdamConfig::new().build(), 1e-3)
        .duration(epochs(EPOCHS as u64))
        .eval(every(epochs(1)))
        .checkpoint(every(epochs(1))) // of which the last two are kept
        .callback(Checkpoints::default()) // and the best
        .sink(Console::default())
        .sink(TensorBoard::default())
        .run_dir(dir)
        .resume("auto")
        .build()?;
    Ok(trainer.fit()?.model)
}
