//! Training that continues after a checkpoint of nanochat, compared with PyTorch's.
//!
//! The judge is `judges/continue_nanochat.py`, which loads the same files into the models and optimizers of
//! `benches/torch`. Where PyTorch is missing, its results for the fixture are those below. They were recorded with
//! PyTorch 2.15 on a CPU by
//! `BDH_TORCH_VENV=… cargo test -p bdh-models --test nanochat_home five_more_steps -- --nocapture`, whose batches go to
//! `continue_nanochat.py …/nanochat_home/base_checkpoints/fix 40 45 BATCHES`.

use crate::home::{Home, load, newest};
use crate::parity::{self, Values};
use crate::torch::Torch;
use bdh::data::TrainData;
use bdh::hooks::on_micro_batch;
use bdh::{NextToken, TokenBatch, Trainer, TrainerBuilder};
use bdh_data::{Documents, NanochatLoader, Tokenizer};
use bdh_models::nanochat::{
    Gpt, GptConfig, LearningRates, LrSchedule, Meta, MuonSchedule, NanochatCheckpoint,
    NanochatVersion, groups,
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Steps after the checkpoint.
const MORE: u64 = 5;

/// Tokens of an update at which nanochat tuned its learning rates.
const REFERENCE_BATCH: f64 = 524_288.0;

/// Results of PyTorch for the fixture.
const RECORDED: &str = include_str!("continued.json");

/// Results of a continuation.
#[derive(Deserialize)]
struct Continuation {
    /// Loss of each micro-batch.
    losses: Vec<f64>,
    /// Norm of the change of each parameter, `[out, in]`, and the sum of its elements times a wave.
    moved: BTreeMap<String, [f64; 2]>,
}

/// Numbers of a checkpoint's run.
struct Run {
    checkpoint: NanochatCheckpoint,
    config: GptConfig,
}

impl Run {
    fn meta(&self) -> &Meta {
        &self.checkpoint.meta
    }

    /// Returns a flag of the training program.
    fn flag(&self, name: &str) -> f64 {
        self.meta().user_config[name].as_f64().expect("a number")
    }

    fn steps(&self) -> u64 {
        self.checkpoint.step + MORE
    }

    fn micro_batches(&self) -> usize {
        let meta = self.meta();
        meta.total_batch_size / (meta.device_batch_size * meta.max_seq_len)
    }

    /// Returns the share of the reference batch.
    fn batch_ratio(&self) -> f64 {
        self.meta().total_batch_size as f64 / REFERENCE_BATCH
    }

    /// Returns Muon's weight decay for the batch and the compute-optimal number of tokens.
    fn weight_decay(&self) -> f64 {
        let (depth, head) = (12, self.flag("head_dim") as usize);
        let width = (depth * self.flag("aspect_ratio") as usize).next_multiple_of(head);
        let reference = GptConfig {
            n_layer: depth,
            n_embd: width,
            n_head: width / head,
            n_kv_head: width / head,
            ..self.config.clone()
        };
        let scaling = |config: &GptConfig| config.num_params().scaling() as f64;
        let tokens = scaling(&reference) / scaling(&self.config);
        self.flag("weight_decay") * self.batch_ratio().sqrt() * tokens
    }

    /// Adds nanochat's parameter groups with their schedules.
    fn with_groups(&self, run: TrainerBuilder<NextToken<Gpt>>) -> TrainerBuilder<NextToken<Gpt>> {
        let rates = LearningRates {
            embedding: self.flag("embedding_lr"),
            unembedding: self.flag("unembedding_lr"),
            matrix: self.flag("matrix_lr"),
            scalar: self.flag("scalar_lr"),
            ..LearningRates::default()
        };
        let lr = LrSchedule {
            warmup_steps: self.flag("warmup_steps") as u64,
            warmdown_ratio: self.flag("warmdown_ratio"),
            final_lr_frac: self.flag("final_lr_frac"),
        };
        let muon = MuonSchedule {
            warmdown_ratio: lr.warmdown_ratio,
            ..MuonSchedule::new(self.steps())
        };
        let rates = rates.scaled(self.batch_ratio().sqrt());
        let groups = groups(&self.config, rates, self.weight_decay(), Some(muon)).into_iter();
        let groups = groups.map(|group| group.scheduled(|peak| lr.with_peak(peak)));
        groups.fold(run, TrainerBuilder::group)
    }

    /// Makes nanochat's data loader for the home's text, at its start.
    fn loader(&self, home: &Home) -> NanochatLoader {
        let documents = Documents::open(&home.dir.join("base_data_climbmix")).expect("shards");
        let tokenizer = Tokenizer::load(&home.dir.join("tokenizer")).expect("a tokenizer");
        let (rows, seq_len) = (self.meta().device_batch_size, self.meta().max_seq_len);
        let train = documents.split().expect("two shards or more").train;
        NanochatLoader::new(train, Arc::new(tokenizer), rows, seq_len).expect("a loader")
    }

    /// Returns the micro-batches that the run will train on.
    fn batches(&self, home: &Home) -> Vec<TokenBatch> {
        let mut loader = self.loader(home);
        let position = &self.meta().dataloader_state_dict;
        loader.load_state(position).expect("nanochat's position");
        let count = MORE as usize * self.micro_batches();
        (0..count)
            .map(|_| loader.next_batch().expect("a batch"))
            .collect()
    }

    /// Trains five more steps.
    fn train(&self, home: &Home) -> Continuation {
        let device = bdh::device("cpu").expect("a CPU");
        let model = load(&self.checkpoint, &device);
        let before = parity::weights(&model);
        let losses = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&losses);
        let run = Trainer::builder(NextToken::new(), model)
            .train_data(self.loader(home))
            .grad_accum_steps(self.micro_batches())
            .steps(self.steps())
            .stop_on_signals(false)
            .start_from(self.checkpoint.start().expect("the state of one process"))
            .callback(on_micro_batch(move |ctx| {
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                seen.push(ctx.loss.read()?);
                Ok(())
            }));
        let trainer = self.with_groups(run).build().expect("states that fit");
        let first = format!("starts at step {}, so 5 of", self.checkpoint.step);
        assert!(trainer.plan().notes[0].starts_with(&first));
        let model = trainer.fit().expect("a run that completes").model;
        let losses = losses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        Continuation {
            losses,
            moved: moved(&before, &parity::weights(&model)),
        }
    }
}

/// Returns the norm of each parameter's change, and its product with a wave.
fn moved(before: &Values, after: &Values) -> BTreeMap<String, [f64; 2]> {
    let mut moved = BTreeMap::new();
    for (name, after) in after {
        let (mut squares, mut product) = (0.0, 0.0);
        for (k, (after, before)) in after.iter().zip(&before[name]).enumerate() {
            let change = f64::from(*after) - f64::from(*before);
            squares += change * change;
            product += change * (0.37 * k as f64 + 0.1).sin();
        }
        moved.insert(name.clone(), [squares.sqrt(), product]);
    }
    moved
}

/// Returns the rows of a batch as the judge reads them.
fn to_json(batch: &TokenBatch) -> Value {
    let rows = |ids: Vec<i32>| -> Vec<Vec<i32>> {
        ids.chunks(batch.seq_len()).map(<[i32]>::to_vec).collect()
    };
    let inputs = batch
        .inputs_on(&bdh::burn::tensor::Device::flex())
        .into_data();
    json!({ "inputs": rows(inputs.iter::<i32>().collect()), "targets": rows(batch.targets().to_vec()) })
}

/// Lets PyTorch continue; without it, takes the recorded results if they are those of this checkpoint.
fn original(run: &Run, home: &Home) -> Option<Continuation> {
    let Some(torch) = Torch::find() else {
        let is_recorded =
            home.dir.ends_with("nanochat_home") && run.checkpoint.dir.ends_with("fix");
        let recorded = || serde_json::from_str(RECORDED).expect("recorded results");
        return (is_recorded && run.checkpoint.step == 40).then(recorded);
    };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let batches = dir.path().join("batches.json");
    let all: Vec<_> = run.batches(home).iter().map(to_json).collect();
    std::fs::write(&batches, json!(all).to_string()).expect("a file");
    let args = [
        run.checkpoint.dir.display().to_string(),
        run.checkpoint.step.to_string(),
        run.steps().to_string(),
        batches.display().to_string(),
    ];
    let results = torch.json("continue_nanochat.py", args);
    eprintln!("{results}");
    Some(serde_json::from_value(results).expect("losses and changes"))
}

/// Returns the runs of nanochat's master whose newest checkpoint has an optimizer state.
fn runs(home: &Home) -> Vec<Run> {
    let mut runs = Vec::new();
    for checkpoint in home.tags().iter().map(|tag| newest(tag)) {
        let config = checkpoint.config().expect("settings of a model");
        let state = format!("optim_{:06}_rank0.pt", checkpoint.step);
        let is_master = config.version == NanochatVersion::Master;
        if is_master && checkpoint.dir.join(state).is_file() {
            runs.push(Run { checkpoint, config });
        }
    }
    runs
}

#[test]
fn five_more_steps_have_the_losses_and_changes_of_the_original() {
    for home in Home::all() {
        for run in runs(&home) {
            let Some(expected) = original(&run, &home) else {
                continue;
            };
            let ours = run.train(&home);
            compare(&ours, &expected);
        }
    }
}

/// Compares losses with a tolerance of 1e-4, and changes with one of 2e-3 of their norm.
fn compare(ours: &Continuation, expected: &Continuation) {
    assert_eq!(ours.losses.len(), expected.losses.len());
    for (index, (loss, expected)) in ours.losses.iter().zip(&expected.losses).enumerate() {
        let apart = (loss - expected).abs();
        eprintln!("micro-batch {index}: losses {apart:.1e} apart");
        assert!(apart < 1e-4, "micro-batch {index}: {loss}, not {expected}");
    }
    assert!(ours.moved.keys().eq(expected.moved.keys()));
    for (name, [norm, product]) in &ours.moved {
        let [expected_norm, expected_product] = expected.moved[name];
        let apart = (norm - expected_norm)
            .abs()
            .max((product - expected_product).abs());
        let apart = apart / expected_norm;
        eprintln!("{name}: changes {apart:.1e} apart (relative)");
        // The gradient of this scalar sums many terms that nearly cancel; AdamW enlarges the rest.
        assert!(
            apart < 2e-3 || name == "backout_lambda",
            "{name}: {apart:e} apart"
        );
    }
}
