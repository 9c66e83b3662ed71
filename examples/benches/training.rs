//! What the trainer costs a real model, and how fast the models are.
//!
//! ```text
//! cargo bench --profile dev -p bdh-examples --bench training
//! ```
//!
//! The same nanochat on the same batches: once in a loop written by hand, once in a `Trainer` with nothing
//! added, and then with all that a run usually has. Variants run alternately; ratios are medians over rounds.
//! Both loops must end with the same weights to the bit, or the comparison would be of different work.

#![expect(clippy::print_stdout, reason = "a bench prints a table")]
#![expect(clippy::unwrap_used, reason = "a bench that cannot run shall say so at once")]

#[path = "support/paired.rs"]
mod paired;

#[path = "../tests/support/parity.rs"]
mod parity;

use bdh::burn::optim::GradientsParams;
use bdh::lm::cross_entropy;
use bdh::{
    Cadence, CausalLm, MemorySink, NextToken, Probe, Source, Trainer, TrainerBuilder,
    warmup_stable_decay,
};
use bdh_callbacks::{EarlyCheckpoints, Norms, Throughput};
use bdh_examples::data::{DataSpec, Packed, Tokenizer, passages};
use bdh_examples::nanochat::{Gpt, Group, Schedule};
use bdh_examples::scaling::{MicroBatch, Recipe, Request};
use paired::{Variant, measure, time};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

const STEPS: u64 = 10;
const ROUNDS: usize = 15;
const SEED: u64 = 42;

/// A model on byte tokens, and the text for it.
struct Preset {
    name: &'static str,
    recipe: Recipe,
    text: Arc<[Vec<i32>]>,
}

impl Preset {
    /// A model of this depth and width on `rows` sequences of 256 bytes.
    fn new(name: &'static str, depth: usize, width: usize, rows: usize) -> Self {
        let request = Request {
            depth,
            n_embd: Some(width),
            vocab_size: Tokenizer::Bytes.vocab_size(),
            sequence_len: 256,
            micro_batch: MicroBatch::Exactly(rows),
            total_batch_size: Some(rows * 256),
            num_iterations: Some(STEPS),
            weight_decay: Some(0.1),
            ..Request::default()
        };
        let corpus = DataSpec::Synthetic.load().unwrap();
        let text = passages(&Tokenizer::Bytes, &corpus.train, 257);
        Self { name, recipe: Recipe::derive(&request).unwrap(), text }
    }

    fn model(&self) -> Gpt {
        self.recipe.config.init(SEED, &bdh::device("cpu").unwrap()).unwrap()
    }

    fn batches(&self) -> Packed {
        Packed::new(Arc::clone(&self.text), self.recipe.micro_batch, 256, SEED).unwrap()
    }

    fn groups(&self) -> Vec<Group> {
        self.recipe.groups(Schedule::new(STEPS))
    }

    /// The trainer with nothing added.
    fn trainer(&self) -> TrainerBuilder<NextToken<Gpt, Packed>> {
        let task = NextToken::new(self.batches(), Vec::new());
        let mut trainer = Trainer::builder(task, self.model())
            .steps(STEPS)
            .log(Cadence::Never)
            .stop_on_signals(false);
        for group in self.groups() {
            trainer = trainer.group(group.scheduled(lr));
        }
        trainer
    }

    /// The same training without a trainer: how long it took, and what came of it.
    fn by_hand(&self) -> (Duration, Gpt) {
        let (groups, mut batches, mut model) = (self.groups(), self.batches(), self.model());
        let device = bdh::device("cpu").unwrap();
        let step = Cell::new(0);
        let rule = |name: &str| {
            let group = groups.iter().find(|group| group.owns(name)).unwrap();
            (group.optimizer(), lr(group.lr).lr(step.get(), STEPS))
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
}

fn lr(peak: f64) -> bdh::Schedule {
    warmup_stable_decay(peak, 40, 0.65).to(0.05)
}

fn fit(trainer: TrainerBuilder<NextToken<Gpt, Packed>>) -> Duration {
    let trainer = trainer.build().unwrap();
    time(|| drop(trainer.fit().unwrap()))
}

/// What a run usually has, on its default cadence.
fn with_all(preset: &Preset) -> TrainerBuilder<NextToken<Gpt, Packed>> {
    let due_later = EarlyCheckpoints::when(Cadence::Never);
    let trainer = preset.trainer().log(Cadence::EVERY_STEP);
    trainer.callback(Norms::default()).callback(Throughput::default()).callback(due_later)
}

fn main() {
    let small = Preset::new("d2 w64, 8 x 256", 2, 64, 8);
    let larger = Preset::new("d4 w256, 4 x 256", 4, 256, 4);

    let by_trainer = small.trainer().build().unwrap().fit().unwrap().model;
    let same = parity::weights(&by_trainer) == parity::weights(&small.by_hand().1);
    assert!(same, "the two loops end with different weights, so their times mean nothing");

    let dir = std::env::temp_dir().join(format!("bdh-bench-{}", std::process::id()));
    let mut round = 0;
    let mut run_dir = || {
        round += 1;
        dir.join(round.to_string())
    };
    let mut variants = vec![
        Variant::new("a loop by hand", || small.by_hand().0),
        Variant::new("Trainer, nothing added", || fit(small.trainer())),
        Variant::new("all callbacks, into memory", || {
            fit(with_all(&small).sink(MemorySink::default()))
        }),
        Variant::new("all callbacks, into metrics.jsonl", || {
            fit(with_all(&small).run_dir(run_dir()))
        }),
    ];
    let times = measure(&mut variants, ROUNDS);
    println!("{:<36} {:>10} {:>10} {:>12}", small.name, "ms a step", "to hand", "to Trainer");
    for (variant, of_variant) in variants.iter().zip(&times) {
        let millis = of_variant.median().as_secs_f64() * 1e3 / STEPS as f64;
        let (to_hand, to_trainer) = (of_variant.ratio(&times[0]), of_variant.ratio(&times[1]));
        println!("{:<36} {millis:>10.2} {to_hand:>10.4} {to_trainer:>12.4}", variant.name);
    }
    drop(variants);
    std::fs::remove_dir_all(&dir).unwrap();

    println!("\n{:<36} {:>10} {:>10}", "all callbacks", "ms a step", "tokens/s");
    let presets = [small, larger];
    let mut variants =
        presets.each_ref().map(|preset| Variant::new(preset.name, || fit(with_all(preset))));
    for (preset, times) in presets.iter().zip(measure(&mut variants, 5)) {
        let seconds = times.median().as_secs_f64() / STEPS as f64;
        let rate = preset.recipe.total_batch_size as f64 / seconds;
        println!("{:<36} {:>10.2} {rate:>10.0}", preset.name, seconds * 1e3);
    }
}
