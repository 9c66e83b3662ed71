//! Numbers that a loss records, and what it knows of the run.

#[path = "support/tiny.rs"]
mod tiny;

use bdh::burn::optim::AdamWConfig;
use bdh::burn::tensor::Tensor;
use bdh::cadence::{at, every, secs};
use bdh::data::cycle;
use bdh::hooks::{after_backward, on_step};
use bdh::{BatchSize, BoxError, LossContext, MemorySink, Replay, Task, Trainer, TrainerBuilder};
use tiny::{Seen, Tiny};

/// Logs its batch, a number, and notes the progress that it is given.
struct Logging(Seen<(u64, f64)>);

impl Task for Logging {
    type Model = Tiny;
    type Batch = f32;

    fn size(&self, _: &f32) -> BatchSize {
        BatchSize::samples(1)
    }

    fn loss(&self, model: &Tiny, batch: &f32, step: &LossContext<'_>) -> Tensor<1> {
        self.0.push((step.step(), step.share()));
        let loss = model.head.weight.val().mean() * *batch;
        let device = model.head.weight.val().device();
        step.log("loss/number", Tensor::from_floats([*batch], &device));
        if *batch > 2.5 {
            step.log("large", Tensor::from_floats([*batch], &device));
        }
        loss
    }
}

fn run(seen: &Seen<(u64, f64)>) -> TrainerBuilder<Logging> {
    Trainer::builder(Logging(seen.clone()), Tiny::new(0.0))
        .train_data(cycle(vec![1.0, 2.0, 3.0, 4.0]))
        .optimizer(AdamWConfig::new().build(), 0.01)
        .steps(4)
        .stop_on_signals(false)
}

#[test]
fn logged_numbers_are_means_over_the_micro_batches_that_logged_them() -> Result<(), BoxError> {
    let memory = MemorySink::default();
    run(&Seen::new())
        .grad_accum_steps(2)
        .sink(memory.clone())
        .build()?
        .fit()?;
    let expected = [(1, 1.5), (2, 3.5), (3, 1.5), (4, 3.5)];
    assert_eq!(memory.series("train/loss/number"), expected);
    assert_eq!(memory.series("train/large"), [(2, 3.5), (4, 3.5)]);
    Ok(())
}

#[test]
fn logged_numbers_are_means_over_all_devices() -> Result<(), BoxError> {
    let memory = MemorySink::default();
    let run = run(&Seen::new()).grad_accum_steps(4).sink(memory.clone());
    run.devices(bdh::devices("cpu:0-1")?).build()?.fit()?;
    assert_eq!(memory.series("train/loss/number")[0], (1, 2.5));
    assert_eq!(memory.series("train/large")[0], (1, 3.5));
    Ok(())
}

#[test]
fn they_are_recorded_with_the_loss() -> Result<(), BoxError> {
    let memory = MemorySink::default();
    run(&Seen::new())
        .log(every(3))
        .sink(memory.clone())
        .build()?
        .fit()?;
    let steps = |key| {
        memory
            .series(key)
            .iter()
            .map(|(step, _)| *step)
            .collect::<Vec<_>>()
    };
    assert_eq!(steps("train/loss/number"), steps("train/loss"));
    assert_eq!(steps("train/loss"), [3, 4]);
    Ok(())
}

#[test]
fn a_callback_cannot_record_a_number_of_the_loss() -> Result<(), BoxError> {
    let memory = MemorySink::default();
    let rival = on_step(|ctx| {
        ctx.log("train/loss/number", 99.0);
        ctx.log("train/loss/other", 7.0);
        Ok(())
    });
    let run = run(&Seen::new()).callback(rival).sink(memory.clone());
    let warnings = run.build()?.fit()?.warnings;
    let expected = [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)];
    assert_eq!(memory.series("train/loss/number"), expected);
    assert_eq!(memory.series("train/loss/other").len(), 4);
    let cause = "it records `train/loss/number`, which the trainer records too";
    assert!(
        warnings.len() == 1 && warnings[0].cause == cause,
        "{warnings:?}"
    );
    Ok(())
}

/// Logs a number under a name of the trainer's own values.
struct Clashing;

impl Task for Clashing {
    type Model = Tiny;
    type Batch = f32;

    fn size(&self, _: &f32) -> BatchSize {
        BatchSize::samples(1)
    }

    fn loss(&self, model: &Tiny, batch: &f32, step: &LossContext<'_>) -> Tensor<1> {
        let loss = model.head.weight.val().mean() * *batch;
        step.log("loss", loss.clone() * 0.0 + 99.0);
        step.log("skipped", loss.clone());
        loss
    }
}

#[test]
fn a_number_with_the_name_of_a_trainers_value_is_left_out_with_a_warning() -> Result<(), BoxError> {
    let (plain, memory) = (MemorySink::default(), MemorySink::default());
    run(&Seen::new()).sink(plain.clone()).build()?.fit()?;
    let run =
        Trainer::builder(Clashing, Tiny::new(0.0)).train_data(cycle(vec![1.0, 2.0, 3.0, 4.0]));
    let run = run.optimizer(AdamWConfig::new().build(), 0.01).steps(4);
    let run = run.stop_on_signals(false).sink(memory.clone());
    let warnings = run.build()?.fit()?.warnings;
    assert_eq!(memory.series("train/loss"), plain.series("train/loss"));
    assert_eq!(memory.series("train/skipped"), []);
    assert!(
        warnings.len() == 1 && warnings[0].cause.contains("it logs `loss`"),
        "{warnings:?}"
    );
    Ok(())
}

#[test]
fn a_replay_of_a_timed_run_has_the_shares_of_that_run() -> Result<(), BoxError> {
    let scratch = tempfile::tempdir()?;
    let (seen, replayed) = (Seen::new(), Seen::new());
    let run = run(&seen).duration(secs(0.3)).checkpoint(at([2, 5]));
    run.run_dir(scratch.path().join("run")).build()?.fit()?;
    let replay = Replay::builder(Logging(replayed.clone()), Tiny::new(0.0))
        .train_data(cycle(vec![1.0, 2.0, 3.0, 4.0]))
        .checkpoints(scratch.path().join("run"))
        .gradients(true);
    replay.callback(after_backward(|_| Ok(()))).build()?.run()?;
    let ours = seen.all();
    assert_eq!(replayed.all(), [ours[2], ours[5]]);
    assert!(ours[5].1 > 0.0, "{ours:?}");
    Ok(())
}

#[test]
fn a_loss_knows_the_step_and_the_share_of_the_run() -> Result<(), BoxError> {
    let seen = Seen::new();
    run(&seen).build()?.fit()?;
    assert_eq!(seen.all(), [(1, 0.0), (2, 0.25), (3, 0.5), (4, 0.75)]);
    Ok(())
}
