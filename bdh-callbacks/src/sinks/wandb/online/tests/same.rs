//! What the server got from us, held against what it gets from `wandb sync` of the same log.

use super::judges::Judge;
use super::run::{KEY, Logged, copy};
use super::server::Server;
use super::{LONG, is_complete};
use serde_json::{Map, Value as Json};
use std::process::Command;

/// A dump without what names a time, a machine, a program or a server.
pub(super) fn normal(dump: &Json, _url: &str) -> Json {
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
    let artifacts =
        dump["artifacts"].as_object().expect("artifacts").values().map(artifact).collect();
    let runs = dump["runs"].take();
    Json::Object(Map::from_iter([("runs".to_owned(), runs), ("artifacts".to_owned(), artifacts)]))
}

fn artifact(artifact: &Json) -> Json {
    let mut artifact = artifact.clone();
    artifact["input"].as_object_mut().expect("an input").retain(|_, value| !value.is_null());
    let list = artifact["files"]["manifest.json"]["text"].as_str().expect("a manifest");
    let mut list: Json = serde_json::from_str(list).expect("JSON");
    for entry in list["contents"].as_object_mut().expect("files").values_mut() {
        let entry = entry.as_object_mut().expect("a file");
        entry.remove("local_path"); // of this machine
        entry.remove("skip_cache"); // of that program
    }
    artifact["files"]["manifest.json"] = list;
    artifact
}

#[test]
fn the_server_gets_what_wandb_sync_of_the_same_log_sends() {
    let Some(judge) = Judge::modern() else { return };
    let [Some(ours), Some(theirs)] = [Server::start(&[]), Server::start(&[])] else { return };
    let mut logged = Logged::new();
    logged.all_kinds();
    let copied = tempfile::tempdir().expect("a temporary directory");
    let folder = copied.path().join("offline-run-20261121_000000-abc12345");
    copy(logged.dir.path(), &folder);
    is_complete(&logged.upload(&ours.url()).0.finish(LONG));

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
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (ours, theirs) = (ours.dump(), theirs.dump());
    assert_eq!(ours["problems"], serde_json::json!([]));
    let [ours, theirs] = [ours, theirs].map(|dump| normal(&dump, ""));
    assert_eq!(ours, theirs, "\nours: {ours:#}\ntheirs: {theirs:#}");
}
