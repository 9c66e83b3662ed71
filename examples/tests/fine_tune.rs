//! Tests of the program `fine_tune`: what it loads, freezes and trains.

#[path = "support/program.rs"]
mod program;

use safetensors::SafeTensors;
use std::collections::BTreeMap;
use std::fs;

type Place = program::Place<FineTune>;

/// Program under test.
struct FineTune;

impl program::Name for FineTune {
    const NAME: &'static str = "fine_tune";
}

/// Returns the bytes of each tensor in a file.
fn tensors(place: &Place, file: &str) -> BTreeMap<String, Vec<u8>> {
    let bytes = fs::read(place.at(file)).expect(file);
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let tensors = file.iter();
    tensors
        .map(|(name, tensor)| (name.to_owned(), tensor.data().to_vec()))
        .collect()
}

/// Fine-tunes, and returns the program's output.
fn tuned(place: &Place, words: &str) -> String {
    let ended = place.run(words);
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
    ended.out + &ended.err
}

/// Names of the trained parameters of the backbone, in its file.
const TRAINED: [&str; 4] = [
    "blocks.0.conv.weight",
    "blocks.1.conv.weight",
    "blocks.0.norm.weight",
    "blocks.1.norm.bias",
];

#[test]
fn backbone_is_loaded_frozen_and_then_trained() {
    let place = Place::new();
    let output = tuned(
        &place,
        "--steps 6 --frozen-steps 6 --out frozen.safetensors",
    );
    program::contains(&output, &["not in the file: head.weight, head.bias"]);
    let (backbone, frozen) = (
        tensors(&place, "backbone.safetensors"),
        tensors(&place, "frozen.safetensors"),
    );
    assert!(
        TRAINED.iter().all(|name| backbone.contains_key(*name)),
        "{:?}",
        backbone.keys()
    );
    for name in TRAINED {
        assert!(
            frozen[&format!("backbone.{name}")] == backbone[name],
            "{name}"
        );
    }

    let output = tuned(
        &place,
        "--steps 6 --frozen-steps 3 --out trained.safetensors",
    );
    let again = tensors(&place, "backbone.safetensors");
    assert!(again == backbone, "the pretrained file is made once");
    program::contains(&output, &["not in the file: head.weight, head.bias"]);
    let trained = tensors(&place, "trained.safetensors");
    for name in TRAINED {
        assert!(
            trained[&format!("backbone.{name}")] != backbone[name],
            "{name}"
        );
    }
    assert!(trained["head.weight"] != frozen["head.weight"]);
}

#[test]
fn fine_tuning_beats_chance() {
    let place = Place::new();
    let output = tuned(&place, "--steps 40 --frozen-steps 20");
    let last = output.lines().rfind(|line| line.contains("accuracy"));
    let last = last.expect("the line of an eval");
    let accuracy = last.split("accuracy").nth(1).expect("a number follows");
    let accuracy = accuracy.trim_matches(|c: char| !c.is_ascii_digit());
    let accuracy = accuracy.split_whitespace().next().unwrap_or_default();
    let accuracy: f64 = accuracy.parse().expect(last);
    assert!(accuracy > 0.7, "chance is 0.5: {last}");
}

#[test]
fn frozen_steps_of_zero_are_refused() {
    let place = Place::new();
    let ended = place.run("--steps 2 --frozen-steps 0");
    assert_eq!(ended.code, Some(1), "{}", ended.out);
    program::contains(
        &ended.err,
        &[
            "`freeze` is backbone.* until 0 steps",
            "nothing would be frozen",
        ],
    );
}
