//! Data is prepared once, completely or not at all.

use bdh::data::{EvalData, TrainData};
use bdh_data::{Documents, Packing, Prepare, PrepareError, Prepared, Tokenizer, synthetic_shards};
use serde_json::json;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use tempfile::TempDir;

fn scratch() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// Returns a request for numbered documents.
fn request(dir: &Path, documents: usize, packing: Packing) -> Prepare {
    for name in ["a.jsonl", "val.jsonl"] {
        let mut lines = String::new();
        for index in 0..documents {
            let text = format!("{index:05} {}", "word ".repeat(index % 23));
            lines += &format!("{}\n", json!({ "text": text }));
        }
        fs::write(dir.join(name), lines).expect("written");
    }
    Prepare {
        data: Documents::open(dir)
            .expect("JSONL")
            .split()
            .expect("two files"),
        tokenizer: Arc::new(Tokenizer::Bytes),
        seq_len: 32,
        packing,
        seed: 7,
    }
}

fn prepared(request: &Prepare, dir: &Path) -> Prepared {
    request
        .run(dir, &mut |_| {})
        .unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn best_fit_keeps_almost_every_token_and_nanochat_loses_ends() {
    let (data, out) = (scratch(), scratch());
    let request_of = |packing| request(data.path(), 2000, packing);
    let best_fit = prepared(&request_of(Packing::BestFit), &out.path().join("a"));
    let nanochat = prepared(&request_of(Packing::Nanochat), &out.path().join("b"));
    let manifest = best_fit.manifest();
    assert_eq!(
        (manifest.documents, nanochat.manifest().documents),
        (4000, 4000)
    );
    assert!(manifest.text_bytes > 200_000);
    assert!(manifest.dropped_tokens < nanochat.manifest().dropped_tokens);
    assert!(nanochat.manifest().dropped_tokens > 10_000);
    // Half of the text is for training. Each document, and each piece of one, has BOS in addition.
    let kept = manifest.train_tokens() as f64 / (manifest.text_bytes / 2) as f64;
    assert!((0.95..1.1).contains(&kept), "{kept}");
    assert!(nanochat.manifest().train_tokens() < manifest.train_tokens());
}

#[test]
fn the_same_request_gives_the_same_files_and_another_seed_another_order() {
    let (data, out) = (scratch(), scratch());
    let mut request = request(data.path(), 500, Packing::BestFit);
    let first = prepared(&request, &out.path().join("a"));
    let second = prepared(&request, &out.path().join("b"));
    assert_eq!(first.manifest(), second.manifest());
    first
        .manifest()
        .verify(first.dir())
        .expect("the files of the manifest");
    let key = request.key();
    request.seed += 1;
    assert_ne!(key, request.key());
    let third = prepared(&request, &out.path().join("c"));
    assert_ne!(first.manifest().train, third.manifest().train);
    assert_eq!(first.manifest().val, third.manifest().val);
}

#[test]
fn validation_rows_are_the_same_at_every_eval() {
    let (data, out) = (scratch(), scratch());
    let prepared = prepared(&request(data.path(), 500, Packing::BestFit), out.path());
    let eval = prepared.val().eval_batches(2, 32, 640).expect("rows");
    let batches = || -> Vec<_> {
        eval.batches()
            .map(|batch| batch.expect("a batch"))
            .collect()
    };
    assert_eq!(batches().len(), 10);
    assert_eq!(batches(), batches());
}

#[test]
fn several_at_once_prepare_once() {
    let (data, out) = (scratch(), scratch());
    let request = request(data.path(), 1500, Packing::BestFit);
    let worked = std::sync::atomic::AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut has_worked = false;
                request
                    .run(out.path(), &mut |_| has_worked = true)
                    .expect("prepared");
                worked.fetch_add(
                    usize::from(has_worked),
                    std::sync::atomic::Ordering::Relaxed,
                );
            });
        }
    });
    assert_eq!(worked.into_inner(), 1);
}

#[test]
fn another_request_for_the_directory_is_refused_with_both_values() {
    let (data, out) = (scratch(), scratch());
    let mut request = request(data.path(), 100, Packing::BestFit);
    prepared(&request, out.path());
    request.seq_len = 16;
    let error = request
        .run(out.path(), &mut |_| {})
        .expect_err("another length");
    assert!(matches!(error, PrepareError::Other { .. }));
    assert!(error.to_string().contains("rows of 32, not 16"), "{error}");
}

#[test]
fn interrupted_work_is_started_anew() {
    let (data, out) = (scratch(), scratch());
    let request = request(data.path(), 100, Packing::BestFit);
    let complete = prepared(&request, out.path()).manifest().clone();
    fs::remove_file(out.path().join("manifest.json")).expect("removed"); // as if it was never reached
    fs::write(out.path().join(".preparing"), "").expect("written");
    fs::write(out.path().join("train_00000.bin"), "half").expect("written");
    fs::write(out.path().join("train_00001.bin"), "older").expect("written");
    assert!(Prepared::open(out.path()).expect("no manifest").is_none());
    assert_eq!(prepared(&request, out.path()).manifest(), &complete);
    assert!(!out.path().join("train_00001.bin").exists());
}

#[test]
fn shards_of_another_program_are_not_deleted() {
    let (data, out) = (scratch(), scratch());
    let request = request(data.path(), 100, Packing::BestFit);
    let shard = out.path().join("train_00000.bin");
    fs::write(&shard, "of nanochat").expect("written");
    let error = request.run(out.path(), &mut |_| {}).expect_err("not ours");
    assert!(
        error.to_string().contains("such as `train_00000.bin`"),
        "{error}"
    );
    assert_eq!(fs::read(&shard).expect("still there"), b"of nanochat");
}

#[test]
fn failed_work_leaves_no_manifest() {
    let (data, out) = (scratch(), scratch());
    let request = request(data.path(), 3000, Packing::BestFit);
    let path = data.path().join("a.jsonl");
    let mut lines = fs::read_to_string(&path).expect("a file");
    let middle = lines.len() / 2;
    lines.replace_range(middle..=middle, "\n"); // its first and last bytes are the same, so the request fits
    fs::write(&path, lines).expect("written");
    let error = request
        .run(out.path(), &mut |_| {})
        .expect_err("a broken line");
    assert!(error.to_string().contains("of `"), "{error}");
    assert!(!out.path().join("manifest.json").exists());
    assert!(Prepared::open(out.path()).expect("nothing").is_none());
}

#[test]
fn damaged_directories_are_refused() {
    let (data, out) = (scratch(), scratch());
    let prepared = prepared(&request(data.path(), 100, Packing::BestFit), out.path());
    let shard = out.path().join("train_00000.bin");
    let whole = fs::read(&shard).expect("a shard");
    let mut flipped = whole.clone();
    *flipped.last_mut().expect("bytes") ^= 1;
    fs::write(&shard, flipped).expect("written");
    let error = prepared
        .manifest()
        .verify(out.path())
        .expect_err("a flipped bit");
    assert!(error.to_string().contains("train_00000.bin"), "{error}");
    fs::write(&shard, &whole[..whole.len() - 2]).expect("written");
    Prepared::open(out.path()).expect_err("a shard that ends early");
    fs::write(&shard, whole).expect("written");
    Tokenizer::bpe(&["other text".to_owned()], 300)
        .and_then(|tokenizer| tokenizer.save(out.path()))
        .expect("another tokenizer");
    let error = Prepared::open(out.path()).expect_err("another tokenizer");
    assert!(
        error.to_string().contains("its tokenizer is another one"),
        "{error}"
    );
    fs::write(out.path().join("manifest.json"), "{}").expect("written");
    Prepared::open(out.path()).expect_err("no manifest");
}

#[test]
fn too_little_text_and_empty_rows_are_refused() {
    let (data, out) = (scratch(), scratch());
    let mut request = request(data.path(), 2, Packing::Nanochat);
    request.seq_len = 1000;
    let error = request.run(out.path(), &mut |_| {}).expect_err("too short");
    assert!(
        error
            .to_string()
            .contains("do not fill one row of 1001 tokens"),
        "{error}"
    );
    request.seq_len = 0;
    request.run(out.path(), &mut |_| {}).expect_err("no tokens");
}

#[test]
fn synthetic_shards_have_the_tokens_asked_for() {
    let out = scratch();
    let prepared = synthetic_shards(out.path(), 10_000, 500, 64, 1).expect("written");
    assert!((10_000..10_064).contains(&prepared.train().num_tokens()));
    assert!(prepared.manifest().is_synthetic);
    let mut data = prepared.train().batches(4, 64).expect("rows");
    data.next_batch()
        .expect("a batch")
        .check(500)
        .expect("ids of the vocabulary");
    let again = synthetic_shards(out.path(), 10_000, 500, 64, 1).expect("opened");
    assert_eq!(again.manifest(), prepared.manifest());
}
