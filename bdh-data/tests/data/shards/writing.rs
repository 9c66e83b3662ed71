//! Shards appear under their names when they are complete, or not at all.

use super::support::{Home, header, rows_bytes};
use bdh::BoxError;
use bdh_data::{RowHeader, RowWriter, TokenShards};
use std::fs;

#[test]
fn a_shard_has_exactly_the_bytes_of_the_format() -> Result<(), BoxError> {
    let home = Home::new();
    let path = home.path().join("train_00000.bin");
    let settings = RowHeader {
        row_len: 2,
        vocab_size: 1000,
        tokenizer_id: 77,
    };
    let mut writer = RowWriter::create(&path, settings)?;
    writer.push(&[1, 258, 999])?;
    writer.push(&[0, 4, 5])?;
    assert_eq!(writer.finish()?, 2);
    let bytes = fs::read(&path)?;
    let start = [
        0x26, 0x28, 0x35, 0x01, 1, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 0xe8, 3, 0, 0, 77, 0, 0, 0,
    ];
    assert_eq!(bytes[..24], start);
    assert_eq!(bytes[24..256], [0; 232]);
    assert_eq!(bytes[256..264], [1, 0, 2, 1, 0, 0, 4, 0], "inputs");
    assert_eq!(bytes[264..], [2, 1, 0xe7, 3, 4, 0, 5, 0], "targets");
    assert_eq!(
        bytes,
        rows_bytes([2, 2, 1000, 77], &[1, 258, 0, 4], &[258, 999, 4, 5])
    );
    assert_eq!(home.names(), ["train_00000.bin"]);
    Ok(())
}

#[test]
fn headers_and_rows_that_do_not_fit_are_refused() -> Result<(), BoxError> {
    let home = Home::new();
    let path = home.path().join("train_0.bin");
    let refusal = |row_len, vocab_size| {
        let settings = RowHeader {
            row_len,
            vocab_size,
            tokenizer_id: 0,
        };
        RowWriter::create(&path, settings)
            .expect_err("refused")
            .to_string()
    };
    assert!(refusal(2, 65_536).contains("a vocabulary of 65536 tokens cannot be written"));
    assert!(refusal(2, 0).contains("a vocabulary of 0 tokens"));
    assert!(refusal(0, 10).contains("rows of 0 tokens cannot be written"));

    let mut writer = RowWriter::create(&path, header(2))?;
    let mut refusal = |row: &[i32]| writer.push(row).expect_err("refused").to_string();
    assert!(refusal(&[1, 2]).contains("a row has 2 ids, and the shard needs 3"));
    assert!(refusal(&[1, 2, 60_000]).contains("the token id 60000, outside of the vocabulary"));
    assert!(refusal(&[1, -1, 2]).contains("the token id -1"));
    assert_eq!(writer.finish()?, 0, "refused rows are not written");
    assert_eq!(TokenShards::open([path])?.num_rows(), Some(0));
    Ok(())
}

#[test]
fn a_dropped_writer_leaves_nothing_and_keeps_what_was_there() -> Result<(), BoxError> {
    let home = Home::new();
    let path = home.write("train_0.bin", b"old");
    let mut writer = RowWriter::create(&path, header(2))?;
    writer.push(&[1, 2, 3])?;
    assert_eq!(home.names().len(), 3);
    drop(writer);
    assert_eq!(home.names(), ["train_0.bin"]);
    assert_eq!(fs::read(&path)?, b"old");
    Ok(())
}

#[test]
fn writers_of_one_name_do_not_disturb_each_other() -> Result<(), BoxError> {
    let home = Home::new();
    let path = home.path().join("train_0.bin");
    let mut one = RowWriter::create(&path, header(2))?;
    let mut two = RowWriter::create(&path, header(2))?;
    one.push(&[1, 2, 3])?;
    two.push(&[4, 5, 6])?;
    two.push(&[4, 5, 6])?;
    one.finish()?;
    assert_eq!(TokenShards::open([path.clone()])?.num_rows(), Some(1));
    two.finish()?;
    assert_eq!(TokenShards::open([path])?.num_rows(), Some(2));
    assert_eq!(home.names(), ["train_0.bin"]);
    Ok(())
}

#[test]
fn a_directory_that_vanishes_is_an_error() -> Result<(), BoxError> {
    let home = Home::new();
    let dir = home.path().join("data");
    let path = dir.join("train_0.bin");
    let error = RowWriter::create(&path, header(2))
        .expect_err("no directory")
        .to_string();
    assert!(
        error.contains("cannot write `") && error.contains("train_0.bin"),
        "{error}"
    );
    fs::create_dir(&dir)?;
    let mut writer = RowWriter::create(&path, header(2))?;
    writer.push(&[1, 2, 3])?;
    fs::remove_dir_all(&dir)?;
    let error = writer.finish().expect_err("no directory").to_string();
    assert!(error.contains("train_0.bin"), "{error}");
    assert!(!dir.exists());
    Ok(())
}
