//! Names of runs on the command line: free until a run has left something under them, and each for one run only.

#[path = "support/program.rs"]
mod program;

use program::{Ended, contains};
use std::fs;
use std::time::Duration;

/// A model and a text so small that a run takes a second.
const TINY: &str = "--depth=2 --n-embd-override=64 --device=cpu --data=text.txt --max-seq-len=32 \
                    --micro-batch=2 --eval-tokens=64 --steps=2 --log-backend=none";

type Place = program::Place<Sweep>;

/// The program.
struct Sweep;

impl program::Name for Sweep {
    const NAME: &'static str = "nanochat_sweep";
}

#[test]
fn a_name_under_which_nothing_of_value_is_may_be_used_with_and_without_resume() {
    let place = Place::new();
    // As a run leaves it that is killed before `run.json` is there.
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
fn a_run_that_a_sink_refuses_leaves_nothing_and_its_name_is_free() {
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
fn a_run_whose_run_json_is_lost_or_damaged_is_resumed_from_its_checkpoints() {
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
fn six_starts_at_once_are_six_runs() {
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
fn a_run_killed_within_its_first_100_ms_goes_on_by_its_name() {
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
        // Whatever stands there, one of the two commands that a person would try goes on; both where no run is.
        let flag = if bdh::holds_run(&dir) || (dir.exists() && number % 2 == 0) {
            "--resume"
        } else {
            ""
        };
        let ended = place.run(&format!("{TINY} --quiet --name {name} {flag}"));
        assert_eq!(ended.code, Some(0), "{name}: {}", ended.err);
        assert!(
            ended.err.is_empty() || ended.err.contains("begins again"),
            "{}",
            ended.err
        );
        assert_eq!(place.steps(&format!("runs/{name}")), [0, 1, 2], "{name}");
    }
}

#[test]
fn a_dry_run_takes_no_name() {
    let place = Place::new();
    let before = place.files();
    contains(
        &place.succeeds(&format!("{TINY} --dry-run")),
        &["runs/d2-w64"],
    );
    assert_eq!(place.files(), before);
}
