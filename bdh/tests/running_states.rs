//! Running states of a model, such as the mean of a `BatchNorm`, change in training steps only.

use bdh::burn; // `derive(Module)` generates paths that begin with `burn`
use bdh::burn::module::Module;
use bdh::burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
use bdh::burn::optim::AdamWConfig;
use bdh::burn::tensor::{Device, Tensor, TensorData};
use bdh::cadence::every;
use bdh::checkpoint::Checkpoint;
use bdh::data::{Cycle, cycle};
use bdh::{
    BatchSize, LossContext, MemorySink, Replay, Task, Trainer, TrainerBuilder, load_weights,
};
use std::path::Path;

#[derive(Module, Debug)]
struct Net {
    norm: BatchNorm,
    head: Linear,
}

fn device() -> Device {
    bdh::device("cpu").expect("the CPU is compiled in")
}

fn net() -> Net {
    let head = LinearConfig::new(2, 1).init(&device());
    let weight = Tensor::from_floats([[0.5], [-0.25]], &device()).require_grad();
    let head = Linear {
        weight: head.weight.map(|_| weight),
        bias: None,
    };
    Net {
        norm: BatchNormConfig::new(2).init(&device()),
        head,
    }
}

/// A task that learns the difference of two numbers.
struct Difference;

/// Returns more batches than the runs here take.
fn data() -> Cycle<u64> {
    cycle((1..=9).collect())
}

fn val() -> Vec<u64> {
    vec![1000, 2000]
}

/// Returns four pairs of numbers, further from zero in each batch.
fn pairs(number: u64, device: &Device) -> Tensor<2> {
    let values = (0..8).map(|i| (number as f32 + i as f32 * 1.7).sin() + 0.1 * i as f32);
    Tensor::from_data(TensorData::new(values.collect(), [4, 2]), device)
}

impl Task for Difference {
    type Model = Net;
    type Batch = u64;

    fn size(&self, _: &u64) -> BatchSize {
        BatchSize::samples(4)
    }

    fn loss(&self, model: &Net, batch: &u64, _: &LossContext<'_>) -> Tensor<1> {
        let pairs = pairs(*batch, &model.head.weight.device());
        let wanted = pairs.clone().narrow(1, 0, 1) - pairs.clone().narrow(1, 1, 1);
        (model.head.forward(model.norm.forward(pairs)) - wanted)
            .square()
            .mean()
    }
}

/// Composes a run of six steps, with an eval and a checkpoint on every second one.
fn run(dir: &Path, model: Net) -> TrainerBuilder<Difference> {
    Trainer::builder(Difference, model)
        .train_data(data())
        .eval_data("val", val())
        .optimizer(AdamWConfig::new().build(), 0.1)
        .steps(6)
        .eval(every(2))
        .checkpoint(every(2))
        .keep_checkpoints(9)
        .stop_on_signals(false)
        .run_dir(dir)
}

/// The running mean and variance of the model in an eval.
fn running(model: &Net) -> [TensorData; 2] {
    let norm = model.valid().norm;
    [norm.running_mean.value(), norm.running_var.value()].map(Tensor::into_data)
}

fn saved(dir: &Path, step: u64) -> [TensorData; 2] {
    let checkpoint = Checkpoint::read(&dir.join(format!("checkpoints/step_{step:08}")));
    let model = checkpoint.expect("whole").model;
    ["norm.running_mean", "norm.running_var"].map(|name| model[name].clone())
}

fn fit(run: TrainerBuilder<Difference>) -> Net {
    run.build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes")
        .model
}

#[test]
fn a_replay_with_gradients_returns_the_saved_model() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (recorded, replayed) = (MemorySink::default(), MemorySink::default());
    fit(run(dir.path(), net()).sink(recorded.clone()));
    let replay = Replay::builder(Difference, net())
        .train_data(data())
        .eval_data("val", val())
        .checkpoints(dir.path())
        .eval(true)
        .gradients(true);
    let replay = replay
        .sink(replayed.clone())
        .build()
        .expect("a valid replay");
    let fitted = replay.run().expect("a replay that completes");
    assert_eq!(recorded.series("val/loss").len(), 3);
    assert_eq!(replayed.series("val/loss"), recorded.series("val/loss"));
    assert_eq!(running(&fitted.model), saved(dir.path(), 6));
}

#[test]
fn weights_load_into_a_trained_model_but_not_its_clones() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let trained = fit(run(dir.path(), net()));
    let end = running(&trained);
    assert_eq!(end, saved(dir.path(), 6));
    let early = dir
        .path()
        .join("checkpoints/step_00000002/model.safetensors");
    let loaded = load_weights(trained.clone(), early).expect("its own weights");
    assert_eq!(running(&loaded), saved(dir.path(), 2));
    assert_eq!(running(&trained), end);
    assert_ne!(end, saved(dir.path(), 2));
}

#[test]
fn a_run_resumes_into_a_model_that_has_trained() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let trained = fit(run(dir.path(), net()));
    let end = running(&trained);
    let resumed = run(dir.path(), trained).resume(dir.path().join("checkpoints/step_00000002"));
    assert_eq!(running(&fit(resumed)), end);
}

#[test]
fn a_clone_that_the_caller_keeps_does_not_train() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let model = net();
    let before = running(&model);
    let trained = fit(run(dir.path(), model.clone()));
    assert_eq!(running(&model), before);
    assert_ne!(running(&trained), before);
}
