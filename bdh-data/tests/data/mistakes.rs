//! Each error message contains the wrong value and a suggestion.

use bdh::data::TrainData;
use bdh_data::{DataError, DataSpec, Packed, Tokenizer, passages, val_batches};
use std::fs;
use std::path::Path;

fn error_of(path: &Path) -> String {
    DataSpec::Path(path.to_owned())
        .load()
        .expect_err("a mistake")
        .to_string()
}

#[test]
fn missing_file_is_named() {
    assert_eq!(
        error_of(Path::new("/no/such/file.txt")),
        "cannot read `/no/such/file.txt` (No such file or directory (os error 2)): `--data` takes a text \
         file, a directory, `shakespeare` or `synthetic`"
    );
}

#[test]
fn empty_binary_and_tiny_files_have_different_errors() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("file");
    for (bytes, message) in [
        (&b""[..], "is empty"),
        (b"text\0text", "is not UTF-8 text"),
        (
            b"caf\xe9 au lait",
            "is not UTF-8 text (not UTF-8 from byte 3 on, perhaps Latin-1)",
        ),
        (b"\x1f\x8b\x08\0", "is not UTF-8 text (compressed by gzip)"),
        (b"\xff\xfea\0", "is not UTF-8 text (UTF-16)"),
        (b"x", "has 1 bytes of text, too few"),
    ] {
        fs::write(&file, bytes).expect("a file");
        let error = error_of(&file);
        assert!(
            error.starts_with(&format!("`{}` {message}", file.display())),
            "{error}"
        );
    }
}

#[test]
fn directory_without_text_is_named() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    fs::write(dir.path().join("image.png"), b"\x89PNG\0").expect("a file");
    let error = error_of(dir.path());
    let expected = format!("no UTF-8 text file in `{}`", dir.path().display());
    assert!(error.starts_with(&expected), "{error}");
}

#[test]
fn error_of_short_text_has_the_length_of_a_row() {
    let documents = passages(&Tokenizer::Bytes, &["fifteen letters".to_owned()], 17);
    let error = Packed::new(documents.clone(), 1, 16, 0).expect_err("one id too few");
    assert_eq!(
        error.to_string(),
        "the train text has 16 tokens, and one row of seq_len 16 needs 17: give more text or a \
         smaller `--max-seq-len`"
    );
    let error = val_batches(&documents, 1, 16, 100).expect_err("one id too few");
    assert!(
        error.to_string().starts_with("the val text has 16 tokens"),
        "{error}"
    );
    assert!(Packed::new(documents, 1, 15, 0).is_ok());
}

#[test]
fn empty_batch_is_an_error() {
    let documents = passages(&Tokenizer::Bytes, &["text".to_owned()], 4);
    for (rows, seq_len) in [(0, 2), (2, 0)] {
        let error = Packed::new(documents.clone(), rows, seq_len, 0).expect_err("nothing in it");
        assert!(matches!(error, DataError::EmptyBatch { .. }), "{error}");
        assert!(val_batches(&documents, rows, seq_len, 10).is_err());
    }
}

#[test]
fn vocabulary_smaller_than_all_bytes_is_an_error() {
    let error = Tokenizer::bpe(&["text".to_owned()], 256).expect_err("no room for BOS");
    assert!(
        error
            .to_string()
            .starts_with("a vocabulary of 256 tokens is too small"),
        "{error}"
    );
    let bytes_only = Tokenizer::bpe(&["text".to_owned()], 257).expect("every byte and BOS");
    assert_eq!(bytes_only.vocab_size(), 257);
}

#[test]
fn tokenizer_without_training_text_has_only_bytes() {
    let tokenizer = Tokenizer::bpe(&[], 300).expect("the bytes need no text");
    assert_eq!(
        (
            tokenizer.vocab_size(),
            tokenizer.decode(&tokenizer.encode("é"))
        ),
        (257, "é".into())
    );
}

#[test]
fn file_changed_during_a_run_affects_only_the_resume() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("text");
    let text = "to be, or not to be, that is the question\n".repeat(50);
    fs::write(&path, &text).expect("a file");
    let load = || {
        let corpus = DataSpec::Path(path.clone()).load().expect("a text");
        let documents = passages(&Tokenizer::Bytes, &corpus.train, 17);
        Packed::new(documents, 2, 16, 7).expect("enough for a row")
    };
    let next = |source: &mut Packed| source.next_batch().expect("a batch");
    let (mut undisturbed, mut source) = (load(), load());
    for batch in 0..50 {
        if batch == 5 {
            fs::write(&path, &text[..text.len() / 2]).expect("a shorter file");
        }
        assert_eq!(next(&mut source), next(&mut undisturbed), "batch {batch}");
    }
    let error = load()
        .load_state(&source.state())
        .expect_err("another text")
        .to_string();
    assert_eq!(error, DataError::Position.to_string());
}
