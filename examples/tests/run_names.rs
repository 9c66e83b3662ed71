//! Names of runs on the command line: a name is free until a run has written files, and belongs to one run only.

#[path = "support/program.rs"]
mod program;

use program::{Ended, contains};
use std::fs;
use std::time::Duration;

/// Flags of a model and a text so small that a run takes a second.
const TINY: &str = "--depth=2 --n-embd-override=64 --device=cpu --data=text.txt --max-seq-len=32 \
                    --micro-batch=2 --eval-tokens=64 --steps=2 --log-backend=none";

type Place = program::Place<Sweep>;

/// Program under test.
struct Sweep;

impl program::Name for Sweep {
    const NAME: &'static str = "nanochat_sweep";
}

#[test]
fn name_without_a_run_may_be_used_with_and_without_resume() {
    let place = Place::new();
    // The files of a run that was killed before it wrote `run.json`.
    for (number, files) in [&[][..], &["metrics.jsonl", "run.tmp"]]
        .into_iter()
        .enumerate()
    {
        for flag in ["", "--resume"] {
            let name = format!("dead-{number}{flag}");
            let dir = place.at(&format!("runs/{name}"));
            fs::create_dir_all(&dir).expect("a directory");
            for file in files {
                fs::write(dir.join(file), "").expect("a file");
            }
            place.succeeds(&format!("{TINY} --quiet --name {name} {flag}"));
            assert_eq!(
                place.json(&format!("runs/{name}/run.json"))["status"],
                "completed"
            );
            assert_eq!(place.steps(&format!("runs/{name}")), [0, 1, 2]);
        }
    }
}

#[test]
fn run_refused_by_a_sink_leaves_no_files() {
    let place = Place::new();
    let words = "--depth=2 --n-embd-override=64 --device=cpu --data=text.txt --max-seq-len=32 --micro-batch=2 \
                 --eval-tokens=64 --steps=2 --quiet --log_backend wandb";
    let before = place.files();
    for name in ["", "--name given"] {
        let mut command = place.command(&format!("{words} {name}"));
        command
            .env("WANDB_MODE", "offline")
            .env("WANDB_PROJECT", "a/b");
        let ended = Ended::from(command.output().expect("the program starts"));
        assert_eq!(ended.code, Some(2), "{}{}", ended.out, ended.err);
        assert!(ended.err.contains("a/b"), "{}", ended.err);
        assert_eq!(place.files(), before, "the run was refused");
    }
    for flag in ["", "--resume"] {
        fs::create_dir_all(place.at("runs/given")).expect("a directory");
        let mut command = place.command(&format!("{words} --name given {flag}"));
        let ended = Ended::from(
            command
                .env("WANDB_MODE", "offline")
                .output()
                .expect("it starts"),
        );
        assert_eq!(ended.code, Some(0), "{}", ended.err);
        fs::remove_dir_all(place.at("runs/given")).expect("a directory");
    }
}

#[test]
fn run_without_a_valid_run_json_resumes_from_its_checkpoints() {
    let texts = [
        "",
        "{\"config\": {\"us",
        "[]",
        "{}",
        "null",
        "{\"config\": 1}",
    ];
    for damage in std::iter::once(None).chain(texts.map(Some)) {
        let place = Place::new();
        place.succeeds(&format!(
            "{TINY} --quiet --name a --lr-override 0.001 --save-every 1"
        ));
        fs::remove_dir_all(place.at("runs/a/checkpoints/step_00000002")).expect("a checkpoint");
        match damage {
            None => fs::remove_file(place.at("runs/a/run.json")).expect("deleted"),
            Some(text) => fs::write(place.at("runs/a/run.json"), text).expect("damaged"),
        }
        let taken = ["`runs/a` exists already", "--resume", "another --name"];
        place.refuses(&format!("{TINY} --name a"), &taken);
        place.succeeds("--quiet --resume --name a");
        let run = place.json("runs/a/run.json");
        assert_eq!(
            (&run["status"], &run["resumed_at"]),
            (&"completed".into(), &1.into())
        );
        let args = &run["config"]["user"]["args"];
        assert_eq!(
            (&args["lr_override"], &args["n_embd_override"]),
            (&0.001.into(), &64.into())
        );
        assert_eq!(place.steps("runs/a"), [0, 1, 2]);
    }
}

#[test]
fn six_simultaneous_starts_are_six_runs() {
    let place = Place::new();
    let start = |_| {
        place
            .command(&format!("{TINY} --quiet"))
            .spawn()
            .expect("the program starts")
    };
    for process in [0; 6].map(start) {
        let ended = Ended::from(process.wait_with_output().expect("it ends"));
        assert_eq!((ended.code, &*ended.err), (Some(0), ""), "{}", ended.out);
    }
    let names: Vec<_> = fs::read_dir(place.at("runs")).expect("the runs").collect();
    assert_eq!(names.len(), 6, "{names:?}");
    for name in names {
        let name = name
            .expect("an entry")
            .file_name()
            .into_string()
            .expect("letters");
        assert_eq!(
            place.json(&format!("runs/{name}/run.json"))["status"],
            "completed"
        );
    }
}

#[test]
#[cfg(unix)]
fn run_killed_within_100_ms_resumes_by_its_name() {
    let place = Place::new();
    for (number, millis) in (0..10).map(|number| (number, 5 + 10 * number)) {
        let name = format!("killed-{number}");
        let mut process = place
            .command(&format!("{TINY} --quiet --name {name}"))
            .spawn()
            .expect("it starts");
        std::thread::sleep(Duration::from_millis(millis));
        process.kill().expect("a signal");
        process.wait().expect("a process that is gone");
        let dir = place.at(&format!("runs/{name}"));
        let run_file = fs::read_to_string(dir.join("run.json")).unwrap_or_default();
        if run_file.contains("\"status\": \"completed\"") {
            continue; // it was faster than the signal
        }
        // For any files, one of the two commands that a user would try works; without a run both work.
        let flag = if bdh::run_dir::holds_run(&dir) || (dir.exists() && number % 2 == 0) {
            "--resume"
        } else {
            ""
        };
        let ended = place.run(&format!("{TINY} --quiet --name {name} {flag}"));
        assert_eq!(ended.code, Some(0), "{name}: {}", ended.err);
        assert!(
            ended.err.is_empty() || ended.err.contains("starts again"),
            "{}",
            ended.err
        );
        assert_eq!(place.steps(&format!("runs/{name}")), [0, 1, 2], "{name}");
    }
}

#[test]
fn dry_run_reserves_no_name() {
    let place = Place::new();
    let before = place.files();
    contains(
        &place.succeeds(&format!("{TINY} --dry-run")),
        &["runs/d2-w64"],
    );
    assert_eq!(place.files(), before);
}
