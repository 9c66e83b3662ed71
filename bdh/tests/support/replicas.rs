//! Runs on several CPU devices.

#![allow(dead_code, reason = "each test uses a part of this module")]

use crate::tiny::{self, ROWS, Tiny};
use bdh::burn::optim::SgdConfig;
use bdh::burn::tensor::{Device, Tensor};
use bdh::{
    BatchSize, BoxError, Deferred, Probe, Task, TokenBatch, Totals, TrainError, TrainResult,
    Trainer, TrainerBuilder,
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

    fn next_batch(&mut self) -> Result<TokenBatch, BoxError> {
        self.task.next_batch()
    }

    fn size(&self, batch: &TokenBatch) -> BatchSize {
        self.task.size(batch)
    }

    fn loss(&self, model: &Tiny, batch: &TokenBatch, probe: &Probe<'_>) -> Tensor<1> {
        (self.at_batch)(thread::current().name().unwrap_or_default(), batch);
        self.task.loss(model, batch, probe)
    }

    fn val_batches(&self) -> &[TokenBatch] {
        self.task.val_batches()
    }

    fn eval(&self, model: &Tiny, batch: &TokenBatch, totals: &mut Totals) {
        (self.at_batch)(thread::current().name().unwrap_or_default(), batch);
        self.task.eval(model, batch, totals);
    }

    fn summarize(&self, totals: &Totals) -> Vec<(String, Deferred)> {
        self.task.summarize(totals)
    }
}

pub(crate) fn watched<F: Fn(&str, &TokenBatch) + Send + Sync + 'static>(
    steps: u64,
    at_batch: F,
) -> TrainerBuilder<Watched<F>> {
    Trainer::builder(
        Watched {
            task: tiny::task(ROWS),
            at_batch,
        },
        Tiny::new(0.0),
    )
    .optimizer(SgdConfig::new().build(), 0.1)
    .steps(steps)
    .stop_on_signals(false)
}
