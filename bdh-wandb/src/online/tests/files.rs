//! Files and artifacts arrive, or somebody hears that they did not.

use super::super::Finished;
use super::super::sync::{SyncError, sync_with};
use super::run::{Logged, PACE, settings};
use super::server::Server;
use super::{LONG, is_complete, rows};
use serde_json::{Value as Json, json};
use std::fs;

#[test]
fn a_file_that_is_not_taken_is_told_and_the_run_is_not_called_complete() {
    let Some(server) = Server::start(&["--refuse-puts", "3"]) else {
        return;
    };
    let mut logged = Logged::new();
    logged.file("kept.txt", "kept", 0); // refused at two addresses
    logged.file("other.txt", "other", 0); // taken at the second
    logged.rows(1);
    logged.exit(0);
    let (uploader, ears) = logged.upload(&server.url());
    let left = Some(
        "files or artifacts were not taken, 1 of them: 403 Forbidden: the address has expired"
            .to_owned(),
    );
    assert_eq!(uploader.finish_in(LONG), Finished { left, rows: 1 });
    let problems = ears.problems();
    assert!(
        problems.len() == 1 && problems[0].contains("`upload of file `kept.txt``"),
        "{problems:?}"
    );
    assert_eq!(server.run()["files"]["other.txt"]["text"], "other");
    is_complete(&logged.upload(&server.url()).0.finish_in(LONG));
    assert_eq!(server.run()["files"]["kept.txt"]["text"], "kept");
}

#[test]
fn a_file_that_is_gone_is_a_remark_and_the_rest_arrives() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut logged = Logged::new();
    logged.file("gone.txt", "x", 0);
    logged.file("kept.txt", "kept", 0);
    fs::remove_file(logged.files().join("gone.txt")).expect("a file");
    logged.rows(2);
    logged.exit(0);
    let (uploader, ears) = logged.upload(&server.url());
    is_complete(&uploader.finish_in(LONG));
    let remarks = ears.remarks();
    assert_eq!(remarks.len(), 1, "{remarks:?}");
    assert!(
        remarks[0].ends_with("gone.txt` is not there any more and is not sent"),
        "{remarks:?}"
    );
    assert_eq!((rows(&server.run()).len(), ears.problems()), (2, vec![]));
    assert_eq!(server.run()["files"]["kept.txt"]["text"], "kept");
    assert_eq!(server.run()["files"]["gone.txt"], Json::Null);
}

#[test]
fn an_artifact_of_which_files_are_gone_is_never_called_sent() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut logged = Logged::new();
    logged.artifact("checkpoint");
    logged.artifact("other");
    fs::remove_file(logged.dir.path().join("artifacts/checkpoint/state.json")).expect("a file");
    logged.rows(2);
    logged.exit(0);
    let (uploader, ears) = logged.upload(&server.url());
    let finished = uploader.finish_in(LONG);
    let left = finished.left.expect("something is left");
    assert!(
        left.starts_with("files or artifacts were not taken, 1 of them: `"),
        "{left}"
    );
    assert!(
        left.ends_with("state.json` is not in the run's folder any more"),
        "{left}"
    );
    assert_eq!((ears.problems().len(), finished.rows), (1, 2));
    let error = sync_with(&logged.log(), settings(&server.url()), PACE, LONG);
    assert!(
        matches!(error, Err(SyncError::Files { failed: 1, .. })),
        "{error:?}"
    );
    assert!(!logged.dir.path().join("run-abc12345.wandb.synced").exists());
    assert!(
        logged
            .dir
            .path()
            .join("artifacts/checkpoint/model.bin")
            .exists()
    );
}

#[test]
fn artifacts_of_a_run_that_was_moved_are_found() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut logged = Logged::new();
    logged.artifact("checkpoint");
    logged.exit(0);
    let elsewhere = tempfile::tempdir().expect("a temporary directory");
    let folder = elsewhere.path().join("artifacts/a run");
    super::run::copy(logged.dir.path(), &folder);
    drop(logged);
    let synced = sync_with(&folder, settings(&server.url()), PACE, LONG).expect("a sync");
    assert_eq!(synced.files, 1);
    let artifacts = server.dump()["artifacts"].clone();
    let artifact = artifacts
        .as_object()
        .and_then(|all| all.values().next())
        .expect("an artifact");
    assert_eq!(
        (
            &artifact["committed"],
            &artifact["files"]["state.json"]["text"]
        ),
        (&json!(true), &json!("{}"))
    );
}

#[test]
fn a_log_of_somebody_else_gets_no_file_from_outside_of_its_folder() {
    use crate::proto::{Artifact, Kind, Manifest, ManifestEntry};
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let home = tempfile::tempdir().expect("a temporary directory");
    let secret = home.path().join(".netrc");
    fs::write(&secret, "password of mine").expect("a file");
    let mut logged = Logged::new();
    let root = fs::canonicalize(logged.dir.path()).expect("the run's folder");
    let artifacts = root.join("artifacts");
    fs::create_dir(&artifacts).expect("a folder");
    let mut paths = vec![
        secret.clone(),
        artifacts
            .join("../../")
            .join(secret.strip_prefix("/").expect("a path")),
    ];
    let up: std::path::PathBuf = root.components().map(|_| "..").collect();
    paths.push(
        artifacts
            .join(up)
            .join(secret.strip_prefix("/").expect("a path")),
    );
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&secret, artifacts.join("link")).expect("a link");
        std::os::unix::fs::symlink(&secret, logged.files().join("link.txt")).expect("a link");
        paths.push(artifacts.join("link"));
    }
    let count = paths.len() as u64;
    for path in paths {
        let local_path = path.to_str().expect("Unicode").to_owned();
        let entry = ManifestEntry {
            path: "netrc".to_owned(),
            local_path,
            ..ManifestEntry::default()
        };
        let manifest = Some(Manifest {
            contents: vec![entry],
            ..Manifest::default()
        });
        logged.put(Kind::Artifact(Artifact {
            manifest,
            finalize: true,
            ..Artifact::default()
        }));
    }
    let file = crate::proto::FileItem {
        path: "link.txt".to_owned(),
        policy: 0,
        kind: 1,
    };
    logged.put(Kind::Files(crate::proto::Files { files: vec![file] }));
    logged.exit(0);
    let error = sync_with(&logged.log(), settings(&server.url()), PACE, LONG);
    assert!(
        matches!(error, Err(SyncError::Files { failed, .. }) if failed == count),
        "{error:?}"
    );
    assert!(!server.dump().to_string().contains("password"));
    assert!(
        server
            .requests()
            .iter()
            .all(|request| request["kind"] != "put")
    );
}

#[cfg(unix)]
#[test]
fn a_sync_of_a_folder_from_elsewhere_writes_through_no_link() {
    use std::os::unix::fs::symlink;
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let outside = tempfile::tempdir().expect("a temporary directory");
    let mut logged = Logged::new();
    logged.all_kinds();
    let planted = [
        "run-abc12345.wandb.synced",
        "run-abc12345.wandb.uploaded",
        "run-abc12345.wandb.tmp",
        "files/output.log",
    ];
    for (index, name) in planted.into_iter().enumerate() {
        let target = outside.path().join(index.to_string());
        fs::write(&target, "mine").expect("a file");
        symlink(&target, logged.dir.path().join(name)).expect("a link");
    }
    sync_with(&logged.log(), settings(&server.url()), PACE, LONG).expect("a sync");
    for (index, name) in planted.into_iter().enumerate() {
        let text = fs::read_to_string(outside.path().join(index.to_string())).expect("the file");
        assert_eq!(text, "mine", "{name}");
    }
    // A log that is itself a link is not read.
    let folder = outside.path().join("run");
    fs::create_dir(&folder).expect("a folder");
    symlink(logged.log(), folder.join("run-abc12345.wandb")).expect("a link");
    let error = sync_with(&folder, settings(&server.url()), PACE, LONG).expect_err("a link");
    assert!(
        matches!(&error, SyncError::Log(log) if log.to_string().ends_with("is, or leads through, a link")),
        "{error:?}"
    );
}

#[test]
fn more_files_than_may_wait_arrive_all_the_same() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut logged = Logged::new();
    let names: Vec<_> = (0..150).map(|index| format!("media/{index}.txt")).collect();
    logged.files_at_once(&names);
    logged.rows(3);
    logged.exit(0);
    let (uploader, ears) = logged.upload(&server.url());
    is_complete(&uploader.finish_in(LONG));
    let run = server.run();
    let (held, told) = (run["files"].as_object(), run["uploaded"].as_array());
    assert_eq!(
        (held.map(serde_json::Map::len), told.map(Vec::len)),
        (Some(150), Some(150))
    );
    assert_eq!((rows(&run).len(), ears.remarks()), (3, vec![]));
}

#[test]
fn files_outside_of_the_runs_folder_are_not_sent() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut logged = Logged::new();
    logged.file("../secret.txt", "secret", 0);
    logged.exit(0);
    let (uploader, ears) = logged.upload(&server.url());
    is_complete(&uploader.finish_in(LONG));
    assert_eq!(
        (ears.remarks().len(), &server.run()["files"]),
        (1, &json!({}))
    );
}
