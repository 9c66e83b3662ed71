//! nanochat models of several sizes, with text to train on.

use bdh::data::TrainData;
use bdh::{Cadence, NextToken, Schedule, TokenBatch, Trainer, TrainerBuilder};
use bdh_data::{DataSpec, Packed, Tokenizer, passages};
use bdh_models::nanochat::{Gpt, GroupSpec, LrSchedule, MuonSchedule};
use bdh_models::scaling::{MicroBatch, Recipe, Request};
use std::sync::Arc;

const SEED: u64 = 42;

/// Model on byte tokens, with its text.
pub(crate) struct Preset {
    pub(crate) name: &'static str,
    pub(crate) recipe: Recipe,
    steps: u64,
    text: Arc<[Vec<i32>]>,
}

impl Preset {
    /// Creates a model of a depth and width on `rows` sequences of 256 bytes, for a run of `steps` steps.
    pub(crate) fn new(name: &'static str, [depth, width, rows]: [usize; 3], steps: u64) -> Self {
        let request = Request {
            depth,
            n_embd: Some(width),
            vocab_size: Tokenizer::Bytes.vocab_size(),
            sequence_len: 256,
            micro_batch: MicroBatch::Exactly(rows),
            total_batch_size: Some(rows * 256),
            num_iterations: Some(steps),
            weight_decay_override: Some(0.1),
            ..Request::default()
        };
        let corpus = DataSpec::Synthetic.load().unwrap();
        let text = passages(&Tokenizer::Bytes, &corpus.train, 257);
        Self {
            name,
            recipe: Recipe::derive(&request).unwrap(),
            steps,
            text,
        }
    }

    pub(crate) fn model(&self) -> Gpt {
        self.recipe
            .config
            .init(SEED, &bdh::device("cpu").unwrap())
            .unwrap()
    }

    pub(crate) fn batches(&self) -> Packed {
        Packed::new(Arc::clone(&self.text), self.recipe.micro_batch, 256, SEED).unwrap()
    }

    pub(crate) fn groups(&self) -> Vec<GroupSpec> {
        self.recipe.groups(MuonSchedule::new(self.steps))
    }

    /// Returns the trainer without additions, on these batches.
    pub(crate) fn trainer(
        &self,
        batches: impl TrainData<Batch = TokenBatch>,
    ) -> TrainerBuilder<NextToken<Gpt>> {
        let task = NextToken::new().vocabulary(Tokenizer::Bytes);
        let mut trainer = Trainer::builder(task, self.model())
            .train_data(batches)
            .steps(self.steps)
            .log(Cadence::Never)
            .stop_on_signals(false);
        for group in self.groups() {
            trainer = trainer.group(group.scheduled(lr));
        }
        trainer
    }
}

pub(crate) fn lr(peak_lr: f64) -> Schedule {
    LrSchedule::default().with_peak(peak_lr)
}
