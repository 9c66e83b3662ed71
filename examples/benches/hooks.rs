//! What hooks, statistics, records and sinks cost per step.
//!
//! ```text
//! cargo bench --profile dev -p bdh-examples --bench hooks
//! ```
//!
//! The model has 100 small parameters and almost nothing to compute, so that what is left is the loop's
//! own cost. Variants run alternately; figures are medians, as microseconds over the bare loop.

#![expect(clippy::print_stdout, reason = "a bench prints a table")]
#![expect(
    clippy::unwrap_used,
    reason = "a bench that cannot run shall say so at once"
)]

#[path = "support/many.rs"]
mod many;
#[path = "support/paired.rs"]
mod paired;

use bdh::{
    AfterBackward, Attach, Cadence, Callback, HookResult, MemorySink, TrainerBuilder, callback,
    every, last,
};
use bdh_callbacks::{Histograms, Norms, ParamFilter, Ratios};
use many::{Idle, SumUp};
use paired::{Variant, measure, time};
use std::time::Duration;

const STEPS: u64 = 200;
const ROUNDS: usize = 9;

/// The norms of [`Norms::per_parameter`], each read on its own, as `.item()` does in Python.
struct ReadEach;

#[callback]
impl Callback for ReadEach {
    fn after_backward(&mut self, at: &AfterBackward<'_>) -> HookResult {
        for param in at.weights.iter().chain(at.gradients.iter()) {
            let squares: f32 = param.values().square().sum().try_into_scalar()?;
            at.log(format!("norm/{}", param.name()), f64::from(squares).sqrt());
        }
        Ok(())
    }
}

fn histograms() -> Histograms {
    Histograms::builder()
        .cadence(every(1))
        .params(ParamFilter::all())
        .build()
        .unwrap()
}

fn ratios() -> Ratios {
    Ratios::builder()
        .cadence(every(1))
        .params(ParamFilter::all())
        .build()
        .unwrap()
}

fn bare() -> TrainerBuilder<SumUp> {
    many::bare(100, STEPS)
}

fn fit(trainer: TrainerBuilder<SumUp>) -> Duration {
    let trainer = trainer.build().unwrap();
    time(|| drop(trainer.fit().unwrap()))
}

fn idle(trainer: TrainerBuilder<SumUp>, cadence: &Cadence) -> TrainerBuilder<SumUp> {
    (0..20).fold(trainer, |trainer, index| {
        trainer.callback(Idle.every(cadence.clone()).named(format!("idle {index}")))
    })
}

fn main() {
    let dir = std::env::temp_dir().join(format!("bdh-bench-{}", std::process::id()));
    let mut round = 0;
    let mut run_dir = || {
        round += 1;
        dir.join(round.to_string())
    };
    let every_step = Cadence::EVERY_STEP;
    let mut variants = vec![
        Variant::new("the bare loop", || fit(bare())),
        Variant::new("20 callbacks, not due", || fit(idle(bare(), &last()))),
        Variant::new("20 callbacks with 11 empty hooks", || {
            fit(idle(bare(), &every_step))
        }),
        Variant::new("global norms of 100 parameters", || {
            fit(bare().callback(Norms::default()))
        }),
        Variant::new("and a norm of each, twice", || {
            fit(bare().callback(Norms::per_parameter()))
        }),
        Variant::new("the same with a read for each", || {
            fit(bare().callback(ReadEach))
        }),
        Variant::new("ratios of 100 parameters, and lines", || {
            fit(bare().callback(ratios()))
        }),
        Variant::new("200 histograms of 64 bins", || {
            fit(bare().callback(histograms()))
        }),
        Variant::new("loss and lr into memory", || {
            fit(bare().log(every_step.clone()).sink(MemorySink::default()))
        }),
        Variant::new("loss and lr into metrics.jsonl", || {
            fit(bare().log(every_step.clone()).run_dir(run_dir()))
        }),
    ];
    let times = measure(&mut variants, ROUNDS);
    let per_step = |time: Duration| time.as_secs_f64() * 1e6 / STEPS as f64;
    let base = per_step(times[0].median());
    println!(
        "{:<36} {:>10} {:>12} {:>8}",
        "per step", "µs", "µs more", "ratio"
    );
    for (variant, of_variant) in variants.iter().zip(&times) {
        let micros = per_step(of_variant.median());
        let (more, ratio) = (micros - base, of_variant.ratio(&times[0]));
        println!(
            "{:<36} {micros:>10.1} {more:>12.2} {ratio:>8.3}",
            variant.name
        );
    }
    drop(variants);
    std::fs::remove_dir_all(&dir).unwrap();
}
