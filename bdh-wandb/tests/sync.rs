//! `wandb sync` of versions 0.31 and 0.19 sends a whole log of bdh.
#![cfg(feature = "online")]

#[path = "../../bdh-callbacks/tests/support/judges.rs"]
mod judges;
#[path = "support/sink.rs"]
mod sink;
#[path = "support/wandb_server.rs"]
mod wandb_server;

use bdh::Record;
use bdh_wandb::{Mode, Wandb};
use judges::Judge;
use serde_json::{Value as Json, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;
use wandb_server::Server;

const KEY: &str = "c0ffee5ec2e7c0ffee5ec2e7c0ffee5ec2e7c0ff";

/// Creates a run directory with a log, and returns the logged records too.
fn logged() -> (TempDir, Vec<Record>) {
    let dir = tempfile::Builder::new()
        .prefix("a run ")
        .tempdir()
        .expect("a temporary directory");
    let mut records: Vec<_> = (0..40).map(sink::scalars).collect();
    records.push(sink::everything(250, &sink::checkpoint(dir.path())));
    let mut wandb = Wandb::from_env()
        .mode(Mode::Offline)
        .project("p")
        .tags(["a tag", "b"]);
    sink::log(&mut wandb, &sink::run(dir.path()), &records);
    (dir, records)
}

fn folder(dir: &Path) -> PathBuf {
    dir.join("wandb")
        .join(fs::read_link(dir.join("wandb/latest-run")).expect("the link to the run"))
}

/// Sends the run to a server with W&B's client, and returns everything that the server received.
fn sync(judge: &Judge, server: &Server, dir: &Path) -> Json {
    let home = tempfile::tempdir().expect("an empty home");
    let output = Command::new(judge.bin("wandb"))
        .arg("sync")
        .arg(folder(dir))
        .env("HOME", home.path())
        .env("WANDB_BASE_URL", server.url())
        .env("WANDB_API_KEY", KEY)
        .current_dir(home.path())
        .stdin(Stdio::null())
        .output()
        .expect("wandb starts");
    let text =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success(), "{text:?}");
    server.dump()
}

/// Checks that the server has every row and value, and the end of the run.
fn assert_all_there(dump: &Json, records: &[Record]) {
    let problems = dump["problems"].as_array().expect("problems").iter();
    let ours = problems.filter(|problem| !problem.to_string().contains("/sdk/otel/")); // telemetry of W&B's client
    assert_eq!(ours.collect::<Vec<_>>(), [&Json::Null; 0]);
    let runs = dump["runs"].as_object().expect("runs");
    let run = runs
        .values()
        .find(|run| run["history"][0].is_object())
        .expect("the run");
    let rows = run["history"].as_array().expect("rows");
    assert_eq!(rows.len(), records.len());
    for (row, record) in rows.iter().zip(records) {
        assert_eq!(row["step"], record.clock.step);
        for (key, scalar) in record.scalars() {
            let found = &row[key];
            let is_same = found
                .as_f64()
                .is_some_and(|found| found.to_bits() == scalar.to_bits());
            let is_named = !scalar.is_finite() && found.as_str() == Some(&name(scalar));
            assert!(is_same || is_named, "{key}: {found} for {scalar}");
        }
    }
    assert_eq!(
        (&run["exitcode"], &run["complete"]),
        (&json!(0), &json!(true))
    );
    assert_eq!(run["meta"]["tags"], json!(["a tag", "b"]));
    assert_eq!(run["config"]["depth"]["value"], 4);
    assert_eq!(
        run["config"]["model"]["value"],
        json!({ "width": 64, "bias": false })
    );
    assert_eq!(run["summary"]["train/loss"], 0.25);
    assert_eq!(run["summary"]["step"], 250);

    // The old client asks for files without the entity, so the server stores them under another run.
    let has = |file: &str| runs.values().any(|run| run["files"].get(file).is_some());
    for key in ["sample/0", "samples", "plot", "page"] {
        let path = rows[rows.len() - 1][key]["path"].as_str().expect("a path");
        assert!(has(path), "{path}");
    }
    for file in ["wandb-metadata.json", "wandb-summary.json", "config.yaml"] {
        assert!(has(file), "{file}");
    }
    let artifact = dump["artifacts"]
        .as_object()
        .and_then(|all| all.values().next())
        .expect("the artifact");
    assert_eq!(artifact["committed"], true);
    assert_eq!(artifact["files"]["model.safetensors"]["size"], 3_000);
    let aliases = artifact["input"]["aliases"].as_array().expect("aliases");
    let aliases: Vec<_> = aliases
        .iter()
        .map(|alias| alias["alias"].as_str().expect("a name"))
        .collect();
    assert_eq!(
        (&artifact["input"]["artifactTypeName"], aliases),
        (&json!("model"), vec!["latest", "early-250"])
    );
}

/// Returns Python's name of a number that JSON does not have.
fn name(scalar: f64) -> String {
    if scalar.is_nan() {
        "NaN".to_owned()
    } else {
        scalar.to_string().replace("inf", "Infinity")
    }
}

#[test]
fn wandb_0_31_sends_the_whole_log() {
    let (Some(judge), Some(server)) = (Judge::modern(), Server::start(&[])) else {
        return;
    };
    let (dir, records) = logged();
    assert_all_there(&sync(&judge, &server, dir.path()), &records);
}

#[test]
fn wandb_0_19_sends_the_whole_log() {
    let (Some(judge), Some(server)) = (Judge::wandb_0_19(), Server::start(&[])) else {
        return;
    };
    let (dir, records) = logged();
    assert_all_there(&sync(&judge, &server, dir.path()), &records);
}
