//! Contents and descriptions of the corpora.

use bdh_data::{Corpus, DataError, DataSpec, NgramBaselines, SHAKESPEARE};
use std::fs;
use std::path::Path;

#[test]
fn default_is_always_the_same_source_of_burn() -> Result<(), DataError> {
    let corpus = DataSpec::default().load()?;
    if corpus.name == "synthetic" {
        eprintln!("skipped: {}", corpus.origin);
        return Ok(());
    }
    assert_eq!(corpus, DataSpec::default().load()?);
    let share = corpus.val_bytes() as f64 / (corpus.train_bytes() + corpus.val_bytes()) as f64;
    assert!(
        corpus.train_bytes() > 2_000_000 && (0.04..0.12).contains(&share),
        "{corpus}"
    );

    let baselines = corpus.ngram_baselines();
    assert!(
        baselines.unigram > baselines.bigram && baselines.bigram > baselines.four_gram,
        "{baselines}"
    );
    assert!((1.5..3.0).contains(&baselines.four_gram), "{baselines}");
    eprintln!("{corpus}\n{baselines}");
    Ok(())
}

#[test]
fn ngram_baselines_of_shakespeare_match_a_python_count() -> Result<(), DataError> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../shared/data/tinyshakespeare.txt"
    );
    let Ok(bytes) = fs::read(path) else {
        eprintln!("skipped: there is no {path}");
        return Ok(());
    };
    SHAKESPEARE.check(bytes, path)?;
    let corpus = Corpus::from_file(Path::new(path))?;
    // nanoGPT's split.
    assert_eq!(
        (corpus.train_bytes(), corpus.val_bytes()),
        (1_003_854, 111_540)
    );
    // Counted in Python over the same split with another smoothing, hence the tolerance.
    let NgramBaselines {
        unigram,
        bigram,
        four_gram,
    } = corpus.ngram_baselines();
    eprintln!("{}", corpus.ngram_baselines());
    for (loss, measured) in [(unigram, 4.834), (bigram, 3.578), (four_gram, 2.565)] {
        assert!(
            (loss - measured).abs() < 0.03,
            "{loss} is not near {measured}"
        );
    }
    Ok(())
}

#[test]
fn directory_uses_text_files_and_names_the_others() -> Result<(), DataError> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().expect("in the directory")).expect("a directory");
        fs::write(path, bytes).expect("a file");
    };
    write("a.txt", b"first");
    write("deep/er/b.md", b"second");
    write("c", "thïrd".as_bytes());
    write("image.png", b"\x89PNG\0\0");
    write("latin1.txt", b"caf\xe9");
    write("empty.txt", b"");
    write(".git/config", b"hidden");
    let corpus = DataSpec::Path(dir.path().to_owned()).load()?;
    let mut texts = [corpus.train.clone(), corpus.val.clone()].concat();
    texts.sort_unstable();
    assert_eq!(texts, ["first", "second", "thïrd"]);
    assert!(!corpus.train.is_empty() && !corpus.val.is_empty());
    let left_out = "3 text files in DIR; left out: \"empty.txt\" (empty), \"image.png\" (it has NUL bytes), \
                    \"latin1.txt\" (not UTF-8 from byte 3 on, perhaps Latin-1)";
    let name = dir.path().display().to_string();
    assert_eq!(corpus.origin, left_out.replace("DIR", &name));
    assert!(corpus.to_string().ends_with("perhaps Latin-1)"), "{corpus}");
    assert_eq!(corpus, DataSpec::Path(dir.path().to_owned()).load()?);
    Ok(())
}

#[test]
fn corpus_prints_on_one_line() -> Result<(), DataError> {
    let line = DataSpec::Synthetic.load()?.to_string();
    assert!(line.starts_with("synthetic · 0.9"), "{line}");
    assert!(
        line.ends_with("a seeded Markov source · true entropy 2.4236 bits per byte"),
        "{line}"
    );
    Ok(())
}

#[test]
fn directory_without_text_lists_and_counts_its_files() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let write = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).expect("a file");
    write("1.gz", b"\x1f\x8b\x08\0");
    write("2.txt", b"\xff\xfeh\0i\0");
    write("3.zip", b"PK\x03\x04\0");
    write("4.zst", b"\x28\xb5\x2f\xfd");
    write("5\u{1b}[2J.txt", b"");
    write("6.txt", b"");
    #[cfg(unix)]
    std::os::unix::fs::symlink("nowhere", dir.path().join("7.txt")).expect("a link");
    let spec = DataSpec::Path(dir.path().to_owned());
    let error = spec.load().expect_err("no text").to_string();
    let expected = "(hidden files do not count); left out: \"1.gz\" (compressed by gzip), \"2.txt\" (UTF-16), \
                    \"3.zip\" (a zip archive), \"4.zst\" (compressed by zstd), \"5\\u{1b}[2J.txt\" (empty) and 2 more";
    assert!(
        error.ends_with(&expected.replace(" and 2", if cfg!(unix) { " and 2" } else { " and 1" })),
        "{error}"
    );
    write("8.txt", b"some text at last");
    let corpus = spec.load().expect("one text");
    assert!(corpus.origin.contains("1 text files in ") && corpus.origin.ends_with(" more"));
}
