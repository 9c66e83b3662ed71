//! Tokenizers decode to the original text, and know the bytes of each id.

use bdh_data::Tokenizer;
use proptest::prelude::*;
use std::sync::LazyLock;

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
    let text = vec![unbroken(400_000)]; // 21 seconds, before pieces were cut
    let tokenizer = Tokenizer::bpe(&text, 300).expect("text to train on");
    let ids = tokenizer.encode(&text[0]);
    assert!(ids.len() * 2 < text[0].len());
    assert_eq!(tokenizer.decode(&ids), text[0]);
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
