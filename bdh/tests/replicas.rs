//! A run on n devices equals the run on one device with the same micro-batches.
//!
//! The devices are the CPU, n times: GPUs shard, sum and compare in the same way.

#![expect(
    clippy::unit_arg,
    reason = "a hook that cannot fail reads best on one line"
)]

#[path = "support/replicas.rs"]
mod replicas;
#[path = "support/tiny.rs"]
mod tiny;

use bdh::burn::optim::AdamWConfig;
use bdh::cadence::{every, never};
use bdh::data::cycle;
use bdh::{
    BoxError, Intervention, InterventionContext, MemorySink, Outcome, Schedule, StopReason,
    Trainer, UpdateDecision,
};
use replicas::{devices, fit, watched};
use serde_json::Value;
use tiny::{ROWS, Seen, Tiny};

/// Final weights, and the loss of each step.
fn trained(run: tiny::Builder) -> (Vec<f32>, Vec<f64>) {
    let memory = MemorySink::default();
    let model = fit(run.sink(memory.clone())).model;
    let weights = tiny::weights(&model)
        .into_iter()
        .flatten()
        .map(f32::from_bits)
        .collect();
    (
        weights,
        memory
            .series("train/loss")
            .into_iter()
            .map(|(_, loss)| loss)
            .collect(),
    )
}

/// Panics unless numbers are equal up to the rounding of sums in another order, relative to their size.
fn close(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (place, (found, expected)) in found.iter().zip(expected).enumerate() {
        let apart = (found - expected).abs() / expected.abs().max(1.0);
        assert!(apart <= tolerance, "{place}: {found}, not {expected}");
    }
}

fn close_runs(found: (Vec<f32>, Vec<f64>), expected: (Vec<f32>, Vec<f64>)) {
    let wide = |values: Vec<f32>| values.into_iter().map(f64::from).collect::<Vec<_>>();
    close(&found.1, &expected.1, 1e-5);
    close(&wide(found.0), &wide(expected.0), 1e-4);
}

#[test]
fn n_replicas_of_b_rows_train_like_one_model_on_n_times_b() {
    let with = |rows: usize, replicas: usize| {
        let run = tiny::compose(rows, Tiny::new(0.0), 30);
        let run = run
            .optimizer(AdamWConfig::new().build(), 0.01)
            .clip_grad_norm(0.5);
        trained(run.grad_accum_steps(replicas).devices(devices(replicas)))
    };
    let single = with(8, 1);
    close_runs(with(4, 2), single.clone());
    close_runs(with(2, 4), single);
}

#[test]
fn replicas_train_like_accumulation_of_the_same_micro_batches() {
    let with = |replicas| tiny::run(30).grad_accum_steps(6).devices(devices(replicas));
    let single = trained(with(1));
    close_runs(trained(with(3)), single.clone());
    close_runs(trained(with(2)), single);
}

#[test]
fn one_listed_device_gives_the_single_device_run() {
    let plain = trained(tiny::run(10));
    assert_eq!(trained(tiny::run(10).devices(devices(1))), plain);
}

#[test]
fn replicas_are_bit_identical_after_each_of_100_steps() {
    let norms = tiny::before_optimizer_step(|ctx| Ok(ctx.log("norm", ctx.gradients.l2())));
    let updates = tiny::after_optimizer_step(|ctx| Ok(ctx.log("update", ctx.updates.l2())));
    let run = tiny::run(100)
        .clip_grad_norm(0.1)
        .grad_accum_steps(6)
        .devices(devices(3));
    fit(run
        .check_replicas(every(1))
        .callback(norms)
        .callback(updates));
}

#[test]
fn callbacks_of_a_run_on_several_devices_see_the_whole_step() {
    let with = |replicas| {
        let (seen, memory) = (Seen::new(), MemorySink::default());
        let log = seen.clone();
        let run = tiny::run(3).grad_accum_steps(2).devices(devices(replicas));
        let norms = tiny::after_backward(move |ctx| {
            log.push((ctx.step(), ctx.clock().samples, ctx.num_devices()));
            Ok(ctx.log("norm", ctx.gradients.l2()))
        });
        fit(run.callback(norms).sink(memory.clone()));
        let norms: Vec<_> = memory
            .series("norm")
            .into_iter()
            .map(|(_, norm)| norm)
            .collect();
        (seen.all(), norms)
    };
    let ((seen, norms), (of_single, norms_of_single)) = (with(2), with(1));
    assert_eq!(seen, [(1, 4, 2), (2, 8, 2), (3, 12, 2)]);
    assert_eq!(of_single, [(1, 4, 1), (2, 8, 1), (3, 12, 1)]);
    close(&norms, &norms_of_single, 1e-6);
}

#[test]
fn each_batch_goes_to_exactly_one_replica() {
    let (seen, log) = (Seen::new(), Seen::new());
    let pushed = seen.clone();
    let run = watched(2, move |thread, batch| {
        let thread = if thread.starts_with("replica") {
            thread
        } else {
            "trainer"
        };
        pushed.push((thread.to_owned(), batch.targets().to_vec()));
    });
    fit(run.grad_accum_steps(4).devices(devices(2)));
    let on = |name: &str| {
        seen.all()
            .into_iter()
            .filter(|(thread, _)| thread == name)
            .count()
    };
    assert_eq!((on("trainer"), on("replica 1")), (5, 5)); // 2 steps of 2 micro-batches, and an eval's half

    // Together they are the batches that one device would have seen.
    let pushed = log.clone();
    fit(watched(2, move |_, batch| pushed.push(batch.targets().to_vec())).grad_accum_steps(4));
    let sorted = |mut batches: Vec<Vec<i32>>| {
        batches.sort();
        batches
    };
    let batches = seen.all().into_iter().map(|(_, batch)| batch).collect();
    assert_eq!(sorted(batches), sorted(log.all()));
}

#[test]
fn an_eval_on_several_devices_gives_the_same_metrics() {
    let metrics = |replicas| {
        let memory = MemorySink::default();
        let run = tiny::run(4)
            .grad_accum_steps(4)
            .devices(devices(replicas))
            .eval(every(2));
        fit(run.sink(memory.clone()));
        let of = |key: &str| memory.series(key).into_iter().map(|(_, value)| value);
        ["val/loss", "val/accuracy", "val/perplexity", "val/bpb"]
            .into_iter()
            .flat_map(of)
            .collect()
    };
    let single: Vec<f64> = metrics(1);
    assert_eq!(single.len(), 8);
    close(&metrics(2), &single, 1e-6);
    close(&metrics(4), &single, 1e-6); // two validation batches, so two of the replicas get none
}

#[test]
fn the_plan_shows_the_work_of_each_device() {
    let trainer = tiny::run(10)
        .grad_accum_steps(6)
        .devices(devices(3))
        .build()
        .expect("valid");
    let plan = trainer.plan().to_string();
    assert!(
        plan.contains("micro-batches per step: 6 (2 on each of 3 devices)"),
        "{plan}"
    );
}

#[test]
fn dropout_of_replicas_on_one_device_is_repeatable() {
    let with = |replicas: usize| {
        let run = tiny::run_with(0.4, 20).grad_accum_steps(4);
        trained(run.devices(devices(replicas)).check_replicas(every(1)))
    };
    let first = with(4);
    assert_eq!(with(4), first);
    close_runs(first, with(1));
}

/// An intervention that scales gradients, skips every fifth step and halves the learning rate of every third.
struct Meddle;

impl Intervention for Meddle {
    fn name(&self) -> String {
        "meddle".to_owned()
    }

    fn config(&self) -> Value {
        Value::Null
    }

    fn intervene(&mut self, ctx: &mut InterventionContext<'_>) -> Result<UpdateDecision, BoxError> {
        let step = ctx.ctx().step();
        if step.is_multiple_of(2) {
            ctx.replace_gradients(|param, gradient| gradient * (1.0 / param.rank() as f64));
        }
        if step.is_multiple_of(3) {
            ctx.scale_lr(0.5);
        }
        Ok(if step.is_multiple_of(5) {
            UpdateDecision::Skip
        } else {
            UpdateDecision::Apply
        })
    }
}

#[test]
fn interventions_act_once_on_the_sum_of_all_replicas() {
    let with = |replicas: usize| {
        let run = tiny::run(30)
            .grad_accum_steps(2)
            .clip_grad_norm(0.3)
            .intervention(Meddle);
        trained(run.devices(devices(replicas)).check_replicas(every(1)))
    };
    close_runs(with(2), with(1));
}

#[test]
fn a_resumed_multi_device_run_ends_like_an_unbroken_one() {
    let dir = std::env::temp_dir().join(format!("bdh-replicas-{}", std::process::id()));
    let run = |steps: u64, name: &str| {
        let schedule = Schedule::from(0.01);
        let run = tiny::compose(ROWS, Tiny::new(0.0), steps);
        let run = run
            .optimizer(AdamWConfig::new().build(), schedule)
            .grad_accum_steps(4);
        run.devices(devices(2))
            .run_dir(dir.join(name))
            .checkpoint(every(5))
            .eval(never())
    };
    let whole = tiny::weights(&fit(run(20, "whole")).model);
    let stop = tiny::on_step(|ctx| {
        if ctx.step() == 10 {
            ctx.stop("enough");
        }
        Ok(())
    });
    let stopped = fit(run(20, "halves").callback(stop));
    assert!(matches!(
        stopped.outcome,
        Outcome::Stopped(StopReason::Asked { .. })
    ));
    let resumed = run(20, "halves")
        .resume("auto")
        .allow_changed(["callbacks"]);
    let resumed = fit(resumed.check_replicas(every(1)));
    assert_eq!(tiny::weights(&resumed.model), whole);

    // Another number of devices is a change of the run, which must be allowed.
    let elsewhere = |dir: &str| run(30, dir).resume("auto").devices(Vec::new());
    let error = elsewhere("whole")
        .build()
        .expect_err("one device")
        .to_string();
    assert!(error.contains("trainer.devices"), "{error}");
    let allowed = ["trainer.steps", "trainer.devices", "callbacks"];
    fit(elsewhere("whole").allow_changed(allowed));
    std::fs::remove_dir_all(&dir).expect("it is ours");
}

/// A model with a second head that only every second micro-batch uses, and a third that is never used.
mod branches {
    use super::tiny;
    use bdh::burn; // `derive(Module)` generates paths that begin with `burn`
    use bdh::burn::module::{Module, Param};
    use bdh::burn::tensor::Tensor;
    use bdh::{BatchSize, LossContext, Task};

    #[derive(Module, Debug)]
    pub(super) struct Branches {
        pub(super) always: Param<Tensor<1>>,
        pub(super) odd: Param<Tensor<1>>,
        pub(super) never: Param<Tensor<1>>,
    }

    impl Branches {
        pub(super) fn new() -> Self {
            let one = || Param::from_tensor(Tensor::ones([2], &tiny::device()));
            Self {
                always: one(),
                odd: one(),
                never: one(),
            }
        }

        pub(super) fn values(&self) -> Vec<f32> {
            let all = [&self.always, &self.odd, &self.never];
            let values = |param: &Param<Tensor<1>>| param.val().into_data().iter::<f32>().collect();
            all.into_iter()
                .flat_map(|param| -> Vec<f32> { values(param) })
                .collect()
        }
    }

    pub(super) struct Sum;

    impl Task for Sum {
        type Model = Branches;
        type Batch = u64;

        fn size(&self, _: &u64) -> BatchSize {
            BatchSize::samples(1)
        }

        fn loss(&self, model: &Branches, batch: &u64, _: &LossContext<'_>) -> Tensor<1> {
            let loss = model.always.val().sum() * 0.5;
            if batch.is_multiple_of(2) {
                loss
            } else {
                loss + model.odd.val().sum()
            }
        }
    }
}

#[test]
fn only_parameters_that_a_replica_uses_are_updated() {
    let with = |replicas: usize| {
        let decays = AdamWConfig::new().with_weight_decay(0.5).build();
        let run = Trainer::builder(branches::Sum, branches::Branches::new());
        let run = run
            .train_data(cycle(vec![1, 2]))
            .optimizer(decays, 0.1)
            .steps(3)
            .grad_accum_steps(2)
            .stop_on_signals(false);
        fit(run.devices(devices(replicas)).check_replicas(every(1)))
            .model
            .values()
    };
    let (pair, single) = (with(2), with(1));
    assert_eq!(pair, single);
    assert_eq!(pair[4..], [1.0, 1.0]); // not even decayed
    assert!(pair[..4].iter().all(|value| *value < 1.0));
}

#[test]
fn exchange_reads_are_counted_and_skipped_steps_send_nothing() {
    let reads = |replicas: usize| {
        let run = tiny::run(5)
            .grad_accum_steps(2)
            .intervention(Meddle)
            .log(never())
            .eval(never());
        fit(run.devices(devices(replicas)).check_replicas(never()))
            .overhead
            .reads
    };
    assert_eq!(reads(1), 0);
    assert_eq!(reads(2), 5 + 4); // the fifth step is skipped
}
