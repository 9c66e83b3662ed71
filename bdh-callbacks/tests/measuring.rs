//! Measurements of gradients, time and memory agree with calculations by hand.

#![expect(
    clippy::unit_arg,
    reason = "a hook that cannot fail reads best on one line"
)]

#[path = "../../bdh/tests/support/tiny.rs"]
mod tiny;

use bdh::burn::optim::AdamWConfig;
use bdh::burn::tensor::Tensor;
use bdh::cadence::every;
use bdh::data::{Prefetch, TrainData};
use bdh::{
    BatchSize, BoxError, Callback, LossContext, MemorySink, Task, TokenBatch, TrainResult, Trainer,
    Value, registry,
};
use bdh_callbacks::{
    DevicePeak, GradientNoise, MemoryMonitor, StepProfiler, SystemMonitor, Throughput,
};
use std::time::Duration;
use tiny::{Listener, Rows, Seen, Tiny};

fn fit(run: tiny::Builder) -> TrainResult<tiny::Tiny> {
    let fitted = run
        .build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes");
    assert_eq!(fitted.warnings, []);
    fitted
}

#[test]
fn noise_scale_follows_from_the_norms_of_micro_batches() {
    let _alone = tiny::alone();
    let memory = MemorySink::default();
    let small = bdh::hooks::on_micro_batch(|ctx| {
        ctx.log(
            format!("small/{}", ctx.index),
            ctx.gradients.l2() * ctx.count as f64,
        );
        Ok(())
    });
    let big = bdh::hooks::after_backward(|ctx| {
        ctx.log("big", ctx.gradients.l2());
        Ok(())
    });
    let run = tiny::run(3)
        .grad_accum_steps(4)
        .sink(memory.clone())
        .callback(small)
        .callback(big);
    let fitted = fit(run.callback(GradientNoise::default()));
    assert_eq!(fitted.overhead.rows[2].reads, 0);

    let square = |key: &str| memory.series(key)[0].1.powi(2);
    let small = (0..4)
        .map(|index| square(&format!("small/{index}")))
        .sum::<f64>()
        / 4.0;
    let (big, per_batch, per_step) = (square("big"), 2.0, 8.0); // samples
    let grad_sq = (per_step * big - per_batch * small) / (per_step - per_batch);
    let trace = (small - big) / (1.0 / per_batch - 1.0 / per_step);
    let about = |key, expected: f64| {
        let found = memory.series(key)[0].1;
        assert!(
            (found / expected - 1.0).abs() < 1e-9,
            "{key} is {found} instead of {expected}"
        );
    };
    about("noise/grad_sq", grad_sq);
    about("noise/trace", trace);
    about("noise/scale", trace / grad_sq);
    about("noise/scale_tokens", trace / grad_sq * 4.0); // tokens a sample
}

/// Task of the tiny model on data without tokens, like images.
struct Pictures(tiny::Task);

impl Task for Pictures {
    type Model = Tiny;
    type Batch = TokenBatch;

    fn size(&self, batch: &TokenBatch) -> BatchSize {
        BatchSize::samples(self.0.size(batch).samples)
    }

    fn loss(&self, model: &Tiny, batch: &TokenBatch, step: &LossContext<'_>) -> Tensor<1> {
        self.0.loss(model, batch, step)
    }

    fn flops_per_token(&self, model: &Tiny, batch: &TokenBatch) -> Option<f64> {
        self.0.flops_per_token(model, batch)
    }
}

#[test]
fn data_without_tokens_is_measured_in_samples() {
    let _alone = tiny::alone();
    let memory = MemorySink::default();
    let run = Trainer::builder(Pictures(tiny::task()), Tiny::new(0.0))
        .train_data(tiny::Lost(Rows::of(2)))
        .optimizer(AdamWConfig::new().build(), 0.01)
        .steps(4)
        .stop_on_signals(false)
        .grad_accum_steps(3)
        .sink(memory.clone())
        .callback(Throughput::default().peak_flops(1e9))
        .callback(GradientNoise::default());
    run.build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes");

    let times = memory.series("train/step_time");
    let rates = memory.series("train/samples_per_sec");
    assert_eq!((rates.len(), times.len()), (3, 3));
    for ((_, rate), (_, time)) in rates.iter().zip(&times) {
        assert!(
            (rate * time / 6.0 - 1.0).abs() < 1e-9,
            "a step has 6 samples"
        );
    }
    assert_eq!(memory.series("noise/scale").len(), 4);
    for key in [
        "train/tok_per_sec",
        "train/tokens",
        "train/flops",
        "train/mfu",
        "noise/scale_tokens",
    ] {
        assert_eq!(memory.series(key), [], "{key}");
    }
}

#[test]
fn one_micro_batch_has_no_noise_scale_but_a_note() {
    let _alone = tiny::alone();
    let (memory, messages) = (MemorySink::default(), Seen::new());
    let run = tiny::run(2)
        .sink(memory.clone())
        .sink(Listener(messages.clone()));
    fit(run.callback(GradientNoise::default()));
    assert_eq!(memory.series("noise/scale"), []);
    assert_eq!(messages.all().len(), 1, "{:?}", messages.all());
}

#[test]
fn profile_finds_the_slow_phase_and_its_shares_add_up() {
    let _alone = tiny::alone();
    let memory = MemorySink::default();
    let slow = bdh::hooks::on_micro_batch(|_| {
        std::thread::sleep(Duration::from_millis(5));
        Ok(())
    });
    let profile = StepProfiler::default().first_step(2).steps(99).sync(true);
    let run = tiny::run(5).sink(memory.clone()).callback(slow);
    fit(run.callback(profile));
    assert_eq!(memory.series("profile/other").len(), 4);
    let slow = memory.series("profile/forward_backward");
    assert!(
        slow.iter().all(|(_, seconds)| *seconds >= 0.005),
        "{slow:?}"
    );

    let last = memory.records().pop().expect("a record"); // the run ends before the window does
    let table = last
        .values
        .iter()
        .find(|(key, _)| key == "profile")
        .expect("a table");
    let Value::Table { rows, .. } = &table.1 else {
        panic!("{table:?}")
    };
    let shares = rows
        .iter()
        .map(|row| row[2].parse::<f64>().expect("a share"));
    assert!((shares.sum::<f64>() - 100.0).abs() < 0.5, "{rows:?}");
}

#[test]
fn peak_flops_takes_precedence_over_device_peak() {
    let _alone = tiny::alone();
    let mfu = |throughput: Throughput| {
        let memory = MemorySink::default();
        fit(tiny::run(4).sink(memory.clone()).callback(throughput));
        let rate = memory.series("train/tok_per_sec")[0].1;
        memory.series("train/mfu")[0].1 / rate
    };
    let named = || Throughput::default().device_peak(DevicePeak::A100Bf16);
    let both = [named(), named().peak_flops(312e11)];
    let [named, given] = both.map(mfu);
    assert!((given / named - 10.0).abs() < 1e-9);
}

#[test]
fn memory_and_load_are_plausible() {
    let _alone = tiny::alone();
    let memory = MemorySink::default();
    let look = MemoryMonitor::default().on(bdh::cadence::every(1));
    let load = SystemMonitor::default().on(bdh::cadence::every(1));
    let busy = bdh::hooks::on_step(|_| {
        let until = std::time::Instant::now() + std::time::Duration::from_millis(150);
        while std::time::Instant::now() < until {
            std::hint::spin_loop();
        }
        Ok(())
    });
    fit(tiny::run(2)
        .sink(memory.clone())
        .callback(busy)
        .callback(look)
        .callback(load));
    let rss = memory.series("memory/rss")[0].1;
    assert!((1.0..100_000.0).contains(&rss), "{rss}");
    let (_, share) = memory.series("system/cpu_machine")[1];
    assert!((0.0..=1.0).contains(&share), "{share}");
    assert!(memory.series("system/cpu_process")[1].1 > 0.0);
}

const LONG: Duration = Duration::from_millis(20);

/// Returns the mean step times in seconds that `throughput` records in a run with a slow callback.
fn step_times(
    throughput: impl Callback + 'static,
    slow: impl Callback + 'static,
) -> Vec<(u64, f64)> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let memory = MemorySink::default();
    fit(tiny::run(8)
        .eval(every(1))
        .checkpoint(every(1))
        .run_dir(dir.path().join("run"))
        .sink(memory.clone())
        .callback(slow)
        .callback(throughput));
    let times = memory.series("train/step_time");
    for ((_, rate), (_, time)) in memory.series("train/tok_per_sec").iter().zip(&times) {
        assert!(
            (rate * time / 8.0 - 1.0).abs() < 1e-9,
            "a step has 8 tokens"
        );
    }
    times
}

fn steps(times: &[(u64, f64)]) -> Vec<u64> {
    times.iter().map(|(step, _)| *step).collect()
}

#[test]
fn throughput_excludes_evals_and_checkpoints() {
    let _alone = tiny::alone();
    let slow = tiny::on_eval_batch(|_| Ok(std::thread::sleep(LONG)));
    let times = step_times(Throughput::default(), slow);
    assert_eq!(steps(&times), [2, 3, 4, 5, 6, 7, 8]);
    let is_short = |(_, time): &(u64, f64)| *time < LONG.as_secs_f64();
    assert!(
        times.iter().filter(|time| is_short(time)).count() >= 5,
        "{times:?}"
    );

    let slow = tiny::on_checkpoint(|_| Ok(std::thread::sleep(LONG)));
    let times = step_times(Throughput::default(), slow);
    assert!(
        times.iter().filter(|time| is_short(time)).count() >= 5,
        "{times:?}"
    );
}

#[test]
fn throughput_includes_all_waits_of_a_step() {
    let _alone = tiny::alone();
    let slow = tiny::on_step(|_| Ok(std::thread::sleep(LONG)));
    let times = step_times(Throughput::default(), slow);
    assert!(
        times.iter().all(|(_, time)| *time >= LONG.as_secs_f64()),
        "{times:?}"
    );
}

#[test]
fn throughput_is_the_same_at_any_cadence() {
    let _alone = tiny::alone();
    let slow = || tiny::on_step_start(|_| Ok(std::thread::sleep(LONG)));
    let set = Throughput::default().on(every(4));
    let file = "[[callback]]\nuse = \"throughput\"\non = 4";
    let file = registry::from_toml(file)
        .expect("a valid configuration")
        .remove(0);
    let outer = bdh::CallbackExt::on(Throughput::default(), every(4));
    let set = step_times(set, slow());
    let file = step_times(file, slow());
    let outer = step_times(outer, slow());
    assert_eq!(steps(&set), [4, 8]);
    assert_eq!(steps(&file), [4, 8]);
    // With an outer cadence the callback is not called at the end of the warm-up, so the first four steps include it and
    // are left out.
    assert_eq!(steps(&outer), [8]);
    for (_, time) in [set, file, outer].concat() {
        assert!(time >= LONG.as_secs_f64(), "{time}");
    }
}

/// Rows that take a while to draw.
struct Slow(Rows);

impl TrainData for Slow {
    type Batch = TokenBatch;

    fn next_batch(&mut self) -> Result<TokenBatch, BoxError> {
        std::thread::sleep(LONG);
        self.0.next_batch()
    }
}

/// Returns the mean `train/data_wait` of a run whose steps take longer than a batch of [`Slow`].
fn data_wait(data: impl TrainData<Batch = TokenBatch>) -> f64 {
    let memory = MemorySink::default();
    let busy = tiny::on_step_start(|_| Ok(std::thread::sleep(2 * LONG)));
    let run = tiny::bare(tiny::task(), data, Tiny::new(0.0), 8)
        .optimizer(AdamWConfig::new().build(), 0.01)
        .sink(memory.clone())
        .callback(busy)
        .callback(Throughput::default());
    fit(run);
    let waits = memory.series("train/data_wait");
    assert_eq!(waits.len(), 7);
    assert!(
        waits.iter().all(|(_, share)| (0.0..=1.0).contains(share)),
        "{waits:?}"
    );
    waits.iter().map(|(_, share)| share).sum::<f64>() / 7.0
}

#[test]
fn prefetch_removes_the_wait_for_slow_data() {
    let _alone = tiny::alone();
    let (waits, prefetched) = (
        data_wait(Slow(Rows::of(2))),
        data_wait(Prefetch::new(Slow(Rows::of(2)))),
    );
    // Without prefetching a step takes 20 ms for its data and 40 ms for the rest, unless the machine is busy.
    assert!(waits > 0.05, "{waits}");
    assert!(prefetched < waits / 3.0, "{prefetched} and {waits}");
}
