//! The corpora are what they say they are.

use bdh_examples::data::{Corpus, DataError, DataSpec, Levels, SHAKESPEARE};
use std::fs;
use std::path::Path;

#[test]
fn the_default_is_the_source_of_burn_and_the_same_every_time() -> Result<(), DataError> {
    let corpus = DataSpec::default().load()?;
    if corpus.name == "synthetic" {
        eprintln!("skipped: {}", corpus.origin);
        return Ok(());
    }
    assert_eq!(corpus, DataSpec::default().load()?);
    let share = corpus.val_bytes() as f64 / (corpus.train_bytes() + corpus.val_bytes()) as f64;
    assert!(corpus.train_bytes() > 2_000_000 && (0.04..0.12).contains(&share), "{corpus}");

    let levels = corpus.levels();
    assert!(levels.unigram > levels.bigram && levels.bigram > levels.four_gram, "{levels}");
    assert!((1.5..3.0).contains(&levels.four_gram), "{levels}");
    eprintln!("{corpus}\n{levels}");
    Ok(())
}

#[test]
fn levels_of_shakespeare_are_those_measured_elsewhere() -> Result<(), DataError> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/tinyshakespeare.txt");
    let Ok(bytes) = fs::read(path) else {
        eprintln!("skipped: there is no {path}");
        return Ok(());
    };
    SHAKESPEARE.check(bytes, path)?;
    let corpus = Corpus::from_file(Path::new(path))?;
    // nanoGPT's split.
    assert_eq!((corpus.train_bytes(), corpus.val_bytes()), (1_003_854, 111_540));
    // Counted in Python over the same split with another smoothing, hence the tolerance.
    let Levels { unigram, bigram, four_gram } = corpus.levels();
    eprintln!("{}", corpus.levels());
    for (level, measured) in [(unigram, 4.834), (bigram, 3.578), (four_gram, 2.565)] {
        assert!((level - measured).abs() < 0.03, "{level} is not near {measured}");
    }
    Ok(())
}

#[test]
fn a_directory_gives_its_text_files_and_passes_over_the_rest() -> Result<(), DataError> {
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
    assert_eq!(corpus, DataSpec::Path(dir.path().to_owned()).load()?);
    Ok(())
}

#[test]
fn a_corpus_introduces_itself_in_one_line() -> Result<(), DataError> {
    let line = DataSpec::Synthetic.load()?.to_string();
    assert!(line.starts_with("synthetic · 0.9"), "{line}");
    assert!(line.ends_with("a seeded Markov source · true entropy 2.4236 bits per byte"), "{line}");
    Ok(())
}
