//! Comparison of an upload with `wandb sync` of the same log.

use super::run::{KEY, Logged, copy};
use super::server::Server;
use super::{LONG, is_complete};
use crate::judges::Judge;
use serde_json::{Map, Value as Json};
use std::collections::BTreeSet;
use std::process::Command;

/// Returns a dump without times, and without names of machines, programs and servers.
fn normal(dump: &Json) -> Json {
    let mut dump = dump.clone();
    for run in dump["runs"].as_object_mut().expect("runs").values_mut() {
        for key in ["requests", "upserts", "uploaded"] {
            run[key] = Json::Null;
        }
        for key in ["host", "program"] {
            run["meta"][key] = Json::Null;
        }
        if let Some(own) = run["config"]["_wandb"]["value"].as_object_mut() {
            own.retain(|key, _| key == "m");
            own.insert("m".to_owned(), metrics(&own["m"]));
        }
        for line in run["output"].as_object_mut().expect("lines").values_mut() {
            let text = line.as_str().expect("a line");
            *line = text.split_once(' ').expect("a time").1.into();
        }
        for (name, file) in run["files"].as_object_mut().expect("files") {
            if ["config.yaml", "wandb-summary.json"].contains(&name.as_str()) {
                *file = Json::Null; // each program writes its own
            }
        }
    }
    let artifacts = dump["artifacts"]
        .as_object()
        .expect("artifacts")
        .values()
        .map(artifact)
        .collect();
    let runs = dump["runs"].take();
    Json::Object(Map::from_iter([
        ("runs".to_owned(), runs),
        ("artifacts".to_owned(), artifacts),
    ]))
}

/// Returns metrics by name, with the name of each step metric, because their order is arbitrary.
fn metrics(all: &Json) -> Json {
    let name = |metric: &Json| metric["1"].as_str().expect("a name").to_owned();
    let metrics = all.as_array().expect("metrics").iter().map(|metric| {
        let step = metric["5"]
            .as_u64()
            .map(|number| name(&all[number as usize - 1]));
        (
            name(metric),
            serde_json::json!([step, metric["6"], metric["7"]]),
        )
    });
    Json::Object(metrics.collect())
}

fn artifact(artifact: &Json) -> Json {
    let mut artifact = artifact.clone();
    artifact["input"]
        .as_object_mut()
        .expect("an input")
        .retain(|_, value| !value.is_null());
    let list = artifact["files"]["manifest.json"]["text"]
        .as_str()
        .expect("a manifest");
    let mut list: Json = serde_json::from_str(list).expect("JSON");
    for entry in list["contents"]
        .as_object_mut()
        .expect("files")
        .values_mut()
    {
        let entry = entry.as_object_mut().expect("a file");
        entry.remove("local_path"); // of this machine
        entry.remove("skip_cache"); // of that program
    }
    artifact["files"]["manifest.json"] = list;
    artifact
}

#[test]
fn upload_equals_wandb_sync_of_the_same_log() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut logged = Logged::new();
    logged.all_kinds();
    is_complete(&logged.upload(&server.url()).0.finish_in(LONG));
    assert_same_as_wandb_sync(&server, &logged);
}

/// Checks that a server has the same as another after `wandb sync` of the log, if that program is installed.
pub(super) fn assert_same_as_wandb_sync(server: &Server, logged: &Logged) {
    let (Some(judge), Some(theirs)) = (Judge::modern(), Server::start(&[])) else {
        return;
    };
    let copied = tempfile::tempdir().expect("a temporary directory");
    let folder = copied.path().join("offline-run-20261121_000000-abc12345");
    copy(logged.dir.path(), &folder);
    let output = Command::new(judge.bin("wandb"))
        .arg("sync")
        .arg(&folder)
        .env("WANDB_BASE_URL", theirs.url())
        .env("WANDB_API_KEY", KEY)
        .env("WANDB_ERROR_REPORTING", "false")
        .env("HOME", copied.path())
        .current_dir(copied.path())
        .output()
        .expect("wandb starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let (ours, theirs) = (server.dump(), theirs.dump());
    assert_eq!(ours["problems"], serde_json::json!([]));
    let [ours, theirs] = [ours, theirs].map(|dump| normal(&dump));
    let mut differences = Vec::new();
    compare("", &ours, &theirs, &mut differences);
    assert!(
        differences.is_empty(),
        "ours, theirs:\n{}",
        differences.join("\n")
    );
}

/// Collects the differences of two dumps, one per line.
fn compare(path: &str, ours: &Json, theirs: &Json, differences: &mut Vec<String>) {
    if let (Json::Object(left), Json::Object(right)) = (ours, theirs) {
        let keys: BTreeSet<_> = left.keys().chain(right.keys()).collect();
        for key in keys {
            compare(
                &format!("{path}/{key}"),
                &ours[key],
                &theirs[key],
                differences,
            );
        }
    } else if let (Json::Array(left), Json::Array(right)) = (ours, theirs)
        && left.len() == right.len()
    {
        for (index, (ours, theirs)) in left.iter().zip(right).enumerate() {
            compare(&format!("{path}/{index}"), ours, theirs, differences);
        }
    } else if let (Some(left), Some(right)) = (ours.as_f64(), theirs.as_f64()) {
        // W&B's client writes 1.0 as 1.
        if left.to_bits() != right.to_bits() {
            differences.push(format!("{path}: {left:?}, {right:?}"));
        }
    } else if ours != theirs {
        let short = |json: &Json| json.to_string().chars().take(300).collect::<String>();
        differences.push(format!("{path}: {}, {}", short(ours), short(theirs)));
    }
}
