//! `resume_exact` is right also while other threads train or draw random numbers, as under cargo's test threads.

#[path = "support/tiny.rs"]
mod tiny;

use bdh::burn::nn::LinearConfig;
use bdh::burn::optim::SgdConfig;
use bdh::burn::tensor::{Device, Distribution, Tensor};
use bdh::hooks::on_step;
use bdh::testing::resume_exact;
use bdh::{BatchSize, LossContext, Task, TokenBatch, Trainer, TrainerBuilder};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

/// Checks runs, and returns the text of the panic, if there is one.
fn checked<T: Task>(make: impl Fn() -> TrainerBuilder<T>) -> Option<String> {
    let check = AssertUnwindSafe(|| resume_exact([2, 5], &[], make));
    let panic = catch_unwind(check).err()?;
    Some(*panic.downcast().expect("a panic with a text"))
}

fn with_dropout() -> tiny::Builder {
    tiny::run_with(0.3, 8).grad_accum_steps(2)
}

/// Draws a number from burn's generator.
fn draw(device: &Device) -> Tensor<1> {
    Tensor::random([1], Distribution::Default, &device.clone().inner())
}

/// Calls `check` while another thread does `work` again and again.
fn during<R>(work: impl Fn() + Sync, check: impl FnOnce() -> R) -> R {
    let (is_over, has_begun) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                work();
                has_begun.store(true, Ordering::Relaxed);
            }
        });
        while !has_begun.load(Ordering::Relaxed) {
            thread::yield_now();
        }
        let result = check();
        is_over.store(true, Ordering::Relaxed);
        result
    })
}

#[test]
fn runs_with_dropout_on_other_threads_wait_for_the_end_of_the_check() {
    let _alone = tiny::alone();
    let trains = || {
        let trainer = with_dropout().build().expect("a valid run");
        trainer.fit().expect("a run that completes");
    };
    let panic = during(trains, || checked(with_dropout));
    assert_eq!(panic, None);
}

#[test]
fn checks_on_several_threads_wait_for_each_other() {
    let _alone = tiny::alone();
    let panics = thread::scope(|scope| {
        let threads = [(); 3].map(|()| scope.spawn(|| checked(with_dropout)));
        threads.map(|thread| thread.join().expect("panics are caught"))
    });
    assert_eq!(panics, [None, None, None]);
}

#[test]
fn draws_that_never_stop_are_named_as_the_reason() {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let _alone = tiny::alone();
    // No two runs in succession draw equally often, as if another thread drew in between.
    let panic = checked(|| drawing(|| CALLS.fetch_add(1, Ordering::Relaxed) % 5));
    let panic = panic.expect("dropout that differs");
    assert!(
        panic.contains("another thread of this process draws some too"),
        "{panic}"
    );
    assert!(panic.contains("--test-threads 1"), "{panic}");
}

#[test]
fn draws_do_not_matter_to_a_run_that_needs_no_random_numbers() {
    let _alone = tiny::alone();
    let draws = || drop(draw(&tiny::device()));
    let panic = during(draws, || checked(|| tiny::run(8)));
    assert_eq!(panic, None);
}

#[test]
fn weights_drawn_in_make_are_equal_without_a_seed_of_their_own() {
    let _alone = tiny::alone();
    let make = || {
        let mut model = tiny::Tiny::new(0.0);
        model.head = LinearConfig::new(8, tiny::VOCAB).init(&tiny::device());
        tiny::compose(tiny::ROWS, model, 6).optimizer(SgdConfig::new().build(), 0.1)
    };
    assert_eq!(checked(make), None);
}

#[test]
fn run_that_differs_twice_is_reported_as_such() {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let _alone = tiny::alone();
    let panic = checked(|| {
        tiny::run(6).callback(on_step(|ctx| {
            ctx.log("calls", CALLS.fetch_add(1, Ordering::Relaxed) as f64);
            Ok(())
        }))
    });
    let panic = panic.expect("the run differs each time");
    assert!(
        panic.starts_with("run twice and never interrupted (something is random"),
        "{panic}"
    );
    assert!(
        panic.contains("`calls` is Some(Number(6.0)) instead of Some(Number(0.0))"),
        "{panic}"
    );
}

/// Task that draws numbers in each loss before its dropout does.
struct Drawing<F> {
    task: tiny::Task,
    /// Returns how many numbers to draw.
    draws: F,
}

impl<F: Fn() -> u64 + Send + Sync + 'static> Task for Drawing<F> {
    type Model = tiny::Tiny;
    type Batch = TokenBatch;

    fn size(&self, batch: &TokenBatch) -> BatchSize {
        self.task.size(batch)
    }

    fn loss(&self, model: &tiny::Tiny, batch: &TokenBatch, step: &LossContext<'_>) -> Tensor<1> {
        for _ in 0..(self.draws)() {
            drop(draw(&tiny::device()));
        }
        self.task.loss(model, batch, step)
    }
}

/// Composes a run of 8 steps of a [`Drawing`] task.
fn drawing<F: Fn() -> u64 + Send + Sync + 'static>(draws: F) -> TrainerBuilder<Drawing<F>> {
    let task = Drawing {
        task: tiny::task(),
        draws,
    };
    Trainer::builder(task, tiny::Tiny::new(0.3))
        .train_data(tiny::Rows::of(tiny::ROWS))
        .optimizer(SgdConfig::new().build(), 0.1)
        .steps(8)
        .stop_on_signals(false)
}

#[test]
fn resumed_run_that_draws_other_numbers_is_not_taken_for_a_disturbed_one() {
    let _alone = tiny::alone();
    let panic = checked(|| {
        let has_begun = AtomicBool::new(false);
        // One more number in the first loss of a run and in that of its second part.
        drawing(move || u64::from(!has_begun.swap(true, Ordering::Relaxed)))
    });
    let panic = panic.expect("dropout that differs after a resume");
    assert!(
        panic.starts_with("stopped after step 2 and resumed, a record differs: `train/loss`"),
        "{panic}"
    );
}
