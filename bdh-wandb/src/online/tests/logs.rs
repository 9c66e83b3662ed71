//! Logs on the disk are sent as a whole, whatever is wrong in them.

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
fn a_row_that_w_and_b_would_not_take_is_left_out_and_told() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut logged = Logged::new();
    logged.rows(1);
    logged.row(&[("text", &format!("\"{}\"", "x".repeat(10_383_360)))]);
    logged.rows(1);
    logged.exit(0);
    let (uploader, ears) = logged.upload(&server.url());
    assert_eq!(
        uploader.finish_in(LONG),
        Finished {
            left: None,
            rows: 2
        }
    );
    assert_eq!(rows(&server.run()), [0, 2]);
    let remarks = ears.remarks();
    assert!(
        remarks.len() == 1 && remarks[0].ends_with("is not sent: W&B takes 10,383,360"),
        "{remarks:?}"
    );
    // It is not counted the next time either.
    logged.rows(1);
    logged.exit(0);
    is_complete(&logged.upload(&server.url()).0.finish_in(LONG));
    assert_eq!(rows(&server.run()), [0, 2, 3]);
}

#[test]
fn a_damaged_entry_of_a_log_is_told_and_the_others_arrive() {
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
    let (uploader, ears) = logged.upload(&server.url());
    is_complete(&uploader.finish_in(LONG));
    assert_eq!(rows(&server.run()), [0, 2]);
    let remarks = ears.remarks();
    assert!(
        remarks.len() == 1 && remarks[0].starts_with("the W&B log is damaged"),
        "{remarks:?}"
    );
}

#[test]
fn a_log_on_the_disk_is_sent_as_a_whole_and_the_next_time_only_what_is_new() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut logged = Logged::new();
    logged.rows(4);
    let sync = |path: &std::path::Path| sync_with(path, settings(&server.url()), PACE, LONG);
    let synced = sync(logged.dir.path()).expect("a sync");
    let page = format!("{}/tester/birds%20of%20prey/runs/abc12345", server.url());
    assert_eq!((synced.url, synced.rows, synced.files), (Some(page), 4, 0));
    assert_eq!(server.run()["exitcode"], 1, "it was killed");
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
fn a_sync_that_cannot_work_says_why() {
    let logged = Logged::new();
    let empty = tempfile::tempdir().expect("a temporary directory");
    let error = sync_with(empty.path(), settings("http://127.0.0.1:1"), PACE, LONG);
    assert!(matches!(error, Err(SyncError::NoLog { .. })), "{error:?}");
    let patience = Duration::from_millis(100);
    let error = sync_with(
        &logged.log(),
        settings("http://127.0.0.1:1"),
        PACE,
        patience,
    );
    assert!(
        matches!(error, Err(SyncError::Unreachable { .. })),
        "{error:?}"
    );
    fs::File::create(empty.path().join("x.wandb"))
        .and_then(|mut file| file.write_all(b"no log"))
        .expect("a file");
    let error = sync_with(empty.path(), settings("http://127.0.0.1:1"), PACE, patience);
    assert!(matches!(error, Err(SyncError::Log(_))), "{error:?}");
}

#[test]
fn a_log_that_does_not_say_which_run_it_is_of_is_not_called_sent() {
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
    let (uploader, ears) = logged.upload(&server.url());
    let left = Some("the log does not say which run it is of".to_owned());
    assert_eq!(uploader.finish_in(LONG), Finished { left, rows: 0 });
    assert_eq!(ears.problems().len(), 1);
    assert_eq!(server.requests().len(), 0);
}
