//! Complete logs are sent even if entries are damaged or too long.

use super::super::Finished;
use super::super::sync::{SyncError, sync_with};
use super::run::{Logged, PACE, settings};
use super::server::Server;
use super::{LONG, is_complete, rows};
use serde_json::json;
use std::fs;
use std::io::Write;
use std::time::Duration;

#[test]
fn too_long_row_is_left_out_with_a_notice() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut logged = Logged::new();
    logged.rows(1);
    logged.row(&[("text", &format!("\"{}\"", "x".repeat(10_383_360)))]);
    logged.rows(1);
    logged.exit(0);
    let (uploader, inbox) = logged.upload(&server.url());
    assert_eq!(
        uploader.finish_in(LONG),
        Finished {
            left: None,
            rows: 2
        }
    );
    assert_eq!(rows(&server.run()), [0, 2]);
    let notices = inbox.notices();
    assert!(
        notices.len() == 1 && notices[0].ends_with("is not sent: W&B accepts at most 10,383,360"),
        "{notices:?}"
    );
    // The next upload does not count it either.
    logged.rows(1);
    logged.exit(0);
    is_complete(&logged.upload(&server.url()).0.finish_in(LONG));
    assert_eq!(rows(&server.run()), [0, 2, 3]);
}

#[test]
fn damaged_entry_gets_a_notice_and_the_others_are_sent() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut logged = Logged::new();
    logged.rows(1);
    let before = fs::metadata(logged.log()).expect("the log").len();
    logged.rows(2);
    logged.exit(0);
    let mut bytes = fs::read(logged.log()).expect("the log");
    bytes[before as usize + 20] ^= 1;
    fs::write(logged.log(), bytes).expect("the log");
    let (uploader, inbox) = logged.upload(&server.url());
    is_complete(&uploader.finish_in(LONG));
    assert_eq!(rows(&server.run()), [0, 2]);
    let notices = inbox.notices();
    assert!(
        notices.len() == 1 && notices[0].starts_with("the W&B log is damaged"),
        "{notices:?}"
    );
}

#[test]
fn second_sync_sends_only_what_is_new() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut logged = Logged::new();
    logged.rows(4);
    let sync = |path: &std::path::Path| sync_with(path, settings(&server.url()), PACE, LONG);
    let synced = sync(logged.dir.path()).expect("a sync");
    let page = format!("{}/tester/birds%20of%20prey/runs/abc12345", server.url());
    assert_eq!((synced.url, synced.rows, synced.files), (Some(page), 4, 0));
    assert_eq!(server.run()["exitcode"], 1, "the run was killed");
    let mark = logged.dir.path().join("run-abc12345.wandb.synced");
    assert!(mark.exists());

    logged.rows(2);
    logged.file("kept.txt", "kept", 1);
    logged.exit(0);
    let synced = sync(&logged.log()).expect("a sync");
    assert_eq!((synced.rows, synced.files), (6, 1));
    let run = server.run();
    assert_eq!(
        (rows(&run), &run["exitcode"]),
        ((0..6).collect(), &json!(0))
    );
}

#[test]
fn failed_sync_has_the_right_error() {
    let logged = Logged::new();
    let empty = tempfile::tempdir().expect("a temporary directory");
    let error = sync_with(empty.path(), settings("http://127.0.0.1:1"), PACE, LONG);
    assert!(matches!(error, Err(SyncError::NoLog { .. })), "{error:?}");
    let timeout = Duration::from_millis(100);
    let error = sync_with(&logged.log(), settings("http://127.0.0.1:1"), PACE, timeout);
    assert!(
        matches!(error, Err(SyncError::Unreachable { .. })),
        "{error:?}"
    );
    fs::File::create(empty.path().join("x.wandb"))
        .and_then(|mut file| file.write_all(b"no log"))
        .expect("a file");
    let error = sync_with(empty.path(), settings("http://127.0.0.1:1"), PACE, timeout);
    assert!(matches!(error, Err(SyncError::Log(_))), "{error:?}");
}

#[test]
fn log_without_a_run_is_not_marked_as_sent() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut logged = Logged::new();
    let begin = fs::metadata(logged.log()).expect("the log").len() as usize;
    logged.rows(2);
    logged.exit(0);
    let mut bytes = fs::read(logged.log()).expect("the log");
    bytes[begin - 1] ^= 1; // the end of the entry of the run
    fs::write(logged.log(), bytes).expect("the log");
    let error = sync_with(&logged.log(), settings(&server.url()), PACE, LONG);
    assert!(matches!(error, Err(SyncError::NoRun)), "{error:?}");
    assert!(!logged.dir.path().join("run-abc12345.wandb.synced").exists());
    let (uploader, inbox) = logged.upload(&server.url());
    let left = Some("the log does not name its run".to_owned());
    assert_eq!(uploader.finish_in(LONG), Finished { left, rows: 0 });
    assert_eq!(inbox.warnings().len(), 1);
    assert_eq!(server.requests().len(), 0);
}
