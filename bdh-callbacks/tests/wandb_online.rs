//! Online runs: the server receives everything, and training is not affected.
//!
//! Each run is a process of its own, since W&B is configured by the environment.
#![cfg(feature = "wandb-online")]

#[path = "../../bdh/tests/support/tiny.rs"]
mod tiny;
#[path = "../../bdh-wandb/tests/support/wandb_server.rs"]
mod wandb_server;

use bdh::TrainResult;
use bdh::cadence::every;
use bdh_callbacks::{Artifacts, Wandb};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use wandb_server::{Server, always};

const KEY: &str = "c0ffee5ec2e7c0ffee5ec2e7c0ffee5ec2e7c0ff";

/// Settings of a run in a child process.
#[derive(Serialize, Deserialize)]
struct Order {
    steps: u64,
    /// Duration of a step in milliseconds.
    step_ms: u64,
    /// Whether to resume from the last checkpoint.
    resume: bool,
    /// Timeout of the last upload in seconds.
    finish_s: u64,
}

/// Report of a run in a child process.
#[derive(Debug, Serialize, Deserialize)]
struct Report {
    outcome: String,
    warnings: Vec<String>,
    /// Time from the first step to the last, in milliseconds.
    training_ms: u128,
    whole_ms: u128,
}

/// Work of a child; does nothing in the test process.
#[test]
fn run_as_ordered() {
    let Ok(order) = std::env::var("BDH_TEST_ORDER") else {
        return;
    };
    let order: Order = serde_json::from_str(&order).expect("an order");
    let dir = std::env::current_dir().expect("the run's directory");
    let began = Instant::now();
    let steps = tiny::Seen::new();
    let seen = steps.clone();
    let clock = tiny::on_step(move |_| {
        std::thread::sleep(Duration::from_millis(order.step_ms));
        seen.push(Instant::now());
        Ok(())
    });
    let mut run = tiny::run(order.steps)
        .run_dir(&dir)
        .eval(every(4))
        .checkpoint(every(4))
        .callback(Artifacts::default())
        .callback(clock)
        .sink(Wandb::from_env().finish_timeout(Duration::from_secs(order.finish_s)));
    if order.resume {
        run = run.resume("auto").allow_changed(["trainer.steps"]);
    }
    let fitted: TrainResult<_> = run
        .build()
        .expect("a valid run")
        .fit()
        .expect("a run that ends well");
    let steps = steps.all();
    let report = Report {
        outcome: fitted.outcome.to_string(),
        warnings: fitted.warnings.iter().map(ToString::to_string).collect(),
        training_ms: steps
            .last()
            .map_or(0, |last| (*last - steps[0]).as_millis()),
        whole_ms: began.elapsed().as_millis(),
    };
    fs::write("report.json", serde_json::to_vec(&report).expect("JSON")).expect("a report");
}

/// Trains in a child process with W&B's environment. Checks that neither its output nor its files contain the key.
fn run(dir: &Path, url: &str, order: &Order) -> Report {
    let output = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "run_as_ordered", "--nocapture"])
        .current_dir(dir)
        .env_clear()
        .env("HOME", "/nowhere/at/all")
        .env(
            "BDH_TEST_ORDER",
            serde_json::to_string(order).expect("JSON"),
        )
        .env("WANDB_BASE_URL", url)
        .env("WANDB_API_KEY", KEY)
        .env("WANDB_PROJECT", "birds")
        .output()
        .expect("a process");
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed);
    assert!(output.status.success(), "{printed}");
    assert!(
        !printed.contains(KEY) && !contains(dir, KEY),
        "the key was printed or written"
    );
    let report = fs::read(dir.join("report.json")).expect("a report");
    serde_json::from_slice(&report).expect("JSON")
}

/// Whether any file below a folder contains a text.
fn contains(dir: &Path, text: &str) -> bool {
    let found = |path: &Path| {
        let bytes = fs::read(path).unwrap_or_default();
        bytes
            .windows(text.len())
            .any(|window| window == text.as_bytes())
    };
    let mut entries = fs::read_dir(dir)
        .expect("a folder")
        .flatten()
        .map(|entry| entry.path());
    entries.any(|path| {
        if path.is_dir() {
            contains(&path, text)
        } else {
            found(&path)
        }
    })
}

/// Returns the trainer's steps on the server. Checks that W&B's own step counts the rows.
fn steps(run: &Json) -> Vec<u64> {
    let rows = run["history"].as_array().expect("rows");
    let counted = rows
        .iter()
        .zip(0_u64..)
        .all(|(row, number)| row["_step"] == number);
    assert!(counted, "_step does not count rows: {rows:?}");
    rows.iter()
        .map(|row| row["step"].as_u64().expect("a step"))
        .collect()
}

#[test]
fn complete_run_and_its_checkpoints_reach_the_server() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let order = Order {
        steps: 12,
        step_ms: 0,
        resume: false,
        finish_s: 60,
    };
    let report = run(dir.path(), &server.url(), &order);
    assert_eq!(
        (report.outcome.as_str(), report.warnings),
        ("completed", vec![])
    );
    let run = server.run();
    assert_eq!(steps(&run), (1..=12).collect::<Vec<_>>());
    assert_eq!(
        (&run["complete"], &run["exitcode"]),
        (&true.into(), &0.into())
    );
    assert!(run["summary"]["val/loss"].is_number() && run["config"]["bdh"].is_object());
    for name in [
        "config.yaml",
        "wandb-metadata.json",
        "wandb-summary.json",
        "output.log",
    ] {
        assert!(
            run["files"][name]["size"].as_u64() > Some(0),
            "{name} in {}",
            run["files"]
        );
    }
    let artifacts = server.dump()["artifacts"].clone();
    let all: Vec<_> = artifacts.as_object().expect("artifacts").values().collect();
    assert_eq!(all.len(), 3);
    assert!(
        all.iter().all(|artifact| artifact["committed"] == true),
        "{all:?}"
    );
}

#[test]
fn silent_server_does_not_affect_the_run() {
    let (url, asked) = always(None);
    let offline = tempfile::tempdir().expect("a temporary directory");
    let order = Order {
        steps: 40,
        step_ms: 5,
        resume: false,
        finish_s: 1,
    };
    let report = run(offline.path(), &url, &order);
    assert!(
        !asked.lock().expect("no panic").is_empty(),
        "the server received no request"
    );
    assert!(report.training_ms < 5_000, "{report:?}");
    assert!(report.whole_ms < 10_000, "{report:?}");
    assert_eq!(
        (report.outcome.as_str(), report.warnings.len()),
        ("completed", 1)
    );
    let folder = fs::read_dir(offline.path().join("wandb"))
        .expect("W&B's folder")
        .flatten();
    let folder = folder
        .map(|entry| entry.path())
        .find(|path| !path.is_symlink())
        .expect("a run");
    let (warning, folder) = (&report.warnings[0], folder.display());
    assert!(
        warning.contains(&format!("wandb sync {folder}")),
        "{warning}"
    );
}

#[test]
fn run_stopped_on_its_page_ends_after_the_current_step() {
    let Some(server) = Server::start(&["--stop-after", "3"]) else {
        return;
    };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let order = Order {
        steps: 3_000,
        step_ms: 10,
        resume: false,
        finish_s: 60,
    };
    let report = run(dir.path(), &server.url(), &order);
    assert_eq!(
        report.outcome,
        "stopped: wandb: stopped from the W&B page of the run"
    );
    let run = server.run();
    let taken = steps(&run).len() as u64;
    assert!(
        taken < 2_900 && run["complete"] == true && run["exitcode"] == 0,
        "{taken} steps"
    );
    assert_eq!(steps(&run), (1..=taken).collect::<Vec<_>>());
}

#[test]
fn resumed_run_is_one_run_with_each_row_once() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let order = Order {
        steps: 10,
        step_ms: 0,
        resume: false,
        finish_s: 60,
    };
    run(dir.path(), &server.url(), &order);
    let order = Order {
        steps: 14,
        resume: true,
        ..order
    };
    let report = run(dir.path(), &server.url(), &order);
    assert_eq!(
        (report.outcome.as_str(), report.warnings),
        ("completed", vec![])
    );
    let run = server.run();
    assert_eq!(steps(&run), (1..=14).collect::<Vec<_>>());
    let mut next = 0;
    for (offset, count) in server.row_requests() {
        assert_eq!(offset, next, "a row was sent twice, or left out");
        next += count;
    }
    let artifacts = server.dump()["artifacts"].clone();
    let all: Vec<_> = artifacts.as_object().expect("artifacts").values().collect();
    assert!(
        all.iter().all(|artifact| artifact["committed"] == true),
        "{all:?}"
    );
}
