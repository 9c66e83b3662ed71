//! Ids are those of tiktoken, on any text.

#[path = "../../../bdh-callbacks/tests/support/judges.rs"]
mod judges;

use crate::homes::Home;
use bdh_data::Tokenizer;
use judges::Judge;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::json;
use std::fs;

/// Returns random texts, and some that are known to be difficult.
fn texts() -> Vec<String> {
    let mut texts: Vec<String> = [
        "",
        " ",
        "  \n\n  \t x",
        "<|bos|> and <|endoftext|>",
        "don't DON'T I'LL 12345 3.14",
        "Zürich 你好 🌍 \u{200d}\u{fe0f}",
        "a\r\n\r\nb \u{a0}\u{2003}c",
        "ſ'ſ K'K",
    ]
    .map(str::to_owned)
    .to_vec();
    let mut runner = TestRunner::deterministic();
    let any = prop_oneof![any::<String>(), "[a-zA-Z0-9 .,'\n]{0,200}", "\\PC{0,60}"];
    for _ in 0..400 {
        texts.push(any.new_tree(&mut runner).expect("a text").current());
    }
    texts.push("unbroken".repeat(500));
    texts
}

#[test]
fn ids_equal_those_of_tiktoken() {
    let homes = Home::all();
    let Some(judge) = Judge::tiktoken() else {
        return;
    };
    let texts = texts();
    for home in homes {
        let tokenizer = home.tokenizer();
        let dir = tempfile::tempdir().expect("a temporary directory");
        tokenizer.save_nanochat(dir.path()).expect("written");
        let list = dir.path().join("texts.json");
        fs::write(&list, json!(texts).to_string()).expect("written");
        // The original's pickle, and the one that we have written.
        for pickle in [
            home.dir.join("tokenizer/tokenizer.pkl"),
            dir.path().join("tokenizer.pkl"),
        ] {
            let found = judge.json("tiktoken_encode.py", [&pickle, &list]);
            for (text, expected) in texts.iter().zip(found.as_array().expect("a list")) {
                assert_eq!(json!(tokenizer.encode(text)), *expected, "{text:?}");
            }
        }
    }
}

#[test]
fn merges_that_we_have_trained_are_applied_like_by_tiktoken() {
    let Some(judge) = Judge::tiktoken() else {
        return;
    };
    let text = include_str!("tokenizers.rs").to_owned();
    let tokenizer = Tokenizer::bpe(&[text], 600).expect("text to train on");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (saved, list) = (
        tokenizer.save(dir.path()).expect("saved"),
        dir.path().join("texts.json"),
    );
    let mut texts = texts();
    texts.retain(|text| text.split_whitespace().all(|word| word.len() < 256)); // longer words are cut
    fs::write(&list, json!(texts).to_string()).expect("written");
    let found = judge.json("tiktoken_encode.py", [&saved, &list]);
    for (text, expected) in texts.iter().zip(found.as_array().expect("a list")) {
        assert_eq!(json!(tokenizer.encode(text)), *expected, "{text:?}");
    }
}
