//! What is measured of gradients, time and memory, held against the same worked out by hand.

#![expect(
    clippy::unit_arg,
    reason = "a hook that cannot fail reads best on one line"
)]

#[path = "../../bdh/tests/support/tiny.rs"]
mod tiny;

use bdh::{Callback, Fitted, MemorySink, Value, callbacks_from_toml, every};
use bdh_callbacks::{DevicePeak, GradientNoise, Memory, Profile, System, Throughput};
use std::time::Duration;
use tiny::{Listener, Seen};

fn fit(run: tiny::Builder) -> Fitted<tiny::Tiny> {
    let fitted = run
        .build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes");
    assert_eq!(fitted.problems, []);
    fitted
}

#[test]
fn the_noise_scale_is_that_of_the_micro_batches_norms() {
    let _alone = tiny::alone();
    let memory = MemorySink::default();
    let small = bdh::on_micro_batch(|at| {
        at.log(
            format!("small/{}", at.index),
            at.gradients.l2() * at.count as f64,
        );
        Ok(())
    });
    let big = bdh::after_backward(|at| {
        at.log("big", at.gradients.l2());
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
fn one_micro_batch_has_no_noise_scale_and_that_is_said() {
    let _alone = tiny::alone();
    let (memory, heard) = (MemorySink::default(), Seen::new());
    let run = tiny::run(2)
        .sink(memory.clone())
        .sink(Listener(heard.clone()));
    fit(run.callback(GradientNoise::default()));
    assert_eq!(memory.series("noise/scale"), []);
    assert_eq!(heard.all().len(), 1, "{:?}", heard.all());
}

#[test]
fn a_profile_tells_the_slow_phase_and_its_parts_are_the_whole() {
    let _alone = tiny::alone();
    let memory = MemorySink::default();
    let slow = bdh::on_micro_batch(|_| {
        std::thread::sleep(Duration::from_millis(5));
        Ok(())
    });
    let profile = Profile::builder()
        .first_step(2_u64)
        .steps(99_u64)
        .sync(true)
        .build();
    let run = tiny::run(5).sink(memory.clone()).callback(slow);
    fit(run.callback(profile.expect("valid settings")));
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
fn a_device_by_name_has_the_peak_of_the_table_unless_one_is_given() {
    let _alone = tiny::alone();
    let mfu = |throughput: Throughput| {
        let memory = MemorySink::default();
        fit(tiny::run(4).sink(memory.clone()).callback(throughput));
        let rate = memory.series("train/tok_per_sec")[0].1;
        memory.series("train/mfu")[0].1 / rate
    };
    let named = || Throughput::builder().device_peak(DevicePeak::A100Bf16);
    let both = [named(), named().peak_flops(312e11)];
    let [named, given] = both.map(|builder| mfu(builder.build().expect("valid settings")));
    assert!((given / named - 10.0).abs() < 1e-9);
}

#[test]
fn memory_and_load_are_of_a_size_that_can_be() {
    let _alone = tiny::alone();
    let memory = MemorySink::default();
    let look = Memory::builder()
        .cadence(bdh::every(1))
        .build()
        .expect("valid settings");
    let load = System::builder()
        .cadence(bdh::every(1))
        .build()
        .expect("valid settings");
    let busy = bdh::on_step(|_| {
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

/// Mean step times in seconds as `throughput` records them in a run in which something takes long.
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
fn throughput_counts_neither_evals_nor_checkpoints() {
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
fn throughput_counts_whatever_a_step_waits_for() {
    let _alone = tiny::alone();
    let slow = tiny::on_step(|_| Ok(std::thread::sleep(LONG)));
    let times = step_times(Throughput::default(), slow);
    assert!(
        times.iter().all(|(_, time)| *time >= LONG.as_secs_f64()),
        "{times:?}"
    );
}

#[test]
fn throughput_is_the_same_at_whatever_cadence_and_from_wherever_that_comes() {
    let _alone = tiny::alone();
    let slow = || tiny::on_step_start(|_| Ok(std::thread::sleep(LONG)));
    let set = Throughput::builder()
        .every(every(4))
        .build()
        .expect("valid settings");
    let file = "[[callback]]\nuse = \"throughput\"\nevery = 4";
    let file = callbacks_from_toml(file)
        .expect("a valid configuration")
        .remove(0);
    let (set, file) = (step_times(set, slow()), step_times(file, slow()));
    assert_eq!(steps(&set), [4, 8]);
    // From outside it cannot tell the warm-up from the rest of its first stretch, and leaves both out.
    assert_eq!(steps(&file), [8]);
    for (_, time) in set.iter().chain(&file) {
        assert!(*time >= LONG.as_secs_f64(), "{time}");
    }
}
