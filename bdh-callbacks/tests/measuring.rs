//! What is measured of gradients, time and memory, held against the same worked out by hand.

#[path = "../../bdh/tests/support/tiny.rs"]
mod tiny;

use bdh::{Fitted, MemorySink, Value};
use bdh_callbacks::{DevicePeak, GradientNoise, Memory, Profile, System, Throughput};
use tiny::{Listener, Seen};

fn fit(run: tiny::Builder) -> Fitted<tiny::Tiny> {
    let fitted = run.build().expect("a valid run").fit().expect("a run that completes");
    assert_eq!(fitted.problems, []);
    fitted
}

#[test]
fn the_noise_scale_is_that_of_the_micro_batches_norms() {
    let memory = MemorySink::default();
    let small = bdh::on_micro_batch(|at| {
        at.log(format!("small/{}", at.index), at.gradients.l2() * at.count as f64);
        Ok(())
    });
    let big = bdh::after_backward(|at| {
        at.log("big", at.gradients.l2());
        Ok(())
    });
    let run = tiny::run(3).grad_accum_steps(4).sink(memory.clone()).callback(small).callback(big);
    let fitted = fit(run.callback(GradientNoise::default()));
    assert_eq!(fitted.overhead.rows[2].reads, 0);

    let square = |key: &str| memory.series(key)[0].1.powi(2);
    let small = (0..4).map(|index| square(&format!("small/{index}"))).sum::<f64>() / 4.0;
    let (big, per_batch, per_step) = (square("big"), 2.0, 8.0); // samples
    let grad_sq = (per_step * big - per_batch * small) / (per_step - per_batch);
    let trace = (small - big) / (1.0 / per_batch - 1.0 / per_step);
    let about = |key, expected: f64| {
        let found = memory.series(key)[0].1;
        assert!((found / expected - 1.0).abs() < 1e-9, "{key} is {found} instead of {expected}");
    };
    about("noise/grad_sq", grad_sq);
    about("noise/trace", trace);
    about("noise/scale", trace / grad_sq);
    about("noise/scale_tokens", trace / grad_sq * 4.0); // tokens a sample
}

#[test]
fn one_micro_batch_has_no_noise_scale_and_that_is_said() {
    let (memory, heard) = (MemorySink::default(), Seen::new());
    let run = tiny::run(2).sink(memory.clone()).sink(Listener(heard.clone()));
    fit(run.callback(GradientNoise::default()));
    assert_eq!(memory.series("noise/scale"), []);
    assert_eq!(heard.all().len(), 1, "{:?}", heard.all());
}

#[test]
fn a_profile_tells_the_slow_phase_and_its_parts_are_the_whole() {
    let memory = MemorySink::default();
    let slow = bdh::on_micro_batch(|_| {
        std::thread::sleep(std::time::Duration::from_millis(5));
        Ok(())
    });
    let profile = Profile::builder().first_step(2_u64).steps(99_u64).sync(true).build();
    let run = tiny::run(5).sink(memory.clone()).callback(slow);
    fit(run.callback(profile.expect("valid settings")));
    assert_eq!(memory.series("profile/other").len(), 4);
    let slow = memory.series("profile/forward_backward");
    assert!(slow.iter().all(|(_, seconds)| *seconds >= 0.005), "{slow:?}");

    let last = memory.records().pop().expect("a record"); // the run ends before the window does
    let table = last.values.iter().find(|(key, _)| key == "profile").expect("a table");
    let Value::Table { rows, .. } = &table.1 else { panic!("{table:?}") };
    let shares = rows.iter().map(|row| row[2].parse::<f64>().expect("a share"));
    assert!((shares.sum::<f64>() - 100.0).abs() < 0.5, "{rows:?}");
}

#[test]
fn a_device_by_name_has_the_peak_of_the_table_unless_one_is_given() {
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
    let memory = MemorySink::default();
    let look = Memory::builder().cadence(bdh::every(1)).build().expect("valid settings");
    let load = System::builder().cadence(bdh::every(1)).build().expect("valid settings");
    let busy = bdh::on_step(|_| {
        let until = std::time::Instant::now() + std::time::Duration::from_millis(150);
        while std::time::Instant::now() < until {
            std::hint::spin_loop();
        }
        Ok(())
    });
    fit(tiny::run(2).sink(memory.clone()).callback(busy).callback(look).callback(load));
    let rss = memory.series("memory/rss")[0].1;
    assert!((1.0..100_000.0).contains(&rss), "{rss}");
    let (_, share) = memory.series("system/cpu_machine")[1];
    assert!((0.0..=1.0).contains(&share), "{share}");
    assert!(memory.series("system/cpu_process")[1].1 > 0.0);
}
