//! Cost of the trainer for a real model, and speed of the models.
//!
//! ```text
//! cargo bench --profile dev -p bdh-examples --bench training
//! ```
//!
//! One nanochat trains on equal batches in a hand-written loop, in a plain `Trainer`, and in a `Trainer` with the usual
//! additions. Variants run alternately; ratios are medians over rounds. Both loops must end with the same
//! weights, bit for bit, so that the work is comparable.

#![expect(clippy::print_stdout, reason = "a bench prints a table")]
#![expect(clippy::unwrap_used, reason = "a bench that cannot run fails at once")]

#[path = "support/paired.rs"]
mod paired;
#[path = "support/preset.rs"]
mod preset;

#[path = "../../bdh-models/tests/support/parity.rs"]
mod parity;

use bdh::burn::optim::GradientsParams;
use bdh::data::TrainData;
use bdh::lm::cross_entropy;
use bdh::{Cadence, CausalLm, MemorySink, NextToken, Probe, TrainerBuilder};
use bdh_callbacks::{EarlyCheckpoints, Norms, Throughput};
use bdh_models::nanochat::Gpt;
use paired::{Variant, measure, time};
use preset::{Preset, lr};
use std::cell::Cell;
use std::time::Duration;

/// Allocator that reuses the memory of the previous step's tensors, like that of the programs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const STEPS: u64 = 10;
const ROUNDS: usize = 15;

type Run = TrainerBuilder<NextToken<Gpt>>;

/// Trains in a hand-written loop. Returns the time and the trained model.
fn by_hand(preset: &Preset) -> (Duration, Gpt) {
    let (groups, mut batches, mut model) = (preset.groups(), preset.batches(), preset.model());
    let device = bdh::device("cpu").unwrap();
    let step = Cell::new(0);
    let rule = |name: &str| {
        let group = groups.iter().find(|group| group.owns(name)).unwrap();
        (group.optimizer(), lr(group.peak_lr).lr(step.get(), STEPS))
    };
    let mut optimizer = parity::Trainer::new(rule);
    let mut trained = None;
    let took = time(|| {
        for now in 0..STEPS {
            step.set(now);
            let batch = batches.next_batch().unwrap();
            let logits = model.logits(batch.inputs_on(&device), &Probe::off());
            let loss = cross_entropy(logits, &batch);
            let grads = GradientsParams::from_grads(loss.backward(), &model);
            model = optimizer.step(model, grads);
        }
        trained = Some(model);
    });
    (took, trained.unwrap())
}

/// Returns a run without additions.
fn bare(preset: &Preset) -> Run {
    preset.trainer(preset.batches())
}

fn fit(trainer: Run) -> Duration {
    let trainer = trainer.build().unwrap();
    time(|| drop(trainer.fit().unwrap()))
}

/// Returns a run with the usual callbacks at their default cadences.
fn with_all(preset: &Preset) -> Run {
    let due_later = EarlyCheckpoints::default().on(Cadence::Never);
    let trainer = bare(preset).log(Cadence::EVERY_STEP);
    trainer
        .callback(Norms::default())
        .callback(Throughput::default())
        .callback(due_later)
}

fn main() {
    let small = Preset::new("d2 w64, 8 x 256", [2, 64, 8], STEPS);
    let larger = Preset::new("d4 w256, 4 x 256", [4, 256, 4], STEPS);

    let by_trainer = bare(&small).build().unwrap().fit().unwrap().model;
    let same = parity::weights(&by_trainer) == parity::weights(&by_hand(&small).1);
    assert!(
        same,
        "the two loops end with different weights, so their times are not comparable"
    );

    let dir = std::env::temp_dir().join(format!("bdh-bench-{}", std::process::id()));
    let mut round = 0;
    let mut run_dir = || {
        round += 1;
        dir.join(round.to_string())
    };
    let mut variants = vec![
        Variant::new("a loop by hand", || by_hand(&small).0),
        Variant::new("Trainer, nothing added", || fit(bare(&small))),
        Variant::new("all callbacks, into memory", || {
            fit(with_all(&small).sink(MemorySink::default()))
        }),
        Variant::new("all callbacks, into metrics.jsonl", || {
            fit(with_all(&small).run_dir(run_dir()))
        }),
    ];
    let times = measure(&mut variants, ROUNDS);
    println!(
        "{:<36} {:>10} {:>10} {:>12}",
        small.name, "ms a step", "to hand", "to Trainer"
    );
    for (variant, of_variant) in variants.iter().zip(&times) {
        let millis = of_variant.median().as_secs_f64() * 1e3 / STEPS as f64;
        let (to_hand, to_trainer) = (of_variant.ratio(&times[0]), of_variant.ratio(&times[1]));
        println!(
            "{:<36} {millis:>10.2} {to_hand:>10.4} {to_trainer:>12.4}",
            variant.name
        );
    }
    drop(variants);
    std::fs::remove_dir_all(&dir).unwrap();

    println!(
        "\n{:<36} {:>10} {:>10}",
        "all callbacks", "ms a step", "tokens/s"
    );
    let presets = [small, larger];
    let mut variants = presets
        .each_ref()
        .map(|preset| Variant::new(preset.name, || fit(with_all(preset))));
    for (preset, times) in presets.iter().zip(measure(&mut variants, 5)) {
        let seconds = times.median().as_secs_f64() / STEPS as f64;
        let rate = preset.recipe.total_batch_size as f64 / seconds;
        println!("{:<36} {:>10.2} {rate:>10.0}", preset.name, seconds * 1e3);
    }
}
