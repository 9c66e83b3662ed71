//! Tests of `nanochat_sweep prepare`, and of runs on what it makes.

#[path = "support/homes.rs"]
mod homes;
#[path = "support/program.rs"]
mod programs;

use homes::succeeds;
use programs::contains;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

const SMALL: &str = "--depth=2 --n-embd-override=64 --device=cpu --max-seq-len=32 --micro-batch=2 \
                     --eval-tokens=256 --log-backend=none --early-save=off";

type Place = programs::Place<Sweep>;

/// Program under test.
struct Sweep;

impl programs::Name for Sweep {
    const NAME: &'static str = "nanochat_sweep";
}

/// Returns a directory with two files of documents: the first for training, the second for validation.
fn place() -> Place {
    let place = Place::new();
    fs::create_dir(place.at("documents")).expect("a directory");
    for (file, documents) in [("a.jsonl", 400), ("b.jsonl", 40)] {
        let mut lines = String::new();
        for number in 0..documents {
            let text = format!("document {number} of the file {file}, with some words");
            writeln!(lines, "{{\"text\": \"{text}\"}}").expect("a string");
        }
        fs::write(place.at("documents").join(file), lines).expect("a file");
    }
    place
}

/// Returns a command with a cache of its own.
fn command(place: &Place, words: &str) -> Command {
    let mut command = place.command(words);
    command.env("XDG_CACHE_HOME", place.at("cache"));
    command
}

#[test]
fn prepared_documents_are_trained_on_with_their_tokenizer() {
    let place = place();
    let words =
        "prepare --data documents --tokenizer bpe --vocab-size 300 --max_seq_len 32 --out shards";
    let out = succeeds(command(&place, words));
    contains(
        &out,
        &[
            "2 JSONL files",
            "tokenizer of 300 ids",
            "train ",
            "val ",
            "--data shards --max-seq-len 32",
        ],
    );
    for file in [
        "train_00000.bin",
        "val_00000.bin",
        "tokenizer.json",
        "manifest.json",
    ] {
        assert!(place.at("shards").join(file).exists(), "{file}");
    }
    let before = fs::read(place.at("shards/train_00000.bin")).expect("a shard");
    let again = succeeds(command(&place, words));
    contains(&again, &["token shards in shards: opened in"]);
    assert_eq!(
        fs::read(place.at("shards/train_00000.bin")).expect("a shard"),
        before
    );

    // Nothing but the shards is needed.
    fs::remove_dir_all(place.at("documents")).expect("the documents");
    let train = format!("{SMALL} --data=shards --steps 3");
    let out = succeeds(command(&place, &format!("{train} --name a")));
    contains(&out, &["token shards", "vocabulary 300", "run completed"]);
    let loss = place.metrics("runs/a")[1]["train/loss"].as_f64();
    assert!((loss.expect("a loss") - 300_f64.ln()).abs() < 0.1);

    fs::write(place.at("other.txt"), "other text ".repeat(100)).expect("a text");
    let other = "prepare --data other.txt --tokenizer bytes --max-seq-len 32 --out bytes";
    succeeds(command(&place, other));
    let parts = ["`shards`", "are for 300 ids", "the tokenizer has 257"];
    place.refuses(&format!("{train} --tokenizer bytes/tokenizer.json"), &parts);
    let parts = ["`shards`", "another tokenizer than bytes"];
    place.refuses(&format!("{train} --tokenizer bytes"), &parts);
    let parts = ["row", "32"];
    place.refuses(&format!("{train} --max-seq-len 64"), &parts);
}

#[test]
fn documents_are_prepared_once_in_the_cache() {
    let place = place();
    let words = format!("{SMALL} --data=documents --tokenizer=bytes --steps 2");
    let first = succeeds(command(&place, &format!("{words} --name a")));
    contains(
        &first,
        &[
            "documents · 2 JSONL files",
            "token shards in ",
            "prepared in ",
        ],
    );
    let second = succeeds(command(&place, &format!("{words} --name b")));
    assert!(!second.contains("prepared in "), "{second}");
    let [a, b] = ["a", "b"].map(|name| place.metrics(&format!("runs/{name}")));
    assert_eq!(a[2]["train/loss"], b[2]["train/loss"]);

    let streamed = format!("{words} --packing nanochat --name c");
    let out = succeeds(command(&place, &streamed));
    contains(&out, &["streamed", "run completed"]);
}

#[test]
fn files_that_are_left_out_are_named_and_refused_on_request() {
    let place = place();
    fs::write(place.at("documents/notes.txt"), b"caf\xe9").expect("a file"); // Latin-1
    let words = format!("{SMALL} --data=documents --tokenizer=bytes --steps 1");
    let out = succeeds(command(&place, &format!("{words} --name a")));
    contains(&out, &["left out: \"notes.txt\" (", "Latin-1"]);
    place.refuses(&format!("{words} --strict-data"), &["notes.txt"]);
}

#[test]
fn trials_of_a_sweep_prepare_their_text_once() {
    let place = Place::new();
    let flags: Vec<_> = SMALL.split_whitespace().collect();
    let yaml = format!(
        "method: grid\nmetric: {{ name: val_bpb, goal: minimize }}\nparameters:\n  lr_override: {{ values: [0.001, \
         0.002] }}\ncommand: ['${{program}}', {}, --data=text.txt, --tokenizer=bpe, --vocab-size=300, \
         --num-iterations=2, '${{args}}']\n",
        flags.join(", ")
    );
    fs::write(place.at("tiny.yaml"), yaml).expect("a file");
    let out = succeeds(command(&place, "sweep tiny.yaml --jobs 2"));
    contains(&out, &["trial   1/2", "trial   2/2", "completed"]);
    let made = fs::read_dir(place.at("cache/bdh/prepared")).expect("prepared data");
    let made = made.filter(|entry| {
        let path = entry.as_ref().expect("an entry").path();
        path.join("manifest.json").exists()
    });
    assert_eq!(made.count(), 1);
    let (mut trained, mut prepared) = (0, 0);
    for number in ["0001", "0002"] {
        let log = fs::read_to_string(place.at(&format!("runs/tiny/trials/{number}.log")));
        let log = log.expect("a log");
        trained += usize::from(log.contains("ids: trained in "));
        prepared += usize::from(log.contains(": prepared in "));
        assert!(
            place
                .at(&format!("runs/tiny/trial-{number}/tokenizer.json"))
                .exists()
        );
    }
    assert_eq!((trained, prepared), (1, 1), "each is made by one trial");
}

#[test]
fn synthetic_shards_are_made_and_trained_on() {
    let place = Place::new();
    let words = "prepare --synthetic 2e4 --vocab-size 300 --max-seq-len 32 --out made";
    contains(
        &succeeds(command(&place, words)),
        &["train ", "--data made"],
    );
    let out = succeeds(command(
        &place,
        &format!("{SMALL} --data=made --steps 2 --name a"),
    ));
    contains(&out, &["run completed"]);
    for (words, part) in [
        ("prepare --out x", "--data <PATH>"),
        ("prepare --synthetic 100", "--out <DIR>"),
        ("prepare --data none --tokenizer bytes", "`none`"),
    ] {
        let ended = place.run(words);
        assert_eq!(ended.code, Some(2), "{words}");
        contains(&ended.err, &[part]);
    }
}
