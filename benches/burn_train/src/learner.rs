//! The run by burn-train's `Learner`.

use crate::data::{Images, Stack, images};
use crate::model::Cnn;
use crate::settings::{BATCH, EPOCHS, TRAIN, VAL, WORKERS};
use bdh::BoxError;
use burn::data::dataloader::DataLoaderBuilder;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::AdamConfig;
use burn::tensor::Device;
use burn::train::metric::{AccuracyMetric, LossMetric};
use burn::train::{ClassificationOutput, InferenceStep, Learner, SupervisedTraining};
use burn::train::{TrainOutput, TrainStep};
use std::path::Path;

impl Cnn {
    fn classify(&self, images: Images) -> ClassificationOutput {
        let logits = self.forward(images.pixels);
        let loss = CrossEntropyLossConfig::new().init(&logits.device());
        let loss = loss.forward(logits.clone(), images.classes.clone());
        ClassificationOutput::new(loss, logits, images.classes)
    }
}

impl TrainStep for Cnn {
    type Input = Images;
    type Output = ClassificationOutput;

    fn step(&self, images: Images) -> TrainOutput<ClassificationOutput> {
        let output = self.classify(images);
        TrainOutput::new(self, output.loss.backward(), output)
    }
}

impl InferenceStep for Cnn {
    type Input = Images;
    type Output = ClassificationOutput;

    fn step(&self, images: Images) -> ClassificationOutput {
        self.classify(images)
    }
}

pub fn train(dir: &Path) -> Result<Cnn, BoxError> {
    let device = Device::flex().autodiff();
    device.seed(0);
    let loader = || {
        DataLoaderBuilder::new(Stack)
            .batch_size(BATCH)
            .num_workers(WORKERS)
    };
    let train = loader().shuffle(0).build(images(TRAIN, 0));
    let valid = loader().build(images(VAL, 1));
    let training = SupervisedTraining::<Cnn>::new(dir, train, valid)
        .metric_train_numeric(LossMetric::new())
        .metric_valid_numeric(LossMetric::new())
        .metric_valid_numeric(AccuracyMetric::new())
        .with_default_checkpointers() // the last two epochs and the best
        .num_epochs(EPOCHS);
    let learner = Learner::new(Cnn::new(&device), AdamConfig::new().init(), 1e-3);
    let result = training.launch(learner);
    match result.error {
        Some(error) => Err(error.to_string().into()),
        None => Ok(result.model),
    }
}
