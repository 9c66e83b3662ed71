//! Files that are no complete shard.

use super::support::{Home, npy, rows_bytes, stream};
use bdh::BoxError;
use bdh::data::TrainData;
use bdh_data::{ShardError, TokenShards};
use std::fs;
use std::path::PathBuf;

fn error_of(path: PathBuf) -> ShardError {
    TokenShards::open([path]).expect_err("damaged")
}

/// One small shard of each format.
fn whole() -> [(&'static str, Vec<u8>); 3] {
    let rows = rows_bytes([2, 2, 10, 0], &[1, 2, 3, 4], &[2, 3, 4, 5]);
    [
        ("train_0.bin", rows),
        ("a_train_0.bin", stream(&[1, 2, 3, 4, 5])),
        ("a_train_0.npy", npy(&[1, 2, 3, 4, 5])),
    ]
}

#[test]
fn a_shard_that_ends_early_is_refused_wherever_it_ends() {
    let home = Home::new();
    for (name, bytes) in whole() {
        let expected = bytes.len();
        for len in 0..expected {
            let error = error_of(home.write(name, &bytes[..len]));
            let text = error.to_string();
            assert!(text.contains(name), "{text}");
            if let ShardError::Length { .. } = error {
                let sizes = format!("has {len} bytes, and its header says {expected}");
                assert!(text.contains(&sizes), "{text}");
            }
        }
        let error = error_of(home.write(name, &bytes[..expected - 1]));
        assert!(matches!(error, ShardError::Length { .. }), "{error}");
        TokenShards::open([home.write(name, &bytes)]).expect("a whole shard");
    }
}

#[test]
fn a_shard_that_is_too_long_is_refused_with_both_sizes() {
    let home = Home::new();
    for (name, mut bytes) in whole() {
        let expected = bytes.len();
        bytes.push(0);
        let text = error_of(home.write(name, &bytes)).to_string();
        let sizes = format!("has {} bytes, and its header says {expected}", expected + 1);
        assert!(text.contains(&sizes), "{text}");
    }
}

#[test]
fn a_wrong_magic_is_refused_with_the_formats_that_are_known() {
    let home = Home::new();
    let mut bytes = stream(&[1, 2, 3]);
    bytes[..4].copy_from_slice(&20_240_801_i32.to_le_bytes()); // llm.c's ids of four bytes
    let path = home.write("train_0.bin", &bytes);
    assert_eq!(
        error_of(path.clone()).to_string(),
        format!(
            "`{}` is not a token shard (its magic is 20240801): known are rows (magic 20260902), streams (magic \
             20240520) and `.npy` files (uint16, one dimension)",
            path.display()
        )
    );
    let text = error_of(home.write("train_1.bin", b"abc")).to_string();
    assert!(text.contains("(it has 3 bytes)"), "{text}");
}

#[test]
fn a_shard_that_changes_during_the_run_is_an_error() -> Result<(), BoxError> {
    let home = Home::new();
    let first = home.write("a_train_0.bin", &stream(&[1, 2, 3]));
    let second = home.write("a_train_1.bin", &stream(&[4, 5, 6, 7]));
    let mut batches = TokenShards::open([first, second.clone()])?.batches(1, 2)?;
    batches.next_batch()?;
    fs::write(&second, stream(&[4, 5, 6]))?;
    let error = batches.next_batch().expect_err("changed").to_string();
    assert!(
        error.contains("it had 1032 bytes at first, and has 1030 now"),
        "{error}"
    );
    fs::write(&second, stream(&[4, 5, 6, 7]))?;
    assert_eq!(
        batches.next_batch()?.targets(),
        [5, 6],
        "the failed batch comes again"
    );
    Ok(())
}

#[test]
fn missing_files_directories_and_empty_lists_are_refused() {
    let home = Home::new();
    let text = error_of(home.path().join("no_train_0.bin")).to_string();
    assert!(
        text.contains("cannot read `") && text.contains("no_train_0.bin"),
        "{text}"
    );
    let text = error_of(home.path().to_owned()).to_string();
    assert!(text.contains("it is not a regular file"), "{text}");
    let none = TokenShards::open([]).expect_err("none").to_string();
    assert_eq!(none, "no token shard was given: name at least one file");
}
