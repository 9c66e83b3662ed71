//! Tests of `nanochat_sweep generate`.

#[path = "support/homes.rs"]
mod homes;
#[path = "support/program.rs"]
mod programs;

use bdh_data::Tokenizer;
use homes::homes;
use programs::{Ended, contains};
use std::fs;
use std::process::Command;

type Place = programs::Place<Sweep>;

/// Program under test.
struct Sweep;

impl programs::Name for Sweep {
    const NAME: &'static str = "nanochat_sweep";
}

/// Runs a command that must succeed, and returns its output and the line about its speed.
fn run(mut command: Command) -> (String, String) {
    let ended = Ended::from(command.output().expect("the program starts"));
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    (ended.out, ended.err)
}

#[test]
fn greedy_text_is_nanochats() {
    for home in homes() {
        let place = Place::new();
        let tokenizer = Tokenizer::load(&home.dir.join("tokenizer")).expect("a tokenizer");
        let greedy = &home.expected["greedy"];
        let ids = greedy[0].as_array().expect("ids").iter();
        let ids: Vec<i32> = ids.map(|id| id.as_i64().expect("an id") as i32).collect();
        let prompt = tokenizer.decode(&ids[1..]); // the first one begins the document
        let whole = greedy[1].as_array().expect("ids").len();

        let words = format!("generate --device cpu --max-tokens {}", whole - ids.len());
        let mut command = place.command(&words);
        command.arg("--checkpoint").arg(home.checkpoints());
        command.arg("--prompt").arg(&prompt);
        let (out, speed) = run(command);
        let text = greedy[2].as_str().expect("a text");
        assert_eq!(out, format!("{prompt}{text}\n"));
        contains(&speed, &[" tokens in ", " tokens/s"]);
    }
}

#[test]
fn run_continues_several_prompts_without_its_text() {
    let place = Place::new();
    place.succeeds(
        "--depth=2 --n-embd-override=64 --device=cpu --data=text.txt --max-seq-len=32 --micro-batch=4 \
         --eval-tokens=256 --log-backend=none --early-save=off --steps 60 --lr-override 0.01 --name a",
    );
    fs::remove_file(place.at("text.txt")).expect("the text");
    let generate = |more: &str| {
        let mut command = place.command(&format!("generate --run runs/a --device cpu {more}"));
        command.args(["--prompt", "line 1", "--prompt", "of a"]);
        run(command).0
    };
    let greedy = generate("--max-tokens 40");
    assert_eq!(
        greedy,
        generate("--max-tokens 40"),
        "the texts are repeatable"
    );
    let texts: Vec<_> = greedy.split("\n\n").collect();
    assert!(
        texts[0].starts_with("line 1") && greedy.contains("\n\nof a"),
        "{greedy}"
    );

    let drawn = |seed| generate(&format!("--temperature 1.5 --top_k 50 --seed {seed}"));
    assert_ne!(drawn(1), drawn(2));
    assert_eq!(drawn(1), drawn(1));
}

#[test]
fn user_errors_are_one_sentence() {
    let place = Place::new();
    fs::create_dir_all(place.at("runs/empty")).expect("a directory");
    for (words, parts) in [
        (
            "generate --run runs/empty --prompt a",
            &["`runs/empty` has no complete checkpoint"][..],
        ),
        ("generate --prompt a", &["--run <DIR>"]),
        ("generate --run runs/empty", &["--prompt <TEXT>"]),
        (
            "generate --run runs/empty --prompt a --temperature -1",
            &["'-1'", "--temperature"],
        ),
    ] {
        let ended = place.run(words);
        assert_eq!((ended.code, &*ended.out), (Some(2), ""), "{words}");
        contains(&ended.err, parts);
    }
}
