//! Tests of the program `quickstart`, which has the same losses in every run.

#[path = "support/program.rs"]
mod program;

use serde_json::Value;
use std::fs;
use std::path::Path;

type Place = program::Place<Quickstart>;

/// Program under test.
struct Quickstart;

impl program::Name for Quickstart {
    const NAME: &'static str = "quickstart";
}

/// Every printed line with a loss, without the speed, and every recorded loss, in order.
#[derive(Debug, PartialEq)]
struct Losses {
    printed: Vec<String>,
    recorded: Vec<(u64, Value, Value)>,
}

/// Runs the program in its own folder.
fn losses() -> (String, Losses) {
    let place = Place::new();
    let mut command = place.command("");
    // The run is `quickstart-<process>` in the temporary directory.
    for name in ["TMPDIR", "TMP", "TEMP"] {
        command.env(name, place.0.path());
    }
    let ended = program::Ended::from(command.output().expect("the program starts"));
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
    let lines = ended.out.lines().filter(|line| line.contains("loss"));
    let printed = lines.map(|line| line.split("  ").next().unwrap_or_default().to_owned());

    let run = run_of(place.0.path());
    let record = |line: &Value| {
        let step = line["step"].as_u64().expect("a step");
        (step, line["train/loss"].clone(), line["val/loss"].clone())
    };
    let recorded = place.metrics(&run).iter().map(record).collect();
    (
        run,
        Losses {
            printed: printed.collect(),
            recorded,
        },
    )
}

/// Returns the name of the run.
fn run_of(dir: &Path) -> String {
    let names = fs::read_dir(dir)
        .expect("the folder")
        .map(|entry| entry.expect("an entry"));
    let mut names = names.filter_map(|entry| entry.file_name().into_string().ok());
    names
        .find(|name| name.starts_with("quickstart-"))
        .expect("a run")
}

#[test]
fn three_runs_have_the_same_loss_at_every_step() {
    let [(run, first), others @ ..] = [losses(), losses(), losses()];
    assert_eq!(
        first.printed.len(),
        8,
        "4 of training, 4 evals: {:?}",
        first.printed
    );
    let trained = first
        .recorded
        .iter()
        .filter(|(_, train, _)| train.is_f64())
        .count();
    let evals = first
        .recorded
        .iter()
        .filter(|(.., val)| val.is_f64())
        .count();
    assert_eq!((first.recorded.len(), trained, evals), (301, 300, 4));
    for (other_run, other) in others {
        assert_ne!(other_run, run, "each run has its own directory");
        assert_eq!(other, first);
    }
}
