//! What watching costs a real training run: every callback of ours at its default cadence, norms at every step, and
//! the same statistics as one would write them down, a read for each.
//!
//! ```text
//! cargo bench --profile dev -p bdh-examples --bench observers
//! ```
//!
//! Each variant is a run of its own, on the same batches, and all are under way at once: one takes ten steps while the
//! others wait, then the next. Ratios are to the variant without callbacks: of time, the median of the rounds', so that
//! a noisy machine disturbs both alike, with half of the rounds' no further apart than the spread; of processor time,
//! that of all steps together. The variant without callbacks is there twice, and its ratio to itself is the noise.
//! What happens on every 100th step is in every tenth stretch, which is counted for a tenth.

#![expect(clippy::print_stdout, reason = "a bench prints a table")]
#![expect(
    clippy::unwrap_used,
    reason = "a bench that cannot run shall say so at once"
)]

#[path = "support/interrupted.rs"]
mod interrupted;
#[path = "support/observed.rs"]
mod observed;
#[path = "support/preset.rs"]
mod preset;
#[path = "support/turns.rs"]
mod turns;

use bdh::{AfterBackward, Cadence, Callback, HookResult, NextToken, TrainerBuilder, callback};
use bdh_callbacks::{Norms, Samples};
use bdh_data::Packed;
use bdh_models::nanochat::Gpt;
use interrupted::Interrupted;
use observed::observed;
use preset::Preset;
use std::path::Path;
use turns::{Paced, Took, Turns};

/// A step's tensors take the memory that the last step's have freed.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Steps of a stretch; the tenth of each is where callbacks with the cadence `every 10 steps` act.
const STRETCH: u64 = 10;

type Run = TrainerBuilder<NextToken<Gpt, Interrupted<Packed, Paced>>>;

/// Request 2's and 3's norms, and request 1's means and spreads, each read on its own, as `.item()` does.
struct ReadEach;

#[callback]
impl Callback for ReadEach {
    fn after_backward(&mut self, at: &AfterBackward<'_>) -> HookResult {
        for (kind, stats) in [("weight", at.weights), ("grad", at.gradients)] {
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
                at.log(format!("mean/{kind}/{}", param.name()), f64::from(mean));
                at.log(format!("std/{kind}/{}", param.name()), f64::from(std));
            }
            at.log(format!("train/{kind}_norm"), squares.sqrt());
        }
        Ok(())
    }
}

/// The same, of ours.
struct ReadTogether;

#[callback]
impl Callback for ReadTogether {
    fn after_backward(&mut self, at: &AfterBackward<'_>) -> HookResult {
        for (kind, stats) in [("weight", at.weights), ("grad", at.gradients)] {
            for param in stats.iter() {
                at.log(format!("mean/{kind}/{}", param.name()), param.mean());
                at.log(format!("std/{kind}/{}", param.name()), param.std());
            }
            at.log(format!("train/{kind}_norm"), stats.l2());
        }
        Ok(())
    }
}

fn alone(run: Run) -> Run {
    run
}

/// What a variant is called, and what it adds to a run.
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

/// Times of each variant's stretches.
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
                        source: preset.batches(),
                        before,
                    };
                    let enough = bdh::on_step(move |at| {
                        if at.step() == steps {
                            at.stop("measured");
                        }
                        Ok(())
                    });
                    let run = preset.trainer(batches).log(Cadence::EVERY_STEP);
                    let run = run.clip_grad_norm(1.0).run_dir(dir.join(index.to_string()));
                    let fitted = add(run).callback(enough).build().unwrap().fit().unwrap();
                    assert_eq!(fitted.problems, []);
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

/// Of one variant, the ratios of its stretches to those of the base, with their numbers.
fn ratios(times: &[Took], base: &[Took]) -> Vec<(usize, f64)> {
    let pairs = times.iter().zip(base).enumerate().skip(1); // the first warms everything up
    pairs
        .map(|(index, (a, b))| (index, a.time.as_secs_f64() / b.time.as_secs_f64()))
        .collect()
}

/// The median of those without a 100th step for nine tenths, of those with one for the last.
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

/// Half of the ratios are no further apart.
fn spread(ratios: &[(usize, f64)]) -> f64 {
    let ratios = sorted(ratios.iter().map(|(_, ratio)| *ratio));
    ratios[ratios.len() * 3 / 4] - ratios[ratios.len() / 4]
}

/// Of processor time over all stretches but the first.
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
    // The toy of the README: two layers of width 64. Its horizon is long, so that nothing is due for being the last.
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
