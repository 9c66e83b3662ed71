//! Shards of a directory are found by their names and their first bytes.

use super::support::{Home, npy, rows_bytes, stream};
use bdh::BoxError;
use bdh_data::{ShardFormat, TokenShards};

fn rows(row_len: i32, vocab_size: i32) -> Vec<u8> {
    let ids = vec![1; row_len as usize];
    rows_bytes([row_len, 1, vocab_size, 0], &ids, &ids)
}

fn refusal(home: &Home) -> String {
    TokenShards::of_dir(home.path())
        .expect_err("refused")
        .to_string()
}

#[test]
fn names_and_headers_decide_what_a_file_is() -> Result<(), BoxError> {
    let home = Home::new();
    home.write("train_00001.bin", &rows(4, 9));
    home.write("train_00000.bin", &rows(4, 9));
    home.write("val_00000.bin", &rows(4, 9));
    home.write("shard_00000.parquet", b"PAR1");
    home.write("train_other.bin", b"weights");
    home.write("data.bin", &rows(4, 9));
    home.write(".train_00002.bin.7-0.tmp", b"");
    std::fs::create_dir(home.path().join("tokenizer"))?;
    let split = TokenShards::of_dir(home.path())?.ok_or("shards")?;
    assert_eq!(split.train.num_rows(), Some(2));
    assert_eq!(split.val.ok_or("a validation split")?.num_rows(), Some(1));
    assert_eq!(
        split.left_out.to_string(),
        "; left out: \"data.bin\" (a token shard with neither `train` nor `val` in its name), \
         \"shard_00000.parquet\" (not a token shard), \
         \"train_other.bin\" (not a token shard: its magic is 1734960503)"
    );
    Ok(())
}

#[test]
fn directories_of_build_nanogpt_and_modded_nanogpt_are_read() -> Result<(), BoxError> {
    let (edu, modded) = (Home::new(), Home::new());
    edu.write("edufineweb_val_000000.npy", &npy(&[1, 2, 3]));
    edu.write("edufineweb_train_000001.npy", &npy(&[1, 2, 3, 4]));
    modded.write("fineweb_val_000000.bin", &stream(&[1, 2, 3]));
    modded.write("fineweb_train_000001.bin", &stream(&[1, 2, 3, 4]));
    for (home, format) in [(&edu, ShardFormat::Npy), (&modded, ShardFormat::Stream)] {
        let split = TokenShards::of_dir(home.path())?.ok_or("shards")?;
        assert_eq!(
            (split.train.format(), split.train.num_tokens()),
            (format, 4)
        );
        assert_eq!(split.val.ok_or("a validation split")?.num_tokens(), 3);
        assert_eq!(split.left_out.to_string(), "");
    }
    Ok(())
}

#[test]
fn a_directory_without_shards_is_none() -> Result<(), BoxError> {
    let home = Home::new();
    home.write("book_train_1.txt", b"text");
    home.write("train.bin", b"ids without a header");
    assert!(TokenShards::of_dir(home.path())?.is_none());
    assert!(TokenShards::of_dir(&home.path().join("missing")).is_err());
    Ok(())
}

#[test]
fn shards_that_do_not_belong_together_are_refused_by_name() {
    let mixed = Home::new();
    mixed.write("a_train_0.bin", &stream(&[1, 2]));
    mixed.write("a_train_1.npy", &npy(&[1, 2]));
    let text = refusal(&mixed);
    assert!(
        text.contains("a_train_0.bin` has the format stream"),
        "{text}"
    );
    assert!(text.contains("a_train_1.npy` has the format npy"), "{text}");

    let lengths = Home::new();
    lengths.write("train_0.bin", &rows(4, 9));
    lengths.write("train_1.bin", &rows(5, 9));
    let text = refusal(&lengths);
    assert!(
        text.contains("has row_len 4") && text.contains("has row_len 5"),
        "{text}"
    );

    let tokenizers = Home::new();
    tokenizers.write("train_0.bin", &rows(4, 9));
    tokenizers.write("val_0.bin", &rows(4, 8));
    let text = refusal(&tokenizers);
    assert!(
        text.contains("has vocab_size 9") && text.contains("has vocab_size 8"),
        "{text}"
    );
}

#[test]
fn a_damaged_shard_and_a_missing_training_split_are_errors() {
    let damaged = Home::new();
    damaged.write("train_0.bin", &rows(4, 9));
    damaged.write("train_1.bin", &rows(4, 9)[..260]);
    let text = refusal(&damaged);
    assert!(
        text.contains("train_1.bin` has 260 bytes, and its header says 272"),
        "{text}"
    );

    let val = Home::new();
    val.write("val_0.bin", &rows(4, 9));
    let text = refusal(&val);
    assert!(
        text.contains("are all of the validation split, such as `val_0.bin`"),
        "{text}"
    );
}
