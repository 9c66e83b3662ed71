//! The three models train on a GPU like on the CPU.
//!
//! The tests use the GPU that they were built for. Mesa's lavapipe, a Vulkan driver for the CPU, works too:
//!
//! ```text
//! cargo test -p bdh-examples --features wgpu --test gpu
//! ```
//!
//! With lavapipe the tests take two minutes on two cores, most of them in Mesa's compiler. (With `--features vulkan`,
//! burn's own compiler for Vulkan, Mesa 22.3 and 25.0 crash in a matrix product; with 25.0 the compiler takes even
//! longer.)
//!
//! Without such a feature, or without a driver, each test passes with a message, which `--nocapture` shows. With
//! `BDH_NEEDS_GPU=1` the tests fail then.

#[path = "../../bdh-models/tests/support/micro.rs"]
mod micro;

use bdh::burn::tensor::{Device, FloatDType};
use bdh::cadence::{every, first, last, never};
use bdh::ops::Precision;
use bdh::{MemorySink, Outcome, TrainerBuilder, Value};
use bdh_callbacks::{Histograms, Norms, ParamFilter, Samples};
use bdh_examples::args::Hardware;
use bdh_models::bdh_model::Bdh;
use bdh_models::gpt2::Gpt2;
use bdh_models::nanochat::Gpt;
use micro::Micro;
use std::sync::{Mutex, PoisonError};

const STEPS: u64 = 4;

/// Lock that runs one test at a time, because compiling and tuning the first kernels uses all cores.
static ALONE: Mutex<()> = Mutex::new(());

/// Returns the first GPU that this test was built for and that this machine has.
fn gpu() -> Option<Device> {
    let apis = ["cuda", "metal", "vulkan", "wgpu"];
    let found = apis.into_iter().find_map(|api| bdh::device(api).ok());
    if found.is_none() {
        let why = apis.into_iter().filter_map(|api| bdh::device(api).err());
        let why: Vec<_> = why.map(|error| error.to_string()).collect();
        let why = why.join("; ");
        assert!(std::env::var_os("BDH_NEEDS_GPU").is_none(), "no GPU: {why}");
        eprintln!("skipped: no GPU ({why})");
    }
    found
}

fn run<M: Micro>(device: &Device) -> (TrainerBuilder<impl bdh::Task<Model = M>>, MemorySink) {
    let memory = MemorySink::default();
    let model = M::on(device, Precision::F32);
    let groups = model.groups();
    let run = micro::run(model)
        .steps(STEPS)
        .clip_grad_norm(1.0)
        .stop_on_signals(false);
    let run = groups.into_iter().fold(run, TrainerBuilder::group);
    (run.sink(memory.clone()), memory)
}

/// Returns training losses, the norms of all gradients, and the final validation loss.
fn figures<M: Micro>(device: &Device) -> Vec<f64> {
    let (run, memory) = run::<M>(device);
    let fitted = run
        .eval(last())
        .callback(Norms::default())
        .build()
        .expect("a valid run")
        .fit();
    let fitted = fitted.expect("a run that completes");
    assert_eq!(fitted.warnings, []);
    let keys = ["train/loss", "norm/gradients", "val/loss"];
    let series = keys.into_iter().flat_map(|key| memory.series(key));
    series.map(|(_, value)| value).collect()
}

fn check_training_matches_the_cpu<M: Micro>() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(gpu) = gpu() else { return };
    let found = figures::<M>(&gpu);
    let expected = figures::<M>(&bdh::device("cpu").expect("the CPU"));
    assert_eq!(found.len(), expected.len());
    assert!(expected.len() > STEPS as usize);
    for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let apart = (found - expected).abs() / expected.abs();
        assert!(
            apart < 2e-3,
            "figure {at}: {found} on the GPU, {expected} on the CPU"
        );
    }
}

#[test]
fn gpt_2_on_the_gpu_trains_like_on_the_cpu() {
    check_training_matches_the_cpu::<Gpt2>();
}

#[test]
fn nanochat_on_the_gpu_trains_like_on_the_cpu() {
    check_training_matches_the_cpu::<Gpt>();
}

#[test]
fn bdh_on_the_gpu_trains_like_on_the_cpu() {
    check_training_matches_the_cpu::<Bdh>();
}

#[test]
fn run_on_the_gpu_resumes_from_its_checkpoint() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(gpu) = gpu() else { return };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let fit = |resume: bool, name: &str| {
        let (run, memory) = run::<Gpt>(&gpu);
        let run = run
            .eval(never())
            .checkpoint(every(2))
            .run_dir(dir.path().join(name));
        let run = if resume {
            run.resume(dir.path().join("whole/checkpoints/step_00000002"))
        } else {
            run
        };
        let fitted = run
            .build()
            .expect("a valid run")
            .fit()
            .expect("a run that completes");
        assert_eq!(fitted.outcome, Outcome::Completed);
        memory.series("train/loss")
    };
    let whole = fit(false, "whole");
    let rest = fit(true, "rest");
    assert_eq!(rest.len(), 2);
    for ((step, found), (_, expected)) in rest.iter().zip(&whole[2..]) {
        assert!(
            (found - expected).abs() < 1e-4,
            "step {step}: {found}, and {expected} without a break"
        );
    }
}

#[test]
fn statistics_match_the_cpu_with_one_read_per_step() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(gpu) = gpu() else { return };
    let figures = |device: &Device| {
        let (run, memory) = run::<Gpt2>(device);
        let histograms = Histograms::default().params(ParamFilter::all()).on(first());
        let run = run
            .eval(never())
            .callback(Norms::default().per_parameter(true))
            .callback(histograms);
        let fitted = run
            .build()
            .expect("a valid run")
            .fit()
            .expect("a run that completes");
        assert_eq!(fitted.overhead.reads, STEPS);
        let records = memory.records();
        let scalars: Vec<f64> = records[0].scalars().map(|(_, value)| value).collect();
        let histograms = records[0]
            .values
            .iter()
            .filter_map(|(_, value)| match value {
                Value::Histogram(histogram) => Some(histogram.clone()),
                _ => None,
            });
        (scalars, histograms.collect::<Vec<_>>())
    };
    let (found, histograms) = figures(&gpu);
    let (expected, histograms_of_cpu) = figures(&bdh::device("cpu").expect("the CPU"));
    assert!(expected.len() > 40 && histograms_of_cpu.len() > 40);
    close(&found, &expected, 1e-3);
    assert_eq!(histograms.len(), histograms_of_cpu.len());
    for (found, expected) in histograms.iter().zip(&histograms_of_cpu) {
        let total: u64 = expected.counts.iter().sum();
        assert_eq!(
            (found.counts.iter().sum::<u64>(), found.non_finite),
            (total, 0)
        );
        close(&found.edges, &expected.edges, 1e-3);
        let pairs = found.counts.iter().zip(&expected.counts);
        let moved: u64 = pairs
            .map(|(found, expected)| found.abs_diff(*expected))
            .sum();
        // The last digits differ, so a value at the edge of a bin may be in the next one.
        assert!(
            moved <= 2 + total / 20,
            "{found:?}, and on the CPU {expected:?}"
        );
    }
}

/// Panics unless numbers are equal, with a tolerance relative to their size or to 0.001.
fn close(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        let apart = (found - expected).abs() / expected.abs().max(1e-3);
        assert!(
            apart <= tolerance,
            "number {at}: {found}, and on the CPU {expected}"
        );
    }
}

#[test]
fn two_replicas_on_a_gpu_train_like_one_and_stay_equal() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(gpu) = gpu() else { return };
    let losses = |replicas: usize| {
        let (run, memory) = run::<Gpt>(&gpu);
        let run = run
            .grad_accum_steps(2)
            .devices(vec![gpu.clone(); replicas])
            .eval(last());
        let fitted = run
            .check_replicas(every(1))
            .build()
            .expect("a valid run")
            .fit();
        assert_eq!(
            fitted.expect("a run that completes").outcome,
            Outcome::Completed
        );
        let of = |key| memory.series(key).into_iter().map(|(_, value)| value);
        ["train/loss", "val/loss"]
            .into_iter()
            .flat_map(of)
            .collect::<Vec<f64>>()
    };
    let (two, one) = (losses(2), losses(1));
    assert_eq!(one.len(), STEPS as usize + 1);
    close(&two, &one, 1e-3);
}

#[test]
fn generated_text_on_a_gpu_matches_the_cpu() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(gpu) = gpu() else { return };
    let text = |device: &Device| {
        let (run, memory) = run::<Gpt2>(device);
        let samples = Samples::default()
            .prompts(["The ", "A"])
            .max_tokens(12_usize)
            .temperature(0.0);
        let samples = samples.on(first());
        let run = run.eval(never()).callback(samples);
        run.build()
            .expect("a valid run")
            .fit()
            .expect("a run that completes");
        let text = memory.records()[0]
            .values
            .iter()
            .find_map(|(_, value)| match value {
                Value::Text(text) => Some(text.clone()),
                _ => None,
            });
        text.expect("a sample")
    };
    assert_eq!(text(&gpu), text(&bdh::device("cpu").expect("the CPU")));
}

#[test]
fn bf16_is_an_error_on_a_gpu_without_it() {
    let Some(gpu) = gpu() else { return };
    if gpu.supports_dtype(FloatDType::BF16) {
        eprintln!("skipped: this GPU computes in bf16");
        return;
    }
    let device = ["metal", "vulkan", "wgpu"]
        .into_iter()
        .find(|api| bdh::device(api).is_ok());
    let device = device.map(|api| api.parse().expect("a device"));
    let hardware = Hardware {
        device,
        precision: Some(Precision::Bf16),
        ..Hardware::default()
    };
    let error = hardware.open().expect_err("bf16 is not there").to_string();
    assert!(error.contains("bf16") && error.contains("f32"), "{error}");
}
