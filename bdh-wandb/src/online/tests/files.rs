//! Files and artifacts are sent, or a message reports that they are not.

use super::super::Finished;
use super::super::sync::{SyncError, sync_with};
use super::run::{Logged, PACE, settings};
use super::server::Server;
use super::{LONG, is_complete, rows};
use serde_json::{Value as Json, json};
use std::fs;

#[test]
fn refused_file_gets_a_warning_and_the_run_is_incomplete() {
    let Some(server) = Server::start(&["--refuse-puts", "3"]) else {
        return;
    };
    let mut logged = Logged::new();
    logged.file("kept.txt", "kept", 0); // refused at two addresses
    logged.file("other.txt", "other", 0); // taken at the second
    logged.rows(1);
    logged.exit(0);
    let (uploader, inbox) = logged.upload(&server.url());
    let left = Some(
        "some files or artifacts were not accepted (1): 403 Forbidden: the address has expired"
            .to_owned(),
    );
    assert_eq!(uploader.finish_in(LONG), Finished { left, rows: 1 });
    let warnings = inbox.warnings();
    assert!(
        warnings.len() == 1 && warnings[0].contains("`upload of file `kept.txt``"),
        "{warnings:?}"
    );
    assert_eq!(server.run()["files"]["other.txt"]["text"], "other");
    is_complete(&logged.upload(&server.url()).0.finish_in(LONG));
    assert_eq!(server.run()["files"]["kept.txt"]["text"], "kept");
}

#[test]
fn missing_file_gets_a_notice_and_the_rest_is_sent() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut logged = Logged::new();
    logged.file("gone.txt", "x", 0);
    logged.file("kept.txt", "kept", 0);
    fs::remove_file(logged.files().join("gone.txt")).expect("a file");
    logged.rows(2);
    logged.exit(0);
    let (uploader, inbox) = logged.upload(&server.url());
    is_complete(&uploader.finish_in(LONG));
    let notices = inbox.notices();
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert!(
        notices[0].ends_with("gone.txt` no longer exists and is not sent"),
        "{notices:?}"
    );
    assert_eq!((rows(&server.run()).len(), inbox.warnings()), (2, vec![]));
    assert_eq!(server.run()["files"]["kept.txt"]["text"], "kept");
    assert_eq!(server.run()["files"]["gone.txt"], Json::Null);
}

#[test]
fn artifact_with_missing_files_is_not_sent() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut logged = Logged::new();
    logged.artifact("checkpoint");
    logged.artifact("other");
    fs::remove_file(logged.dir.path().join("artifacts/checkpoint/state.json")).expect("a file");
    logged.rows(2);
    logged.exit(0);
    let (uploader, inbox) = logged.upload(&server.url());
    let finished = uploader.finish_in(LONG);
    let left = finished.left.expect("something is left");
    assert!(
        left.starts_with("some files or artifacts were not accepted (1): `"),
        "{left}"
    );
    assert!(
        left.ends_with("state.json` is no longer in the run's folder"),
        "{left}"
    );
    assert_eq!((inbox.warnings().len(), finished.rows), (1, 2));
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
fn artifacts_of_a_moved_run_are_found() {
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
fn crafted_log_gets_no_file_from_outside_of_its_folder() {
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
fn sync_writes_through_no_link() {
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
    // A log that is a link is not read.
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
fn more_files_than_the_queue_holds_are_sent() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut logged = Logged::new();
    let names: Vec<_> = (0..150).map(|index| format!("media/{index}.txt")).collect();
    logged.files_at_once(&names);
    logged.rows(3);
    logged.exit(0);
    let (upload, inbox) = logged.upload(&server.url());
    is_complete(&upload.finish_in(LONG));
    let run = server.run();
    let (files, uploaded) = (run["files"].as_object(), run["uploaded"].as_array());
    assert_eq!(
        (files.map(serde_json::Map::len), uploaded.map(Vec::len)),
        (Some(150), Some(150))
    );
    assert_eq!((rows(&run).len(), inbox.notices()), (3, vec![]));
}

#[test]
fn files_outside_of_the_runs_folder_are_not_sent() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut logged = Logged::new();
    logged.file("../secret.txt", "secret", 0);
    logged.exit(0);
    let (uploader, inbox) = logged.upload(&server.url());
    is_complete(&uploader.finish_in(LONG));
    assert_eq!(
        (inbox.notices().len(), &server.run()["files"]),
        (1, &json!({}))
    );
}
