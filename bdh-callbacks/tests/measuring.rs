//! Measurements of gradients, time and memory agree with calculations by hand.

#![expect(
    clippy::unit_arg,
    reason = "a hook that cannot fail reads best on one line"
)]

#[path = "../../bdh/tests/support/tiny.rs"]
mod tiny;

use bdh::cadence::every;
use bdh::{Callback, MemorySink, TrainResult, Value, registry};
use bdh_callbacks::{
    DevicePeak, GradientNoise, MemoryMonitor, StepProfiler, SystemMonitor, Throughput,
};
use std::time::Duration;
use tiny::{Listener, Seen};

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
