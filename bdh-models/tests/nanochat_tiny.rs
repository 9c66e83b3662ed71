//! A checkpoint in nanochat's form is found, read and continued, and refused if it does not fit. Weights are written back.
//!
//! `data/nanochat_tiny` was written by its `make.py` with PyTorch 2.15: bf16, names of a compiled model, compressed.

#[path = "support/parity.rs"]
mod parity;

use bdh::burn::tensor::{Device, TensorData};
use bdh::checkpoint::{Start, TorchFile};
use bdh::data::TrainData;
use bdh::schedule::warmup_cosine;
use bdh::{BatchSize, BoxError, Clock, NextToken, TokenBatch, Trainer, TrainerBuilder};
use bdh_models::nanochat::{
    Gpt, GptConfig, ImportError, LearningRates, Meta, NanochatCheckpoint, export_nanochat, groups,
};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const STEP: u64 = 3;

/// Parameters in the order of their seeds: that of the original's fields.
const PARAMS: [&str; 21] = [
    "resid_lambdas",
    "x0_lambdas",
    "smear_lambda",
    "backout_lambda",
    "transformer.wte.weight",
    "transformer.h.0.attn.c_q.weight",
    "transformer.h.0.attn.c_k.weight",
    "transformer.h.0.attn.c_v.weight",
    "transformer.h.0.attn.c_proj.weight",
    "transformer.h.0.mlp.c_fc.weight",
    "transformer.h.0.mlp.c_proj.weight",
    "transformer.h.1.attn.c_q.weight",
    "transformer.h.1.attn.c_k.weight",
    "transformer.h.1.attn.c_v.weight",
    "transformer.h.1.attn.c_proj.weight",
    "transformer.h.1.attn.ve_gate.weight",
    "transformer.h.1.mlp.c_fc.weight",
    "transformer.h.1.mlp.c_proj.weight",
    "lm_head.weight",
    "smear_gate.weight",
    "value_embeds.1.weight",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/nanochat_tiny")
}

fn checkpoint() -> NanochatCheckpoint {
    NanochatCheckpoint::find(&folder(), None).expect("a checkpoint")
}

fn model(device: &Device) -> Gpt {
    let checkpoint = checkpoint();
    let config = checkpoint.config().expect("settings of a model");
    checkpoint.load(&config, device).expect("weights that fit")
}

/// Element `k` of the tensor with this seed.
fn element(seed: usize, k: usize) -> f32 {
    (((7 * k + seed) % 13) as f32 - 6.0) / 8.0
}

/// A copy of the checkpoint in a temporary directory.
fn copy() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for entry in fs::read_dir(folder()).expect("a folder") {
        let from = entry.expect("a file").path();
        let name = from.file_name().expect("a name");
        fs::copy(&from, dir.path().join(name)).expect("a copy");
    }
    dir
}

#[test]
fn weights_in_bf16_of_a_compiled_model_load_as_f32() {
    let weights = parity::weights(&model(&Device::flex()));
    assert_eq!(weights.len(), PARAMS.len());
    for (seed, name) in PARAMS.iter().enumerate() {
        let expected = (0..weights[*name].len()).map(|k| element(seed, k));
        assert!(weights[*name].iter().copied().eq(expected), "{name}");
    }
}

#[test]
fn settings_and_description_are_read() {
    let checkpoint = checkpoint();
    let expected = GptConfig {
        sequence_len: 16,
        vocab_size: 60,
        n_layer: 2,
        n_head: 2,
        n_kv_head: 2,
        n_embd: 24,
        window_pattern: "SL".into(),
        ..GptConfig::default()
    };
    assert_eq!(checkpoint.config().expect("settings of a model"), expected);
    let meta = &checkpoint.meta;
    assert_eq!((meta.step, meta.val_bpb), (STEP, None));
    assert_eq!(meta.loop_state.min_val_bpb, None); // Infinity, which JSON does not have
    assert_eq!(meta.loop_state.smooth_train_loss, Some(1.5));
    assert_eq!(meta.user_config["depth"], 2);
}

/// Checks a tensor of a state, which is `[columns, rows]`, against the elements of a `[rows, columns]` matrix of a file.
fn check_transposed(data: &TensorData, [rows, columns]: [usize; 2], seed: usize, skip: usize) {
    assert_eq!(data.shape().to_vec(), [columns, rows]);
    let values: Vec<f32> = data.iter::<f32>().collect();
    for row in 0..rows {
        for column in 0..columns {
            let expected = element(seed, skip + row * columns + column);
            assert_eq!(values[column * rows + row], expected);
        }
    }
}

#[test]
fn states_of_both_optimizers_get_our_names_and_layouts() {
    let start = checkpoint().start().expect("the state of one process");
    let tensor = |name: &str| &start.optimizer[name];
    for (place, name) in [(0, "lm_head.weight"), (5, "smear_gate.weight")] {
        let rows = if place == 0 { 64 } else { 1 };
        check_transposed(tensor(&format!("{name}.average")), [rows, 24], place, 0);
        check_transposed(tensor(&format!("{name}.square")), [rows, 24], place + 5, 0);
    }
    let table = tensor("value_embeds.1.weight.square");
    assert_eq!(table.shape().to_vec(), [64, 24]);
    assert!(table.iter::<f32>().eq((0..64 * 24).map(|k| element(7, k))));
    let scalar = tensor("backout_lambda.average");
    assert_eq!(scalar.iter::<f32>().collect::<Vec<_>>(), [element(7, 0)]);

    // Muon's states of one shape are stacked: first parameter, members, and the shape [out, in].
    let stacks: [(usize, &[&str], [usize; 2]); 4] = [
        (8, &["1.attn.ve_gate"], [2, 12]),
        (9, &SQUARES, [24, 24]),
        (17, &["0.mlp.c_proj", "1.mlp.c_proj"], [24, 96]),
        (19, &["0.mlp.c_fc", "1.mlp.c_fc"], [96, 24]),
    ];
    for (place, names, [rows, columns]) in stacks {
        let line = if rows >= columns {
            [rows, 1]
        } else {
            [1, columns]
        };
        for (index, name) in names.iter().enumerate() {
            let name = format!("transformer.h.{name}.weight");
            let (skip, skip_lines) = (index * rows * columns, index * rows.max(columns));
            check_transposed(
                tensor(&format!("{name}.momentum")),
                [rows, columns],
                place,
                skip,
            );
            check_transposed(
                tensor(&format!("{name}.variance")),
                line,
                place + 5,
                skip_lines,
            );
        }
    }
    assert_eq!(start.optimizer.len(), 2 * PARAMS.len());
    assert_eq!(start.counters.len(), PARAMS.len());
    assert!(start.counters.values().all(|steps| *steps == STEP));
}

const SQUARES: [&str; 8] = [
    "0.attn.c_q",
    "0.attn.c_k",
    "0.attn.c_v",
    "0.attn.c_proj",
    "1.attn.c_q",
    "1.attn.c_k",
    "1.attn.c_v",
    "1.attn.c_proj",
];

/// Data that remembers the position that it was moved to.
struct Same(Value);

impl TrainData for Same {
    type Batch = TokenBatch;

    fn next_batch(&mut self) -> Result<TokenBatch, BoxError> {
        Ok(TokenBatch::from_rows(&[[1, 5, 9, 2, 7]]))
    }

    fn batch_size(&self) -> Option<BatchSize> {
        Some(BatchSize {
            samples: 1,
            tokens: 4,
        })
    }

    fn state(&self) -> Value {
        self.0.clone()
    }

    fn load_state(&mut self, state: &Value) -> Result<(), BoxError> {
        self.0 = state.clone();
        Ok(())
    }
}

fn run(start: Start) -> TrainerBuilder<NextToken<Gpt>> {
    let device = bdh::device("cpu").expect("a CPU");
    let config = checkpoint().config().expect("settings of a model");
    let groups = groups(&config, LearningRates::default(), 0.1, None).into_iter();
    let run = Trainer::builder(NextToken::new(), model(&device))
        .train_data(Same(Value::Null))
        .steps(5)
        .stop_on_signals(false)
        .start_from(start);
    let groups = groups.map(|group| group.scheduled(|lr| warmup_cosine(lr, 2)));
    groups.fold(run, TrainerBuilder::group)
}

#[test]
fn a_run_continues_after_the_step_with_clock_data_and_optimizers() {
    let start = checkpoint().start().expect("the state of one process");
    let expected = Clock {
        step: STEP,
        micro_batches: 6,
        samples: 12,
        tokens: 192,
        elapsed: Duration::from_millis(250),
        ..Clock::default()
    };
    assert_eq!(start.clock, expected);
    let trainer = run(start).build().expect("states that fit");
    let notes = trainer.plan().notes.join("; ");
    assert_eq!(notes, "starts at step 3, so 2 of 5 steps are taken");
    let mut run = trainer.start().expect("a run");
    let data = run.data::<Same>().expect("the data of this run");
    assert_eq!(data.0, json!({ "pq_idx": 0, "rg_idx": 5, "epoch": 1 }));
    let mut steps = Vec::new();
    while let Some(step) = run.step().expect("a step") {
        steps.push(step.number);
    }
    assert_eq!(steps, [4, 5]);
}

#[test]
fn states_of_another_model_are_refused_with_their_names() {
    let mut start = checkpoint().start().expect("the state of one process");
    let moved = start
        .optimizer
        .remove("x0_lambdas.average")
        .expect("a state");
    start
        .optimizer
        .insert("x9_lambdas.average".to_owned(), moved);
    let error = run(start)
        .build()
        .expect_err("a state of no parameter")
        .to_string();
    assert!(error.starts_with("`start_from` is step 3: "), "{error}");
    assert!(error.contains("_lambdas."), "{error}");

    // The description tells of a wider model than the state.
    let dir = copy();
    let meta = dir.path().join("meta_000003.json");
    let text = fs::read_to_string(&meta).expect("a description");
    fs::write(&meta, text.replace("\"n_embd\": 24", "\"n_embd\": 28")).expect("written");
    let checkpoint = NanochatCheckpoint::find(dir.path(), None).expect("a checkpoint");
    let error = checkpoint.start().expect_err("another width").to_string();
    assert!(
        error.ends_with("its `state.0.exp_avg` is [64, 24], and the model needs [64, 28]"),
        "{error}"
    );
    let config = checkpoint.config().expect("settings of a model");
    let error = checkpoint
        .load(&config, &Device::flex())
        .expect_err("another width");
    assert!(
        error.to_string().ends_with(
            "it has 2 layers and the token table [64, 24], and the settings give 2 layers and the table [64, 28]"
        ),
        "{error}"
    );
}

#[test]
fn state_that_is_missing_or_divided_among_processes_is_refused_with_advice() {
    let dir = copy();
    let at = |rank: usize| dir.path().join(format!("optim_000003_rank{rank}.pt"));
    fs::copy(at(0), at(1)).expect("a copy");
    let checkpoint = NanochatCheckpoint::find(dir.path(), None).expect("a checkpoint");
    let error = checkpoint.start().expect_err("two processes").to_string();
    assert!(
        error.contains("it is divided among the processes of several GPUs"),
        "{error}"
    );
    fs::remove_file(at(0)).expect("removed");
    let error = checkpoint.start().expect_err("no state").to_string();
    assert!(error.contains("there is no such file"), "{error}");
}

/// A pickle that calls `os.system`, which would create a file.
fn pickled_call(proof: &Path) -> Vec<u8> {
    let command = format!("touch '{}'", proof.display());
    let mut pickle = b"\x80\x02}X\x05\x00\x00\x00statecposix\nsystem\n(X".to_vec();
    pickle.extend((command.len() as u32).to_le_bytes());
    pickle.extend(command.bytes());
    pickle.extend(b"tRs.");
    pickle
}

#[test]
fn code_in_the_files_is_refused_and_not_run() {
    let dir = copy();
    let proof = dir.path().join("it_ran");
    for name in ["model_000003.pt", "optim_000003_rank0.pt"] {
        fs::write(dir.path().join(name), pickled_call(&proof)).expect("a file");
    }
    let checkpoint = NanochatCheckpoint::find(dir.path(), None).expect("a checkpoint");
    let config = checkpoint.config().expect("settings of a model");
    let weights = checkpoint.load(&config, &Device::flex()).expect_err("code");
    let state = checkpoint.start().expect_err("code");
    for error in [weights, state] {
        assert!(matches!(error, ImportError::Weights(_)), "{error}");
        let text = error.to_string();
        assert!(
            text.contains("its `state` is of the type `posix.system`"),
            "{text}"
        );
    }
    assert!(!proof.exists());
}

#[test]
fn a_directory_without_the_step_is_refused_with_those_it_has() {
    let error = |dir: &Path, step| {
        let error = NanochatCheckpoint::find(dir, step).expect_err("no checkpoint");
        assert!(matches!(error, ImportError::NotFound { .. }), "{error}");
        let text = error.to_string();
        let start = format!(
            "cannot find a checkpoint of nanochat in `{}`: ",
            dir.display()
        );
        text.strip_prefix(&start).expect(&text).to_owned()
    };
    let dir = copy();
    let copied = dir.path().join("model_000003.pt");
    fs::copy(&copied, dir.path().join("model_000012.pt")).expect("a copy");
    fs::copy(&copied, dir.path().join("model_000013_backup.pt")).expect("a copy");
    assert_eq!(
        NanochatCheckpoint::steps(dir.path()).expect("a directory"),
        [3, 12]
    );
    let expected = "there is none of step 7: use one of 3, 12";
    assert_eq!(error(dir.path(), Some(7)), expected);

    let all = tempfile::tempdir().expect("a temporary directory");
    assert_eq!(
        error(all.path(), None),
        "it has no file such as `model_000040.pt`"
    );
    for tag in ["d4", "d2"] {
        fs::create_dir(all.path().join(tag)).expect("a folder");
        fs::copy(&copied, all.path().join(tag).join("model_000003.pt")).expect("a copy");
    }
    assert_eq!(
        error(all.path(), None),
        "use one of its folders: `d2`, `d4`"
    );
    let missing = all.path().join("d6");
    assert!(error(&missing, None).starts_with("there is no such directory"));
    assert_eq!(error(&copied, None), "it is a file; use its directory");

    let without = NanochatCheckpoint::find(&all.path().join("d2"), None);
    let without = without.expect_err("no description");
    assert!(matches!(without, ImportError::Meta { .. }), "{without}");
}

#[test]
fn exported_weights_are_found_and_loaded_bit_for_bit() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (dir, device) = (dir.path().join("base_checkpoints/d2"), Device::flex());
    let model = model(&device);
    let meta = checkpoint().meta;
    let path = export_nanochat(&model, 250, &meta, &dir).expect("written");
    assert_eq!(path, dir.join("model_000250.pt"));
    let names = |dir: &Path| {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir).expect("a folder") {
            let name = entry.expect("a file").file_name();
            names.push(name.into_string().expect("a name of ours"));
        }
        names.sort();
        names
    };
    assert_eq!(names(&dir), ["meta_000250.json", "model_000250.pt"]);

    let found = NanochatCheckpoint::find(&dir, None).expect("a checkpoint");
    assert_eq!(found.meta, Meta { step: 250, ..meta });
    let loaded = found
        .load(model.config(), &device)
        .expect("weights that fit");
    assert_eq!(parity::weights(&loaded), parity::weights(&model));
    let written = TorchFile::open(path).expect("a file of tensors");
    let original = TorchFile::open(folder().join("model_000003.pt")).expect("a file of tensors");
    let shapes = original.shapes().into_iter();
    let shapes: Vec<_> = shapes
        .map(|(name, shape)| (&name["_orig_mod.".len()..], shape))
        .collect();
    assert_eq!(written.shapes().into_iter().collect::<Vec<_>>(), shapes);
}
