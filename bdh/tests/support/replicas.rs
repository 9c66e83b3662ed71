//! Runs on several CPU devices.

#![allow(dead_code, reason = "each test uses a part of this module")]

use crate::tiny::{self, ROWS, Rows, Tiny};
use bdh::burn::optim::SgdConfig;
use bdh::burn::tensor::{Device, Tensor};
use bdh::metrics::Metrics;
use bdh::{
    BatchSize, LossContext, Task, TokenBatch, TrainError, TrainResult, Trainer, TrainerBuilder,
};
use std::thread;

/// Returns `count` CPU devices.
pub(crate) fn devices(count: usize) -> Vec<Device> {
    bdh::devices(&format!("cpu:0-{}", count - 1)).expect("the CPU")
}

/// Fits one run at a time: every run seeds the one generator of random numbers that burn has for the CPU.
pub(crate) fn try_fit<T: Task>(
    run: TrainerBuilder<T>,
) -> Result<TrainResult<T::Model>, TrainError> {
    let _alone = tiny::alone();
    run.build().expect("a valid run").fit()
}

pub(crate) fn fit<T: Task>(run: TrainerBuilder<T>) -> TrainResult<T::Model> {
    try_fit(run).expect("a run that completes")
}

/// A task that calls a closure before each loss and each eval of another task, on the thread that computes it.
pub(crate) struct Watched<F> {
    task: tiny::Task,
    at_batch: F,
}

impl<F: Fn(&str, &TokenBatch) + Send + Sync + 'static> Task for Watched<F> {
    type Model = Tiny;
    type Batch = TokenBatch;

    fn size(&self, batch: &TokenBatch) -> BatchSize {
        self.task.size(batch)
    }

    fn loss(&self, model: &Tiny, batch: &TokenBatch, step: &LossContext<'_>) -> Tensor<1> {
        (self.at_batch)(thread::current().name().unwrap_or_default(), batch);
        self.task.loss(model, batch, step)
    }

    fn eval(&self, model: &Tiny, batch: &TokenBatch, metrics: &mut Metrics) {
        (self.at_batch)(thread::current().name().unwrap_or_default(), batch);
        self.task.eval(model, batch, metrics);
    }
}

pub(crate) fn watched<F: Fn(&str, &TokenBatch) + Send + Sync + 'static>(
    steps: u64,
    at_batch: F,
) -> TrainerBuilder<Watched<F>> {
    Trainer::builder(
        Watched {
            task: tiny::task(),
            at_batch,
        },
        Tiny::new(0.0),
    )
    .train_data(Rows::of(ROWS))
    .eval_data("val", tiny::val())
    .optimizer(SgdConfig::new().build(), 0.1)
    .steps(steps)
    .stop_on_signals(false)
}
