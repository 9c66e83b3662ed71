//! Each reference model resumes bit for bit with its own data and optimizers.

use bdh::burn::optim::AdamWConfig;
use bdh::cadence::{every, start};
use bdh::lm::RandomCrops;
use bdh::schedule::warmup_cosine;
use bdh::testing::resume_exact;
use bdh::{NextToken, Task, Trainer, TrainerBuilder};
use bdh_callbacks::{Activations, Clipping, Ema, Histograms, LossSpikes, Norms, UpdateRatios};
use bdh_data::{Corpus, DataSpec, Packed, PlainBytes, Tokenizer, passages, stream};
use bdh_models::bdh_model::BdhConfig;
use bdh_models::gpt2::{self, Gpt2Config};
use bdh_models::nanochat::MuonSchedule;
use bdh_models::scaling::{MicroBatch, Recipe, Request};
use std::sync::{Mutex, PoisonError};

const STEPS: u64 = 8;
const SEQ_LEN: usize = 32;

/// Steps after which the run stops: early, after an evaluation, within an epoch, and just before the end.
const STOPS: [u64; 3] = [1, 4, 7];

/// Lock for burn's random numbers on the CPU: they belong to the process, and BDH has dropout.
static ALONE: Mutex<()> = Mutex::new(());

fn check<T: Task>(make: impl Fn() -> TrainerBuilder<T>) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    resume_exact(STOPS, &[], make);
}

/// Adds the common settings: accumulation, clipping, evaluation, and callbacks with and without state.
fn watched<T: Task>(run: TrainerBuilder<T>) -> TrainerBuilder<T> {
    run.steps(STEPS)
        .grad_accum_steps(2)
        .clip_grad_norm(0.5)
        .eval(start() | every(3))
        .callback(Activations::default())
        .callback(Clipping::default())
        .callback(Ema::default())
        .callback(Histograms::default())
        .callback(Norms::default())
        .callback(UpdateRatios::default())
        .callback(LossSpikes::default())
}

fn corpus() -> Corpus {
    DataSpec::Synthetic.load().expect("text that is made here")
}

/// Returns random crops of the text, two per batch.
fn crops() -> RandomCrops {
    RandomCrops::new(stream(&PlainBytes, &corpus().train), 2, SEQ_LEN, 3).expect("enough text")
}

#[test]
fn nanochat_with_muon_and_packed_documents_resumes() {
    let request = Request {
        depth: 2,
        n_embd: Some(64),
        vocab_size: Tokenizer::Bytes.vocab_size(),
        sequence_len: SEQ_LEN,
        micro_batch: MicroBatch::Exactly(2),
        total_batch_size: Some(2 * 2 * SEQ_LEN),
        num_iterations: Some(STEPS),
        weight_decay_override: Some(0.1),
        ..Request::default()
    };
    let recipe = Recipe::derive(&request).expect("a small model");
    let text = passages(&Tokenizer::Bytes, &corpus().train, SEQ_LEN + 1);
    check(|| {
        let batches = Packed::new(text.clone(), 2, SEQ_LEN, 3).expect("enough text");
        let model = recipe
            .config
            .init(3, &bdh::device("cpu").expect("a CPU"))
            .expect("a model");
        let run = Trainer::builder(NextToken::new(), model).train_data(batches);
        let groups = recipe.groups(MuonSchedule::new(STEPS)).into_iter();
        let groups = groups.map(|group| group.scheduled(|lr| warmup_cosine(lr, 2)));
        groups.fold(watched(run), TrainerBuilder::group)
    });
}

#[test]
fn bdh_with_dropout_and_random_crops_resumes() {
    let config = BdhConfig {
        n_layer: 2,
        n_embd: 32,
        n_head: 2,
        mlp_internal_dim_multiplier: 8,
        dropout: 0.1,
        ..BdhConfig::default()
    };
    check(|| {
        let model = config
            .init(3, &bdh::device("cpu").expect("a CPU"))
            .expect("a model");
        let run = Trainer::builder(NextToken::new(), model).train_data(crops());
        watched(run).optimizer(AdamWConfig::new().build(), 1e-3)
    });
}

#[test]
fn gpt2_with_decay_groups_and_schedule_resumes() {
    let config = Gpt2Config {
        vocab_size: 256,
        block_size: SEQ_LEN,
        ..Gpt2Config::sized(2, 2, 32)
    };
    check(|| {
        let model = config
            .init(3, &bdh::device("cpu").expect("a CPU"))
            .expect("a model");
        let run = Trainer::builder(NextToken::new(), model).train_data(crops());
        let groups = gpt2::groups(0.1, gpt2::schedule(1e-3, 2));
        groups.into_iter().fold(watched(run), TrainerBuilder::group)
    });
}
