//! Token shards: three formats are read batch for batch, damaged files are refused, and a run resumes exactly.

mod damage;
mod directories;
#[cfg(target_os = "linux")]
mod full_disk;
mod support;
mod writing;

use bdh::data::{EvalData, TrainData};
use bdh::{BoxError, TokenBatch};
use bdh_data::{ShardFormat, TokenShards};
use proptest::prelude::*;
use serde_json::json;
use std::time::{Duration, Instant};
use support::{Home, npy, rows_bytes, stream};

/// Rows of `width` ids that are all different.
fn numbered_rows(rows: usize, width: usize) -> Vec<Vec<i32>> {
    let row = |row: usize| (0..width).map(move |i| (row * width + i) as i32 % 60_000);
    (0..rows).map(|n| row(n).collect()).collect()
}

/// Splits the numbers from 0 on into lists of the given lengths.
fn numbered_streams(lengths: &[usize]) -> Vec<Vec<u16>> {
    let mut next = 0..;
    lengths
        .iter()
        .map(|&len| next.by_ref().take(len).collect())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn rows_come_back_in_their_order_and_continue_with_the_next_epoch(
        shards in prop::collection::vec(0_usize..9, 1..5),
        row_len in 1_usize..6,
        batch in 1_usize..8,
        crop in 0_usize..6,
    ) {
        prop_assume!(shards.iter().sum::<usize>() > 0);
        let rows = numbered_rows(shards.iter().sum(), row_len + 1);
        let seq_len = (row_len - crop.min(row_len - 1)).max(1);
        let home = Home::new();
        let data = home.rows(&rows, &shards);
        prop_assert_eq!(data.num_rows(), Some(rows.len() as u64));
        prop_assert_eq!(data.num_tokens(), (rows.len() * row_len) as u64);
        prop_assert_eq!(data.format(), ShardFormat::Rows);

        let mut batches = data.batches(batch, seq_len).expect("enough rows");
        let mut endless = rows.iter().cycle();
        for _ in 0..2 * rows.len() / batch + 3 {
            let expected: Vec<_> = endless.by_ref().take(batch).map(|row| &row[..=seq_len]).collect();
            prop_assert_eq!(batches.next_batch().expect("a batch"), TokenBatch::from_rows(&expected));
        }
        let per_epoch = rows.len().div_ceil(batch) as u64;
        prop_assert_eq!(batches.batches_per_epoch(), Some(per_epoch));
    }

    #[test]
    fn windows_of_a_stream_are_those_of_build_nanogpt(
        lengths in prop::collection::vec(0_usize..90, 1..5),
        rows in 1_usize..4,
        seq_len in 1_usize..9,
        is_npy in any::<bool>(),
    ) {
        let span = rows * seq_len;
        prop_assume!(lengths.iter().any(|&len| len > span));
        let streams = numbered_streams(&lengths);
        let home = Home::new();
        let data = home.streams(&streams, is_npy);
        prop_assert_eq!(data.num_tokens(), lengths.iter().sum::<usize>() as u64);
        let mut batches = data.batches(rows, seq_len).expect("one is long enough");
        let per_epoch: usize = lengths.iter().map(|len| len.saturating_sub(1) / span).sum();
        prop_assert_eq!(batches.batches_per_epoch(), Some(per_epoch as u64));
        let (mut shard, mut place) = (0, 0);
        for _ in 0..=2 * per_epoch {
            while place + span + 1 > streams[shard].len() {
                (shard, place) = ((shard + 1) % streams.len(), 0);
            }
            let ids: Vec<i32> = streams[shard][place..=place + span].iter().map(|&id| id.into()).collect();
            let expected: Vec<_> = (0..rows).map(|row| &ids[row * seq_len..=(row + 1) * seq_len]).collect();
            prop_assert_eq!(batches.next_batch().expect("a batch"), TokenBatch::from_rows(&expected));
            place += span;
        }
    }

    #[test]
    fn a_resumed_run_sees_the_batches_that_followed(
        before in 0_usize..40,
        rows in 1_usize..4,
        format in 0_usize..3,
    ) {
        let home = Home::new();
        let data = match format {
            0 => home.rows(&numbered_rows(11, 5), &[4, 0, 7]),
            format => home.streams(&numbered_streams(&[30, 5, 47]), format == 1),
        };
        let mut whole = data.batches(rows, 4).expect("enough");
        for _ in 0..before {
            whole.next_batch().expect("a batch");
        }
        let saved = whole.state().to_string();
        prop_assert!(saved.len() < 200, "{}", saved);

        let mut resumed = data.batches(rows, 4).expect("enough");
        resumed.next_batch().expect("a batch"); // a loaded state replaces the position
        resumed.load_state(&serde_json::from_str(&saved).expect("JSON")).expect("the same data");
        for _ in 0..30 {
            prop_assert_eq!(resumed.next_batch().expect("a batch"), whole.next_batch().expect("a batch"));
        }
        prop_assert_eq!(resumed.state(), whole.state());
    }
}

#[test]
fn an_eval_has_the_first_batches_every_time() -> Result<(), BoxError> {
    let home = Home::new();
    let rows = numbered_rows(11, 5);
    let data = home.rows(&rows, &[5, 6]);
    let read = |tokens| -> Result<Vec<TokenBatch>, BoxError> {
        let eval = data.eval_batches(2, 4, tokens)?;
        let first: Result<Vec<_>, _> = eval.batches().collect();
        let (first, again) = (first?, eval.batches().collect::<Result<Vec<_>, _>>()?);
        assert_eq!(first, again);
        assert_eq!(eval.num_batches(), Some(first.len()));
        Ok(first)
    };
    let all: Vec<_> = rows.chunks_exact(2).map(TokenBatch::from_rows).collect();
    assert_eq!(read(usize::MAX)?, all, "the last row does not fill a batch");
    assert_eq!(read(3 * 8 + 7)?, all[..3]);
    assert_eq!(read(0)?, all[..1]);
    Ok(())
}

#[test]
fn an_eval_of_little_data_has_one_batch_of_fewer_rows() -> Result<(), BoxError> {
    let home = Home::new();
    let rows = numbered_rows(3, 5);
    let eval = home.rows(&rows, &[3]).eval_batches(8, 4, usize::MAX)?;
    let batches: Result<Vec<_>, _> = eval.batches().collect();
    assert_eq!(batches?, [TokenBatch::from_rows(&rows)]);

    let home = Home::new();
    let data = home.streams(&numbered_streams(&[3, 12]), true);
    let batches: Result<Vec<_>, _> = data.eval_batches(8, 4, usize::MAX)?.batches().collect();
    let expected: Vec<_> = [3, 7]
        .map(|start| (start..=start + 4).collect::<Vec<i32>>())
        .into();
    assert_eq!(batches?, [TokenBatch::from_rows(&expected)]);
    let error = data
        .eval_batches(1, 12, 1)
        .expect_err("12 tokens")
        .to_string();
    assert!(
        error.contains("has 12 tokens, and one batch needs 13"),
        "{error}"
    );
    Ok(())
}

#[test]
fn ignored_targets_are_read_as_such() -> Result<(), BoxError> {
    let home = Home::new();
    let bytes = rows_bytes([2, 2, 10, 7], &[1, 2, 3, 4], &[2, 65_535, 65_535, 5]);
    let data = TokenShards::open([home.write("train_0.bin", &bytes)])?;
    let batch = data.batches(2, 2)?.next_batch()?;
    let none = TokenBatch::IGNORED;
    let expected = TokenBatch::from_ids(vec![1, 2, 3, 4], vec![2, none, none, 5], 2);
    assert_eq!(batch, expected);
    assert_eq!(
        (data.vocab_size(), data.tokenizer_id()),
        (Some(10), Some(7))
    );
    Ok(())
}

#[test]
fn ids_beyond_the_vocabulary_are_refused_with_their_place() -> Result<(), BoxError> {
    let home = Home::new();
    let fine = rows_bytes([2, 1, 10, 0], &[1, 2], &[2, 3]);
    for (inputs, targets, id) in [
        ([9, 10], [9, 9], 10),
        ([65_535, 1], [9, 9], 65_535),
        ([1, 2], [2, 11], 11),
    ] {
        let inputs = [&[0; 4][..], &inputs].concat();
        let targets = [&[0; 4][..], &targets].concat();
        let wrong = rows_bytes([2, 3, 10, 0], &inputs, &targets);
        let paths = [
            home.write("train_0.bin", &fine),
            home.write("train_1.bin", &wrong),
        ];
        let mut batches = TokenShards::open(paths)?.batches(4, 2)?;
        let error = batches.next_batch().expect_err("an unknown id").to_string();
        let expected = format!(
            "train_1.bin` has the token id {id} in row 2, and its vocabulary has the ids 0 to 9"
        );
        assert!(error.contains(&expected), "{error}");
    }
    Ok(())
}

#[test]
fn sizes_of_batches_that_cannot_be_are_refused() {
    let home = Home::new();
    let data = home.rows(&numbered_rows(3, 5), &[3]);
    for (rows, seq_len) in [(0, 4), (1, 0), (usize::MAX, 2), (1 << 30, 4)] {
        let error = data
            .batches(rows, seq_len)
            .expect_err("no batch")
            .to_string();
        assert!(error.contains("cannot be made"), "{error}");
    }
    let error = data
        .eval_batches(1, 5, 1)
        .expect_err("too long")
        .to_string();
    assert!(
        error.contains("have 4 tokens, fewer than seq_len 5"),
        "{error}"
    );
    let empty = home.rows(&[], &[0]);
    assert!(empty.batches(1, 4).is_err() && empty.eval_batches(1, 4, 1).is_err());
}

#[test]
fn positions_of_other_data_are_refused() -> Result<(), BoxError> {
    let (home, other) = (Home::new(), Home::new());
    let data = home.rows(&numbered_rows(3, 5), &[3]);
    let mut batches = data.batches(1, 4)?;
    batches.next_batch()?;
    let state = batches.state();
    assert_eq!((&state["epoch"], &state["row"]), (&json!(0), &json!(1)));

    let copy = other.rows(&numbered_rows(3, 5), &[3]);
    copy.batches(1, 4)?.load_state(&state)?;
    assert_eq!(copy.identity(), data.identity());
    let mut changed = numbered_rows(3, 5);
    changed[2][1] += 1;
    let changed = Home::new().rows(&changed, &[3]);
    assert_ne!(changed.identity(), data.identity());
    let stream = Home::new().streams(&numbered_streams(&[30]), false);
    for other in [&changed, &stream] {
        let error = other
            .batches(1, 4)?
            .load_state(&state)
            .expect_err("other data");
        assert!(
            error.to_string().contains("belongs to other token shards"),
            "{error}"
        );
    }
    for wrong in [json!(null), json!({ "epoch": 0, "data": state["data"] })] {
        assert!(data.batches(1, 4)?.load_state(&wrong).is_err());
    }
    let mut late = state.clone();
    late["row"] = json!(4);
    let error = data.batches(1, 4)?.load_state(&late).expect_err("too late");
    assert!(
        error.to_string().contains("row 4, is behind the end"),
        "{error}"
    );
    let token = json!({ "epoch": 0, "shard": 1, "token": 0, "data": stream.batches(1, 4)?.state()["data"] });
    let error = stream
        .batches(1, 4)?
        .load_state(&token)
        .expect_err("one shard");
    assert!(error.to_string().contains("token 0 of shard 1"), "{error}");
    Ok(())
}

#[test]
fn a_position_does_not_depend_on_the_size_of_the_batches() -> Result<(), BoxError> {
    let home = Home::new();
    let rows = numbered_rows(5, 5);
    let data = home.rows(&rows, &[2, 3]);
    let mut pairs = data.batches(2, 4)?;
    pairs.next_batch()?;
    let mut single = data.batches(1, 3)?;
    single.load_state(&pairs.state())?;
    assert_eq!(
        single.next_batch()?,
        TokenBatch::from_rows(&[&rows[2][..4]])
    );
    Ok(())
}

#[test]
fn a_thousand_shards_of_a_billion_tokens_open_at_once() -> Result<(), BoxError> {
    let home = Home::new();
    let mut paths = Vec::new();
    for shard in 0..1000 {
        let path = home.write(&format!("train_{shard:05}.bin"), &stream(&[]));
        let mut header = std::fs::read(&path)?;
        header[8..12].copy_from_slice(&1_300_000_i32.to_le_bytes());
        std::fs::write(&path, &header)?;
        let file = std::fs::OpenOptions::new().write(true).open(&path)?;
        file.set_len(1024 + 2 * 1_300_000)?; // without blocks on the disk
        paths.push(path);
    }
    let started = Instant::now();
    let data = TokenShards::open(paths)?;
    let batch = data.batches(8, 1024)?.next_batch()?;
    let seconds = started.elapsed();
    assert_eq!((data.num_tokens(), batch.tokens()), (1_300_000_000, 8192));
    // About 0.05 s; the bound leaves room for a busy machine.
    assert!(seconds < Duration::from_secs(5), "{seconds:?}");
    Ok(())
}

#[test]
fn streams_of_both_formats_have_the_same_batches() -> Result<(), BoxError> {
    let home = Home::new();
    let ids: Vec<u16> = (0..100).map(|i| i * 655).collect();
    let bin = TokenShards::open([home.write("a_train_1.bin", &stream(&ids))])?;
    let npy = TokenShards::open([home.write("a_train_1.npy", &npy(&ids))])?;
    assert_eq!(
        (bin.format(), npy.format()),
        (ShardFormat::Stream, ShardFormat::Npy)
    );
    assert_eq!(
        (bin.num_rows(), bin.vocab_size(), bin.row_len()),
        (None, None, None)
    );
    assert_eq!(
        bin.batches(3, 11)?.next_batch()?,
        npy.batches(3, 11)?.next_batch()?
    );
    Ok(())
}
