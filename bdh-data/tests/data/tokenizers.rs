//! Tokenizers decode to the original text, and know the bytes of each id.

use crate::homes::{Home, ids};
use bdh_data::{Tokenizer, read_token_bytes};
use proptest::prelude::*;
use serde_json::{Map, Value};
use std::fs;
use std::path::Path;
use std::sync::LazyLock;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

static BPE: LazyLock<Tokenizer> = LazyLock::new(|| trained(320));

fn trained(vocab_size: usize) -> Tokenizer {
    let text = "It is a truth universally acknowledged, that a single man in possession of a good \
                fortune, must be in want of a wife.\n\n1813: for (i, x) in xs { sum += x; }\n";
    Tokenizer::bpe(&vec![text.repeat(20); 3], vocab_size).expect("text to train on")
}

proptest! {
    #[test]
    fn decoding_restores_any_string(text in any::<String>(), words in "[a-z0-9' \n\t]{0,80}") {
        for text in [text, words] {
            for tokenizer in [&Tokenizer::Bytes, &*BPE] {
                let ids = tokenizer.encode(&text);
                prop_assert_eq!(tokenizer.decode(&ids), text.as_str());
                let bytes = tokenizer.token_bytes();
                let total: u32 = ids.iter().map(|&id| bytes[id as usize]).sum();
                prop_assert_eq!(total as usize, text.len());
                prop_assert!(ids.iter().all(|&id| id < tokenizer.bos()));
            }
        }
    }
}

#[test]
fn bos_is_the_last_id_and_has_no_text() {
    for tokenizer in [&Tokenizer::Bytes, &*BPE] {
        assert_eq!(tokenizer.bos() as usize, tokenizer.vocab_size() - 1);
        assert_eq!(tokenizer.token_bytes().len(), tokenizer.vocab_size());
        assert_eq!(tokenizer.token_bytes().last(), Some(&0));
        assert_eq!(tokenizer.decode(&[tokenizer.bos(), -1, i32::MAX]), "");
    }
}

#[test]
fn bpe_has_the_requested_size_and_shortens_text() {
    assert_eq!(BPE.vocab_size(), 320);
    assert!(trained(10_000).vocab_size() < 400); // nothing is left to merge
    let text = "a single man in want of a good wife";
    assert!(BPE.encode(text).len() * 2 < text.len());
    assert_eq!(BPE.encode_all(&[text.to_owned()]), [BPE.encode(text)]);
}

#[test]
fn training_twice_gives_the_same_ids() {
    let again = trained(320);
    assert_eq!(again.token_bytes(), BPE.token_bytes());
    for text in ["universally acknowledged", "sum += x; 1813", "\u{1F980} né"] {
        assert_eq!(again.encode(text), BPE.encode(text));
    }
}

#[test]
fn text_is_split_like_in_nanochat() {
    // Merges do not cross pieces: numbers come in pairs of digits, a word takes the space before it.
    let text = vec!["2024 2024 hello hello".repeat(50)];
    let tokenizer = Tokenizer::bpe(&text, 1000).expect("text to train on");
    let pieces: Vec<_> = tokenizer
        .encode("2024 hello")
        .iter()
        .map(|&id| tokenizer.decode(&[id]))
        .collect();
    assert_eq!(pieces, ["20", "24", " hello"]);
}

#[test]
fn bos_written_in_a_text_is_text() {
    let ids = BPE.encode("<|bos|>");
    assert!(ids.len() > 1 && !ids.contains(&BPE.bos()));
}

/// Letters without a space.
fn unbroken(bytes: usize) -> String {
    let mut state = 1_u64;
    let mut letter = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        char::from(b'a' + (state >> 59) as u8 % 4)
    };
    (0..bytes).map(|_| letter()).collect()
}

#[test]
fn tokenizer_trains_on_text_without_spaces() {
    for bytes in [400_000, 2_000_000] {
        let text = vec![unbroken(bytes)]; // without cuts 21 seconds, and hours
        let tokenizer = Tokenizer::bpe(&text, 300).expect("text to train on");
        let ids = tokenizer.encode(&text[0]);
        assert!(ids.len() * 2 < text[0].len());
        assert_eq!(tokenizer.decode(&ids), text[0]);
    }
}

#[test]
fn progress_has_the_bytes_that_were_read() {
    let mut seen = Vec::new();
    let texts = ["abc ", "dé "].map(str::to_owned).into_iter();
    let trained = Tokenizer::train(texts, 260, |training| seen.push(training.bytes));
    assert_eq!(trained.expect("text to train on").vocab_size(), 260);
    assert_eq!(seen, [4, 8]);
}

#[test]
fn token_is_never_longer_than_a_piece() {
    let tokenizer = Tokenizer::bpe(&["a".repeat(100_000)], 1_000).expect("text to train on");
    let longest = tokenizer.token_bytes().into_iter().max();
    assert_eq!(longest, Some(256));
    for text in ["é".repeat(3_000), " ".repeat(70_000), "!?".repeat(3_000)] {
        assert_eq!(tokenizer.decode(&tokenizer.encode(&text)), text);
    }
}

#[test]
fn tokenizer_of_nanochat_gives_the_ids_of_the_original() {
    for home in Home::all() {
        let tokenizer = home.tokenizer();
        let expected = &home.expected;
        assert_eq!(i64::from(tokenizer.bos()), expected["bos"]);
        assert_eq!(tokenizer.vocab_size() as u64, expected["vocab"]);
        for pair in expected["strings"].as_array().expect("a list") {
            let text = pair[0].as_str().expect("a text");
            assert_eq!(tokenizer.encode(text), ids(&pair[1]), "{text:?}");
            assert_eq!(tokenizer.decode(&ids(&pair[1])), text);
        }
        for name in expected["special"].as_array().expect("a list") {
            let id = tokenizer
                .special(name.as_str().expect("a name"))
                .expect("a special token");
            assert_eq!(tokenizer.decode(&[id]), "");
        }
        let bytes: Vec<_> = ids(&expected["token_bytes"])
            .into_iter()
            .map(i32::cast_unsigned)
            .collect();
        assert_eq!(tokenizer.token_bytes(), bytes);
        let table = home.dir.join("tokenizer/token_bytes.pt");
        assert_eq!(read_token_bytes(&table).expect("a table"), bytes);
    }
}

#[test]
fn saved_tokenizers_are_loaded_with_the_same_ids() {
    let mut tokenizers = vec![Tokenizer::Bytes, BPE.clone()];
    tokenizers.extend(Home::all().iter().map(Home::tokenizer));
    for tokenizer in tokenizers {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = tokenizer.save(dir.path()).expect("saved");
        let loaded = Tokenizer::load(&path).expect("loaded");
        assert_eq!(loaded.id(), tokenizer.id());
        assert_eq!(loaded.bos(), tokenizer.bos());
        assert_eq!(loaded.token_bytes(), tokenizer.token_bytes());
        let text = "universally acknowledged 1813 né \u{1F980}";
        assert_eq!(loaded.encode(text), tokenizer.encode(text));
        assert_eq!(
            Tokenizer::load(dir.path()).expect("loaded").id(),
            tokenizer.id()
        );
    }
    assert_ne!(Tokenizer::Bytes.id(), BPE.id());
    assert_ne!(trained(300).id(), BPE.id());
}

#[test]
fn tokenizer_written_for_nanochat_is_read_back() {
    for home in Home::all() {
        let tokenizer = home.tokenizer();
        let dir = tempfile::tempdir().expect("a temporary directory");
        tokenizer.save_nanochat(dir.path()).expect("written");
        let again = Tokenizer::load(dir.path()).expect("read");
        assert_eq!(again.id(), tokenizer.id());
        let table = read_token_bytes(&dir.path().join("token_bytes.pt")).expect("a table");
        assert_eq!(table, tokenizer.token_bytes());
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let error = BPE
        .save_nanochat(dir.path())
        .expect_err("it has BOS only")
        .to_string();
    assert!(error.contains("<|user_start|>"), "{error}");
}

#[test]
fn table_of_another_tokenizer_beside_the_pickle_is_refused() {
    for home in Home::all() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        home.tokenizer().save_nanochat(dir.path()).expect("written");
        let table = dir.path().join("token_bytes.pt");
        let mut bytes = fs::read(&table).expect("a table");
        // The first length of the table, 1, in a stored archive.
        let place = bytes
            .windows(12)
            .position(|part| part == [1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]);
        bytes[place.expect("lengths of bytes")] = 2;
        fs::write(&table, bytes).expect("written");
        let error = Tokenizer::load(dir.path())
            .expect_err("another table")
            .to_string();
        assert!(error.contains("token_bytes.pt"), "{error}");
    }
}

#[test]
fn pickle_that_names_a_function_is_refused_and_not_run() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("tokenizer.pkl");
    let witness = dir.path().join("witness");
    let command = format!("touch {}", witness.display());
    let mut pickle = b"cposix\nsystem\n(X".to_vec();
    pickle.extend((command.len() as u32).to_le_bytes());
    pickle.extend(command.as_bytes());
    pickle.extend(b"tR.");
    fs::write(&path, pickle).expect("written");
    let error = Tokenizer::load(&path).expect_err("a function").to_string();
    assert!(
        error.contains("posix.system") && error.contains("nothing in a pickle is run"),
        "{error}"
    );
    assert!(!witness.exists());
}

#[test]
fn damaged_pickles_are_errors_wherever_they_are_cut_or_changed() {
    for home in Home::all() {
        let whole = fs::read(home.dir.join("tokenizer/tokenizer.pkl")).expect("a pickle");
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("tokenizer.pkl");
        for length in (0..whole.len()).step_by(7) {
            fs::write(&path, &whole[..length]).expect("written");
            Tokenizer::load(&path).expect_err("a pickle that ends early");
        }
        for place in (0..whole.len()).step_by(5) {
            let mut changed = whole.clone();
            changed[place] ^= 0x55;
            fs::write(&path, changed).expect("written");
            let _ = Tokenizer::load(&path); // an error or another tokenizer, but no panic
        }
    }
}

#[test]
fn tokenizer_of_hugging_face_is_read() {
    let json = r#"{
        "version": "1.0",
        "added_tokens": [{"id": 3, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false,
                          "normalized": false, "special": true}],
        "normalizer": null, "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1, "[UNK]": 2, "<s>": 3}, "unk_token": "[UNK]"}
    }"#;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("tokenizer.json");
    fs::write(&path, json).expect("written");
    let tokenizer = Tokenizer::load(&path).expect("a tokenizer");
    assert_eq!(tokenizer.encode("a b c"), [0, 1, 2]);
    assert_eq!(tokenizer.encode("<s>"), [2, 2, 2]); // a special token in a text is text
    assert_eq!((tokenizer.bos(), tokenizer.vocab_size()), (3, 4));
    assert_eq!(tokenizer.token_bytes()[3], 0);
    let copy = tempfile::tempdir().expect("a temporary directory");
    tokenizer.save(copy.path()).expect("saved");
    assert_eq!(
        Tokenizer::load(copy.path()).expect("loaded").id(),
        tokenizer.id()
    );

    fs::write(&path, json.replace("<s>", "<x>")).expect("written");
    let error = Tokenizer::load(&path)
        .expect_err("no token starts a document")
        .to_string();
    assert!(
        error.contains("starts a document") && error.contains("<x>"),
        "{error}"
    );
}

#[test]
fn paths_without_a_tokenizer_are_refused_with_the_known_files() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for path in [dir.path().join("none"), dir.path().to_owned()] {
        let error = Tokenizer::load(&path)
            .expect_err("nothing there")
            .to_string();
        assert!(
            error.contains("tokenizer.pkl") && error.contains("vocab.json"),
            "{error}"
        );
    }
}

#[test]
fn a_word_of_two_megabytes_is_encoded_in_seconds() {
    let mut tokenizers = vec![BPE.clone()];
    tokenizers.extend(Home::all().iter().map(Home::tokenizer)); // these do not cut words
    for tokenizer in tokenizers {
        for text in [
            unbroken(2_000_000),
            "a".repeat(2_000_000),
            " ".repeat(2_000_000),
        ] {
            let ids = tokenizer.encode(&text);
            assert_eq!(tokenizer.decode(&ids), text);
        }
    }
}

/// Writes GPT-2's two files, with ids for bytes and then for these words.
fn gpt2_files(dir: &Path, words: &[&str], merges: &str) {
    let mut letters: Vec<_> = ByteLevel::alphabet().into_iter().collect();
    letters.sort_unstable();
    let letters = letters.iter().map(char::to_string);
    let words = letters.chain(words.iter().map(|word| (*word).to_owned()));
    let ids = words.zip(0..).map(|(word, id)| (word, Value::from(id)));
    let vocab: Map<String, Value> = ids.collect();
    fs::write(dir.join("vocab.json"), Value::from(vocab).to_string()).expect("a file");
    fs::write(dir.join("merges.txt"), merges).expect("a file");
}

#[test]
fn merges_come_in_their_own_order_whatever_the_ids() {
    let two = "#version: 0.2\na b\nb c\n";
    for (words, merges, pieces) in [
        (&["ab", "bc"][..], two.to_owned(), &["ab", "c"][..]),
        (&["bc", "ab"], two.to_owned(), &["ab", "c"]), // ids in another order than the merges
        (&["ab", "bc", "abc"], format!("{two}a bc\nab c\n"), &["abc"]), // one token of two merges
    ] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let words = [words, &["<|endoftext|>", "<|pad|>"]].concat();
        gpt2_files(dir.path(), &words, &merges);
        let tokenizer = Tokenizer::load(dir.path()).expect("both files");
        let is_ranked = words.starts_with(&["ab", "bc", "<|endoftext|>"]);
        assert_eq!(matches!(tokenizer, Tokenizer::Bpe(_)), is_ranked);
        let ids = tokenizer.encode("abc");
        let found: Vec<_> = ids.iter().map(|id| tokenizer.decode(&[*id])).collect();
        assert_eq!(found, pieces, "{words:?}");

        assert_eq!(tokenizer.special("<|endoftext|>"), Some(tokenizer.bos()));
        assert_eq!(tokenizer.special("<|pad|>"), Some(tokenizer.bos() + 1));
        let text = "caf\u{e9} \u{65e5} <|pad|>\n";
        let ids = tokenizer.encode(text);
        assert_eq!(tokenizer.decode(&ids), text);
        assert!(ids.iter().all(|id| *id < tokenizer.bos()));
        let copy = tempfile::tempdir().expect("a temporary directory");
        tokenizer.save(copy.path()).expect("saved");
        let loaded = Tokenizer::load(copy.path()).expect("loaded");
        assert_eq!((loaded.id(), loaded.encode(text)), (tokenizer.id(), ids));
    }
}
