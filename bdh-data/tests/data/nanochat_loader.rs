//! nanochat's loader yields the batches of the original, and resumes exactly.

use crate::homes::Home;
use bdh::data::{EvalData, TrainData};
use bdh_data::{Documents, NanochatEval, NanochatLoader, Split, Tokenizer};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::sync::Arc;

fn split(home: &Home) -> Split {
    let documents = Documents::open(&home.data()).expect("parquet files");
    documents.split().expect("two files")
}

fn loader(home: &Home, rows: usize, seq_len: usize) -> NanochatLoader {
    let tokenizer = Arc::new(home.tokenizer());
    NanochatLoader::new(split(home).train, tokenizer, rows, seq_len).expect("a batch")
}

#[test]
fn training_batches_and_positions_are_those_of_the_original() {
    for home in Home::all() {
        let (expected, [rows, seq_len]) = home.targets("train");
        let states = home.expected["train_states"].as_array().expect("a list");
        let mut loader = loader(&home, rows, seq_len);
        for (batch, (targets, state)) in expected.iter().zip(states).enumerate() {
            let found = loader.next_batch().expect("documents");
            assert_eq!(found.targets(), targets, "batch {batch}");
            let position = serde_json::to_value(loader.position()).expect("JSON");
            assert_eq!(&position, state, "batch {batch}");
        }
    }
}

#[test]
fn validation_batches_are_those_of_the_original_at_every_eval() {
    for home in Home::all() {
        let (expected, [rows, seq_len]) = home.targets("val");
        let tokens = expected.len() * rows * seq_len;
        let tokenizer = Arc::new(home.tokenizer());
        let data = NanochatEval::new(split(&home).val, tokenizer, rows, seq_len, tokens);
        let data = data.expect("a batch");
        for _ in 0..2 {
            let found = data.batches().map(|batch| batch.expect("documents"));
            let found: Vec<_> = found.map(|batch| batch.targets().to_vec()).collect();
            assert_eq!(found, expected);
        }
        assert_eq!(data.num_batches(), Some(expected.len()));
    }
}

/// Writes documents of random lengths as JSONL, more than wait for a row at a time.
fn corpus(dir: &Path, documents: usize) -> Split {
    for (name, seed) in [("a.jsonl", 1_usize), ("b.jsonl", 2), ("val.jsonl", 3)] {
        let mut lines = String::new();
        for index in 0..documents {
            let length = (index * 7919 + seed * 104_729) % 97;
            let text = format!("{name} {index} {}", "x".repeat(length));
            lines += &format!("{}\n", json!({ "text": text }));
        }
        fs::write(dir.join(name), lines).expect("written");
    }
    Documents::open(dir)
        .expect("JSONL")
        .split()
        .expect("three files")
}

fn of_bytes(split: &Split) -> NanochatLoader {
    let tokenizer = Arc::new(Tokenizer::Bytes);
    NanochatLoader::new(split.train.clone(), tokenizer, 3, 40).expect("a batch")
}

/// Saves and loads a position as a checkpoint does.
fn through_text(state: &Value) -> Value {
    serde_json::from_str(&state.to_string()).expect("JSON")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn resumed_loader_yields_the_batches_that_followed(before in 0_usize..300, documents in 20_usize..900) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let split = corpus(dir.path(), documents);
        let mut first = of_bytes(&split);
        for _ in 0..before {
            first.next_batch().expect("documents");
        }
        let mut second = of_bytes(&split);
        second.load_state(&through_text(&first.state())).expect("its own position");
        prop_assert_eq!(second.state(), first.state());
        for _ in 0..40 {
            let (a, b) = (first.next_batch().expect("documents"), second.next_batch().expect("documents"));
            prop_assert_eq!(a, b);
        }
        prop_assert_eq!(first.position(), second.position());
    }
}

#[test]
fn position_of_nanochat_continues_with_the_next_row_group() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let split = corpus(dir.path(), 3000); // groups of 1024, 1024 and 952 documents
    let mut loader = of_bytes(&split);
    let position = json!({ "pq_idx": 0, "rg_idx": 2, "epoch": 1 });
    loader
        .load_state(&position)
        .expect("a position of nanochat");
    loader.next_batch().expect("documents");
    let position = loader.position();
    assert_eq!(
        (position.pq_idx, position.rg_idx, position.epoch),
        (1, 0, 1)
    );
}

#[test]
fn position_of_other_data_is_refused() {
    let (dir, other) = (tempfile::tempdir(), tempfile::tempdir());
    let (dir, other) = (dir.expect("a directory"), other.expect("a directory"));
    let mut loader = of_bytes(&corpus(dir.path(), 30));
    loader.next_batch().expect("documents");
    let mut another = of_bytes(&corpus(other.path(), 31));
    let error = another
        .load_state(&loader.state())
        .expect_err("other files");
    assert!(
        error.to_string().contains("belongs to another text"),
        "{error}"
    );
    another
        .load_state(&json!("nothing"))
        .expect_err("no position");
}

#[test]
fn files_without_documents_are_an_error_and_no_endless_loop() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for name in ["a.jsonl", "b.jsonl"] {
        fs::write(dir.path().join(name), "\n\n").expect("written");
    }
    let split = Documents::open(dir.path())
        .expect("files")
        .split()
        .expect("two");
    let error = of_bytes(&split).next_batch().expect_err("nothing to read");
    assert!(error.to_string().contains("no documents"), "{error}");
}
