//! Growth of cost with callbacks, parameters, keys of a record, and compared runs.
//!
//! ```text
//! cargo bench --profile dev -p bdh-examples --bench growth
//! ```
//!
//! All sizes take turns, and times are medians of the rounds. `growth` is the exponent between a size and the previous
//! one: the logarithm of the ratio of times over that of sizes. 1 is linear, 2 is quadratic; a large fixed part makes
//! it less than 1. For callbacks it is computed from the time above that of no callbacks.

#![expect(clippy::print_stdout, reason = "a bench prints a table")]
#![expect(clippy::unwrap_used, reason = "a bench that cannot run fails at once")]

#[path = "support/grown.rs"]
mod grown;
#[path = "support/many.rs"]
mod many;
#[expect(dead_code, reason = "growth uses medians, not ratios of rounds")]
#[path = "support/paired.rs"]
mod paired;
#[path = "support/written.rs"]
mod written;

use bdh::burn::optim::{GradientsParams, SgdConfig};
use bdh::hooks::on_step;
use bdh::{CallbackExt, LossContext, MemorySink, Task, TrainerBuilder};
use bdh_callbacks::Norms;
use bdh_sweep::runs::{Keys, Run, Table, read_all};
use grown::grow;
use many::{Idle, Many, SumUp, bare};
use paired::time;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

/// Allocator that reuses the memory of the previous step's tensors, like that of the programs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Number of parameters or keys that a run processes in all its steps. The number is the same at each size, so that the
/// fixed time of a run is a small share.
const ITEMS: u64 = 100_000;

/// Largest number of steps of a run.
const STEPS: u64 = 2_000;

/// Number of records of a compared run.
const RECORDS: u64 = 20;

fn fit(trainer: TrainerBuilder<SumUp>) -> Duration {
    let trainer = trainer.build().unwrap();
    time(|| assert_eq!(trainer.fit().unwrap().warnings, []))
}

/// Returns the number of steps that makes the work of each size equal.
fn steps(size: u64) -> u64 {
    (ITEMS / size).min(STEPS)
}

fn with_callbacks(count: u64) -> Duration {
    let trainer = (0..count).fold(bare(1, STEPS), |run, index| {
        run.callback(Idle.named(format!("{index}")))
    });
    fit(trainer) / STEPS as u32
}

fn with_params(count: u64, add: fn(TrainerBuilder<SumUp>) -> TrainerBuilder<SumUp>) -> Duration {
    fit(add(bare(count, steps(count)))) / steps(count) as u32
}

/// Takes the same steps with burn alone.
fn by_hand(count: u64) -> Duration {
    let mut model = Many::of(count);
    let mut optimizer = SgdConfig::new().init();
    let all = time(|| {
        for _ in 0..steps(count) {
            let loss = SumUp.loss(&model, &(), &LossContext::off());
            let grads = GradientsParams::from_grads(loss.backward(), &model);
            model = optimizer.step(0.1, model, grads);
        }
    });
    all / steps(count) as u32
}

fn with_keys(
    count: u64,
    add: impl FnOnce(TrainerBuilder<SumUp>) -> TrainerBuilder<SumUp>,
) -> Duration {
    let keys: Vec<_> = (0..count).map(|key| format!("layers.{key}/rms")).collect();
    let log = on_step(move |ctx| {
        for key in &keys {
            ctx.log(key, 0.1 + ctx.step() as f64);
        }
        Ok(())
    });
    fit(add(bare(1, steps(count)).callback(log))) / steps(count) as u32
}

/// Creates a sweep with a run for every trial.
fn sweep(dir: &Path, runs: u64) {
    fs::create_dir_all(dir.join("trials")).unwrap();
    for number in 1..=runs {
        written::run(&dir.join(format!("trial-{number:04}")), number, RECORDS);
        let trial = format!(
            "{{\"number\":{number},\"values\":{{\"depth\":{},\"lr\":{}}},\"point\":[],\"status\":\"completed\",\
             \"value\":null,\"why\":null,\"host\":\"\",\"began_at\":0,\"seconds\":1}}",
            number % 5,
            1e-4 * number as f64
        );
        fs::write(dir.join(format!("trials/{number:04}.json")), trial).unwrap();
    }
}

fn read(dir: &Path, runs: u64) -> Vec<Run> {
    let found = read_all([dir], &Keys::new("val_bpb"));
    assert_eq!((found.runs.len() as u64, found.errors.len()), (runs, 0));
    found.runs
}

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let powers = [10, 100, 1_000, 10_000];
    grow(
        "a step with idle callbacks",
        "callback",
        &[0, 1, 10, 100],
        9,
        with_callbacks,
    );
    grow(
        "a step by burn alone, parameters",
        "parameter",
        &powers,
        3,
        by_hand,
    );
    grow(
        "a step of the bare loop, parameters",
        "parameter",
        &powers,
        3,
        |count| with_params(count, |run| run),
    );
    grow(
        "a step with global norms, parameters",
        "parameter",
        &powers,
        3,
        |count| with_params(count, |run| run.callback(Norms::default())),
    );
    grow(
        "a step with a record in memory, keys",
        "key",
        &powers,
        3,
        |count| with_keys(count, |run| run.sink(MemorySink::default())),
    );
    grow(
        "a step with a record in metrics.jsonl, keys",
        "key",
        &powers,
        3,
        |count| {
            let run_dir = tempfile::tempdir_in(&dir).unwrap();
            with_keys(count, |run| run.run_dir(run_dir.path()))
        },
    );
    compare(dir.path());
}

/// Measures the work of `nanochat_sweep compare`.
fn compare(dir: &Path) {
    let sizes = [1, 10, 100, 1_000, 10_000];
    let keys = Keys::new("val_bpb");
    let of = |runs: u64| dir.join(format!("sweep-{runs}"));
    for runs in sizes {
        sweep(&of(runs), runs);
    }
    grow("runs of a sweep, read", "run", &sizes, 3, |count| {
        time(|| drop(black_box(read(&of(count), count))))
    });
    grow(
        "runs, made a table and its CSV",
        "run",
        &sizes,
        3,
        |count| {
            let runs = read(&of(count), count);
            time(|| drop(black_box(Table::of(&runs, &keys).csv())))
        },
    );
    grow(
        "runs, made a page with importances",
        "run",
        &sizes,
        1,
        |count| {
            let runs = read(&of(count), count);
            let table = Table::of(&runs, &keys);
            time(|| drop(black_box(table.html("bench", &runs, &keys))))
        },
    );
}
