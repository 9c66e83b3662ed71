//! No replica is lost unnoticed, and what replicas cannot train is refused before anything runs.

#![expect(
    clippy::unit_arg,
    reason = "a hook that cannot fail reads best on one line"
)]

#[path = "support/replicas.rs"]
mod replicas;
#[path = "support/tiny.rs"]
mod tiny;

use bdh::burn::optim::SgdConfig;
use bdh::{BoxError, Outcome, TokenBatch, TrainError, Trainer};
use replicas::{devices, fit, try_fit, watched};
use serde_json::Value;
use std::time::{Duration, Instant};
use tiny::{Seen, Tiny};

#[test]
fn a_replica_that_panics_ends_the_run_with_its_name_and_without_a_hang() {
    let began = Instant::now();
    let seen = Seen::new();
    let told = seen.clone();
    let run = watched(10, |thread, batch| {
        assert!(
            thread != "replica 2" || batch.targets()[0] != 5,
            "no more paper"
        );
    });
    let end = tiny::on_fit_end(move |at| Ok(told.push(at.outcome.clone())));
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
fn the_trainers_own_panic_ends_the_run_as_on_one_device() {
    let run = watched(10, |thread, _| {
        assert!(thread.starts_with("replica"), "out of ink")
    });
    let run = run.grad_accum_steps(2).devices(devices(2));
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(try_fit(run))));
    let panic = panic.expect_err("the panic is passed on");
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"out of ink"));
}

#[test]
fn work_that_cannot_be_shared_evenly_is_refused_before_anything_runs() {
    let run = tiny::run(10).grad_accum_steps(3).devices(devices(2));
    let error = run
        .build()
        .err()
        .expect("3 micro-batches for 2")
        .to_string();
    for part in [
        "grad_accum_steps",
        "3",
        "2 devices",
        "4 would be 2 for each",
    ] {
        assert!(error.contains(part), "`{part}` in: {error}");
    }
}

/// Every second batch has another number of rows.
struct Uneven(u64);

impl bdh::Source for Uneven {
    type Batch = TokenBatch;

    fn next_batch(&mut self) -> Result<TokenBatch, BoxError> {
        self.0 += 1;
        Ok(TokenBatch::from_rows(&vec![
            vec![1, 2, 3];
            1 + (self.0 % 2) as usize
        ]))
    }

    fn position(&self) -> Value {
        Value::Null
    }

    fn seek(&mut self, _: &Value) -> Result<(), BoxError> {
        Ok(())
    }
}

#[test]
fn micro_batches_of_different_sizes_are_refused_before_they_are_dealt_out() {
    let run = |replicas: usize| {
        Trainer::builder(bdh::NextToken::new(Uneven(0), Vec::new()), Tiny::new(0.0))
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
    assert!(text.contains("one has 2 sample(s), another 1"), "{text}");
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
    // Nobody else has nine replicas.
    let watch = tiny::on_step(|_| Ok(assert_eq!(threads("replica 8"), 1)));
    let run = tiny::run(2)
        .grad_accum_steps(9)
        .devices(devices(9))
        .callback(watch);
    let fitted = fit(run);
    assert_eq!(fitted.problems, []);
    assert_eq!(threads("replica 8"), 0);

    let run = watched(2, |thread, _| {
        assert!(thread != "replica 3", "no more paper")
    });
    try_fit(run.grad_accum_steps(9).devices(devices(9))).expect_err("a replica panics");
    assert_eq!(threads("replica 8"), 0);
}

/// A model that counts a mean as it goes.
mod counting {
    use bdh::burn; // by which `derive(Module)` finds it
    use bdh::burn::module::Module;
    use bdh::burn::nn::{BatchNorm, BatchNormConfig};
    use bdh::burn::tensor::Tensor;
    use bdh::{BatchSize, BoxError, Probe, Task};

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

        fn next_batch(&mut self) -> Result<(), BoxError> {
            Ok(())
        }

        fn size(&self, (): &()) -> BatchSize {
            BatchSize {
                samples: 1,
                tokens: 1,
            }
        }

        fn loss(&self, model: &Counting, (): &(), _: &Probe<'_>) -> Tensor<1> {
            let x = Tensor::<3>::ones([2, 2, 1], &super::tiny::device());
            model.norm.forward(x).sum()
        }
    }
}

#[test]
fn a_model_that_remembers_batches_is_refused_on_several_devices() {
    let run = |replicas: usize| {
        let run = Trainer::builder(counting::Ones, counting::Counting::new()).steps(1);
        let run = run
            .optimizer(SgdConfig::new().build(), 0.1)
            .grad_accum_steps(2);
        run.devices(devices(replicas))
            .stop_on_signals(false)
            .build()
    };
    assert!(run(1).is_ok());
    let error = run(2).err().expect("running means").to_string();
    assert!(
        error.contains("norm.running_mean") && error.contains("one device"),
        "{error}"
    );
}

#[test]
fn devices_without_a_tape_are_refused() {
    let bare = vec![tiny::device(), tiny::device().inner()];
    let error = tiny::run(1)
        .grad_accum_steps(2)
        .devices(bare)
        .build()
        .err()
        .expect("no tape");
    assert!(error.to_string().contains("without autodiff"), "{error}");
}
