//! A failing replica ends the run, and models that replicas cannot train are refused before the run.

#![expect(
    clippy::unit_arg,
    reason = "a hook that cannot fail reads best on one line"
)]

#[path = "support/replicas.rs"]
mod replicas;
#[path = "support/tiny.rs"]
mod tiny;

use bdh::burn::optim::SgdConfig;
use bdh::data::{TrainData, cycle};
use bdh::{BoxError, NextToken, Outcome, TokenBatch, TrainError, Trainer};
use replicas::{devices, fit, try_fit, watched};
use std::time::{Duration, Instant};
use tiny::{Seen, Tiny};

#[test]
fn a_panic_of_a_replica_ends_the_run_with_its_number() {
    let began = Instant::now();
    let seen = Seen::new();
    let reported = seen.clone();
    let run = watched(10, |thread, batch| {
        assert!(
            thread != "replica 2" || batch.targets()[0] != 5,
            "no more paper"
        );
    });
    let end = tiny::on_fit_end(move |ctx| Ok(reported.push(ctx.outcome.clone())));
    let run = run.grad_accum_steps(3).devices(devices(3)).callback(end);
    let error = try_fit(run).expect_err("a replica panics");
    let TrainError::Replica {
        replica: 2,
        step,
        text,
    } = &error
    else {
        panic!("{error}")
    };
    assert!(*step >= 1 && text == "no more paper", "{error}");
    assert!(
        error.to_string().starts_with("replica 2 failed at step"),
        "{error}"
    );
    assert!(matches!(&seen.all()[..], [Outcome::Failed(text)] if text.contains("no more paper")));
    assert!(began.elapsed() < Duration::from_mins(1));
}

#[test]
fn a_panic_on_the_first_device_ends_the_run_as_usual() {
    let run = watched(10, |thread, _| {
        assert!(thread.starts_with("replica"), "out of ink");
    });
    let run = run.grad_accum_steps(2).devices(devices(2));
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(try_fit(run))));
    let panic = panic.expect_err("the panic is resumed");
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"out of ink"));
}

#[test]
fn uneven_shares_are_refused_before_the_run() {
    let run = tiny::run(10).grad_accum_steps(3).devices(devices(2));
    let error = run.build().expect_err("3 micro-batches for 2").to_string();
    for part in [
        "grad_accum_steps",
        "3",
        "2 devices",
        "use 4, 2 for each device",
    ] {
        assert!(error.contains(part), "`{part}` in: {error}");
    }
}

/// Batches with alternating numbers of rows.
struct Uneven(u64);

impl TrainData for Uneven {
    type Batch = TokenBatch;

    fn next_batch(&mut self) -> Result<TokenBatch, BoxError> {
        self.0 += 1;
        Ok(TokenBatch::from_rows(&vec![
            vec![1, 2, 3];
            1 + (self.0 % 2) as usize
        ]))
    }
}

#[test]
fn micro_batches_of_different_sizes_are_refused() {
    let run = |replicas: usize| {
        Trainer::builder(NextToken::new(), Tiny::new(0.0))
            .train_data(Uneven(0))
            .optimizer(SgdConfig::new().build(), 0.1)
            .steps(2)
            .grad_accum_steps(2)
            .devices(devices(replicas))
            .stop_on_signals(false)
    };
    let error = try_fit(run(2)).expect_err("uneven");
    let TrainError::Data { step: 1, source } = &error else {
        panic!("{error}")
    };
    let text = source.to_string();
    assert!(text.contains("different sizes, 2 and 1 samples"), "{text}");
    fit(run(1)); // on one device they are averaged, as before
}

/// Threads of this process by name.
#[cfg(target_os = "linux")]
fn threads(name: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux lists its threads");
    let names = tasks
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|comm| comm.trim() == name).count()
}

#[test]
#[cfg(target_os = "linux")]
fn no_thread_outlives_its_run() {
    // No other test has nine replicas.
    let watch = tiny::on_step(|_| Ok(assert_eq!(threads("replica 8"), 1)));
    let run = tiny::run(2)
        .grad_accum_steps(9)
        .devices(devices(9))
        .callback(watch);
    let fitted = fit(run);
    assert_eq!(fitted.warnings, []);
    assert_eq!(threads("replica 8"), 0);

    let run = watched(2, |thread, _| {
        assert!(thread != "replica 3", "no more paper");
    });
    try_fit(run.grad_accum_steps(9).devices(devices(9))).expect_err("a replica panics");
    assert_eq!(threads("replica 8"), 0);
}

/// A model with a running mean.
mod counting {
    use bdh::burn; // `derive(Module)` generates paths that begin with `burn`
    use bdh::burn::module::Module;
    use bdh::burn::nn::{BatchNorm, BatchNormConfig};
    use bdh::burn::tensor::Tensor;
    use bdh::{BatchSize, LossContext, Task};

    #[derive(Module, Debug)]
    pub(super) struct Counting {
        norm: BatchNorm,
    }

    impl Counting {
        pub(super) fn new() -> Self {
            Self {
                norm: BatchNormConfig::new(2).init(&super::tiny::device()),
            }
        }
    }

    pub(super) struct Ones;

    impl Task for Ones {
        type Model = Counting;
        type Batch = ();

        fn size(&self, (): &()) -> BatchSize {
            BatchSize::samples(1)
        }

        fn loss(&self, model: &Counting, (): &(), _: &LossContext<'_>) -> Tensor<1> {
            let x = Tensor::<3>::ones([2, 2, 1], &super::tiny::device());
            model.norm.forward(x).sum()
        }
    }
}

#[test]
fn a_running_mean_is_refused_on_several_devices() {
    let run = |replicas: usize| {
        let run = Trainer::builder(counting::Ones, counting::Counting::new()).steps(1);
        let run = run
            .train_data(cycle(vec![()]))
            .optimizer(SgdConfig::new().build(), 0.1)
            .grad_accum_steps(2);
        run.devices(devices(replicas))
            .stop_on_signals(false)
            .build()
    };
    assert!(run(1).is_ok());
    let error = run(2).expect_err("running means").to_string();
    assert!(
        error.contains("norm.running_mean") && error.contains("one device"),
        "{error}"
    );
}

#[test]
fn devices_without_autodiff_are_refused() {
    let bare = vec![tiny::device(), tiny::device().inner()];
    let error = tiny::run(1)
        .grad_accum_steps(2)
        .devices(bare)
        .build()
        .expect_err("no tape");
    assert!(
        error.to_string().contains("records no gradients"),
        "{error}"
    );
}
