//! Cost of hooks, statistics, records and sinks per step.
//!
//! ```text
//! cargo bench --profile dev -p bdh-examples --bench hooks
//! ```
//!
//! The model has 100 small parameters and almost no computation, so the time is the cost of the loop. Variants run
//! alternately; times are medians in microseconds above the bare loop.

#![expect(clippy::print_stdout, reason = "a bench prints a table")]
#![expect(clippy::unwrap_used, reason = "a bench that cannot run fails at once")]

#[path = "support/many.rs"]
mod many;
#[path = "support/paired.rs"]
mod paired;

use bdh::cadence::{every, last};
use bdh::hooks::AfterBackward;
use bdh::{Cadence, Callback, CallbackExt, HookResult, MemorySink, TrainerBuilder, callback};
use bdh_callbacks::{Histograms, Norms, ParamFilter, UpdateRatios};
use many::{Idle, SumUp};
use paired::{Variant, measure, time};
use std::time::{Duration, Instant};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

const STEPS: u64 = 200;
const ROUNDS: usize = 9;

/// Callback with the norms of [`Norms::per_parameter`], but a device read for each, like `.item()` in Python.
struct ReadEach;

#[callback]
impl Callback for ReadEach {
    fn after_backward(&mut self, ctx: &AfterBackward<'_>) -> HookResult {
        for param in ctx.weights.iter().chain(ctx.gradients.iter()) {
            let squares: f32 = param.values().square().sum().try_into_scalar()?;
            ctx.log(format!("norm/{}", param.name()), f64::from(squares).sqrt());
        }
        Ok(())
    }
}

/// A `tracing` subscriber that takes every span and event, and does nothing with them.
struct TakesAll;

impl Subscriber for TakesAll {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Returns the nanoseconds that the span of a step takes where no subscriber wants it.
fn unwanted_span() -> f64 {
    const SPANS: u32 = 1_000_000;
    let began = Instant::now();
    for step in 0..SPANS {
        let _span = tracing::debug_span!("step", step).entered();
    }
    began.elapsed().as_secs_f64() * 1e9 / f64::from(SPANS)
}

fn histograms() -> Histograms {
    Histograms::default()
        .on(every(1))
        .params(ParamFilter::all())
}

fn ratios() -> UpdateRatios {
    UpdateRatios::default()
        .on(every(1))
        .params(ParamFilter::all())
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
        trainer.callback(Idle.on(cadence.clone()).named(format!("idle {index}")))
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
        Variant::new("with a tracing subscriber", || {
            tracing::subscriber::with_default(TakesAll, || fit(bare()))
        }),
        Variant::new("20 callbacks, not due", || fit(idle(bare(), &last()))),
        Variant::new("20 callbacks with 11 empty hooks", || {
            fit(idle(bare(), &every_step))
        }),
        Variant::new("global norms of 100 parameters", || {
            fit(bare().callback(Norms::default()))
        }),
        Variant::new("and a norm of each, twice", || {
            fit(bare().callback(Norms::default().per_parameter(true)))
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
    println!(
        "the span of a step without a subscriber: {:.1} ns",
        unwanted_span()
    );
    std::fs::remove_dir_all(&dir).unwrap();
}
