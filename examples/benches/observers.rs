//! Cost of callbacks in a real training run: all callbacks at their default cadences, norms at every step, and the same
//! statistics with a device read for each.
//!
//! ```text
//! cargo bench --profile dev -p bdh-examples --bench observers
//! ```
//!
//! Each variant is a run on the same batches. All runs are active at once and take turns of ten steps. Ratios are
//! relative to the variant without callbacks. The ratio of times is the median over rounds, so that a noisy machine
//! disturbs both runs equally; half of the rounds differ by at most the spread. The ratio of processor times is over
//! all steps. The variant without callbacks runs twice, and the ratio of both shows the noise. Work on every 100th step
//! is in every tenth turn, which counts for a tenth.

#![expect(clippy::print_stdout, reason = "a bench prints a table")]
#![expect(clippy::unwrap_used, reason = "a bench that cannot run fails at once")]

#[path = "support/interrupted.rs"]
mod interrupted;
#[path = "support/observed.rs"]
mod observed;
#[path = "support/preset.rs"]
mod preset;
#[path = "support/turns.rs"]
mod turns;

use bdh::hooks::AfterBackward;
use bdh::{Cadence, Callback, HookResult, NextToken, TrainerBuilder, callback};
use bdh_callbacks::{Norms, Samples};
use bdh_models::nanochat::Gpt;
use interrupted::Interrupted;
use observed::observed;
use preset::Preset;
use std::path::Path;
use turns::{Paced, Took, Turns};

/// Allocator that reuses the memory of the previous step's tensors, like that of the programs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Number of steps of a turn. Callbacks with the cadence `every 10 steps` act on the last one.
const STRETCH: u64 = 10;

type Run = TrainerBuilder<NextToken<Gpt>>;

/// Callback with norms, means and standard deviations, and a device read for each, like `.item()` in Python.
struct ReadEach;

#[callback]
impl Callback for ReadEach {
    fn after_backward(&mut self, ctx: &AfterBackward<'_>) -> HookResult {
        for (kind, stats) in [("weight", ctx.weights), ("grad", ctx.gradients)] {
            let mut squares = 0.0;
            for param in stats.iter() {
                let values = param.values();
                squares += f64::from(values.clone().square().sum().try_into_scalar::<f32>()?);
                let mean = values.clone().mean();
                let std = (values - mean.clone()).square().mean().sqrt();
                let [mean, std] = [
                    mean.try_into_scalar::<f32>()?,
                    std.try_into_scalar::<f32>()?,
                ];
                ctx.log(format!("mean/{kind}/{}", param.name()), f64::from(mean));
                ctx.log(format!("std/{kind}/{}", param.name()), f64::from(std));
            }
            ctx.log(format!("train/{kind}_norm"), squares.sqrt());
        }
        Ok(())
    }
}

/// Callback with norms, means and standard deviations, and one device read for all of them.
struct ReadTogether;

#[callback]
impl Callback for ReadTogether {
    fn after_backward(&mut self, ctx: &AfterBackward<'_>) -> HookResult {
        for (kind, stats) in [("weight", ctx.weights), ("grad", ctx.gradients)] {
            for param in stats.iter() {
                ctx.log(format!("mean/{kind}/{}", param.name()), param.mean());
                ctx.log(format!("std/{kind}/{}", param.name()), param.std());
            }
            ctx.log(format!("train/{kind}_norm"), stats.l2());
        }
        Ok(())
    }
}

fn alone(run: Run) -> Run {
    run
}

/// Name of a variant, and its additions to a run.
type Variant = (&'static str, fn(Run) -> Run);

const VARIANTS: [Variant; 6] = [
    ("no callbacks", alone),
    ("every callback, default cadence", |run| {
        observed(run).callback(Samples::default())
    }),
    ("norms at every step", |run| run.callback(Norms::default())),
    ("no callbacks, again", alone),
    ("norm, means, stds at every step", |run| {
        run.callback(ReadTogether)
    }),
    ("the same, a read for each", |run| run.callback(ReadEach)),
];

/// Returns the times of each variant's turns.
fn measure(preset: &Preset, steps: u64, dir: &Path) -> Vec<Vec<Took>> {
    let turns = Turns::of(VARIANTS.len());
    std::thread::scope(|scope| {
        let variants: Vec<_> = VARIANTS
            .iter()
            .enumerate()
            .map(|(index, (_, add))| {
                let turns = turns.clone();
                scope.spawn(move || {
                    let before = Paced::new(turns, index, STRETCH);
                    let times = before.times();
                    let batches = Interrupted {
                        data: preset.batches(),
                        before,
                    };
                    let enough = bdh::hooks::on_step(move |ctx| {
                        if ctx.step() == steps {
                            ctx.stop("measured");
                        }
                        Ok(())
                    });
                    let run = preset.trainer(batches).log(Cadence::EVERY_STEP);
                    let run = run.clip_grad_norm(1.0).run_dir(dir.join(index.to_string()));
                    let fitted = add(run).callback(enough).build().unwrap().fit().unwrap();
                    assert_eq!(fitted.warnings, []);
                    times.take()
                })
            })
            .collect();
        variants
            .into_iter()
            .map(|variant| variant.join().unwrap())
            .collect()
    })
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// Returns the ratios of a variant's turns to those of the base, with their numbers.
fn ratios(times: &[Took], base: &[Took]) -> Vec<(usize, f64)> {
    let pairs = times.iter().zip(base).enumerate().skip(1); // the first warms everything up
    pairs
        .map(|(index, (a, b))| (index, a.time.as_secs_f64() / b.time.as_secs_f64()))
        .collect()
}

/// Returns nine tenths of the median of turns without a 100th step, plus one tenth of the median of turns with one.
fn ratio(ratios: &[(usize, f64)]) -> f64 {
    let median = |is_hundredth: bool| {
        let of = ratios
            .iter()
            .filter(|(index, _)| (index % 10 == 9) == is_hundredth);
        let of = sorted(of.map(|(_, ratio)| *ratio));
        of[of.len() / 2]
    };
    0.9 * median(false) + 0.1 * median(true)
}

/// Returns the range that contains the middle half of the ratios.
fn spread(ratios: &[(usize, f64)]) -> f64 {
    let ratios = sorted(ratios.iter().map(|(_, ratio)| *ratio));
    ratios[ratios.len() * 3 / 4] - ratios[ratios.len() / 4]
}

/// Returns the ratio of processor times over all turns except the first.
fn cpu_ratio(times: &[Took], base: &[Took]) -> f64 {
    let sum = |times: &[Took]| {
        times[1..]
            .iter()
            .map(|took| took.cpu.as_secs_f64())
            .sum::<f64>()
    };
    sum(times) / sum(base)
}

fn table(preset: &Preset, steps: u64, dir: &Path) {
    let times = measure(preset, steps, &dir.join(preset.name));
    let columns = ["steps/s", "time", "spread", "CPU time"].map(|name| format!("{name:>10}"));
    println!("\n{:<34}{}", preset.name, columns.concat());
    for ((name, _), of_variant) in VARIANTS.iter().zip(&times) {
        let seconds = sorted(of_variant.iter().map(|took| took.time.as_secs_f64()));
        let rate = STRETCH as f64 / seconds[seconds.len() / 2];
        let (ratios, cpu) = (
            ratios(of_variant, &times[0]),
            cpu_ratio(of_variant, &times[0]),
        );
        let (ratio, spread) = (ratio(&ratios), spread(&ratios));
        println!("{name:<34}{rate:>10.2}{ratio:>10.4}{spread:>10.4}{cpu:>10.4}");
    }
}

fn main() {
    let dir = std::env::temp_dir().join(format!("bdh-bench-{}", std::process::id()));
    // The toy of the README: two layers of width 64. The run is long, so that no step of a turn is the last.
    table(
        &Preset::new("d2 w64, 2 x 256", [2, 64, 2], 100_000),
        510,
        &dir,
    );
    table(
        &Preset::new("d4 w256, 4 x 256", [4, 256, 4], 100_000),
        110,
        &dir,
    );
    std::fs::remove_dir_all(&dir).unwrap();
}
