//! Servers that refuse, are away or do not answer, and keys that are sent nowhere else.

use super::super::resume::check_resume;
use super::super::sync::{SyncError, sync_with};
use super::super::{Finished, Pace, Upload, UploadMessage, Uploader};
use super::run::{Inbox, KEY, Logged, PACE, holds, settings, settings_with};
use super::server::{Line, Server, always, wait_until};
use super::{LONG, is_complete, rows};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bdh::Warning;
use serde_json::json;
use std::time::{Duration, Instant};
use std::{fs, thread};

#[test]
fn refused_key_gets_one_warning_that_does_not_contain_it() {
    const NO: &str = "HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json\r\nConnection: close\r\n\
        Content-Length: 49\r\n\r\n{\"errors\":[{\"message\":\"api key is not the right\"}]}";
    let (url, asked) = always(Some(NO));
    let mut logged = Logged::new();
    logged.all_kinds();
    let (uploader, inbox) = logged.upload(&url);
    wait_until("the refusal", || !inbox.messages().is_empty());
    let finished = uploader.finish_in(LONG);
    assert!(
        finished
            .left
            .as_ref()
            .is_some_and(|why| why.starts_with("401 Unauthorized")),
        "{finished:?}"
    );
    let messages = inbox.messages();
    let [
        UploadMessage::Warning(Warning {
            source,
            phase,
            consequence,
            ..
        }),
    ] = messages.as_slice()
    else {
        panic!("{messages:?}");
    };
    assert_eq!((source.as_str(), phase.as_str()), ("wandb", "upload"));
    assert_eq!(
        consequence,
        "the run continues without the upload; its log is complete"
    );

    let encoded = BASE64_STANDARD.encode(format!("api:{KEY}"));
    let texts = format!("{messages:?} {finished:?}");
    for secret in [KEY, &encoded] {
        assert!(!texts.contains(secret) && !holds(logged.dir.path(), secret));
    }
    let asked = asked.lock().expect("no panic");
    assert!(!asked.is_empty());
    for request in asked.iter() {
        assert!(!request.contains(KEY) && request.matches(&encoded).count() == 1);
        let first = request.lines().next().expect("a request");
        assert!(first.starts_with("POST /graphql HTTP"), "{first}");
    }
}

#[test]
fn note_is_unchanged_if_the_server_refuses_to_answer() {
    const NO: &str = "HTTP/1.1 401 Unauthorized\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let (url, _asked) = always(Some(NO));
    let mut logged = Logged::new();
    logged.exit(0);
    let note = logged.dir.path().join("run-abc12345.wandb.uploaded");
    let text = format!(
        "{{\"server\":\"{url}\",\"offset\":100,\"before\":{{\"rows\":7,\"lines\":2}},\"shift\":9}}"
    );
    fs::write(&note, &text).expect("a note");
    let error = sync_with(&logged.log(), settings(&url), PACE, LONG);
    assert!(matches!(error, Err(SyncError::Refused { .. })), "{error:?}");
    assert_eq!(fs::read_to_string(&note).expect("the note"), text);
}

#[test]
fn key_is_sent_only_to_the_server_itself() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut logged = Logged::new();
    logged.all_kinds();
    let (uploader, inbox) = logged.upload(&server.url());
    is_complete(&uploader.finish_in(LONG));
    let encoded = BASE64_STANDARD.encode(format!("api:{KEY}"));
    let (texts, received) = (format!("{:?}", inbox.messages()), server.dump().to_string());
    for secret in [KEY, &encoded] {
        assert!(
            !texts.contains(secret)
                && !received.contains(secret)
                && !holds(logged.dir.path(), secret)
        );
    }
}

#[test]
fn finish_times_out_if_the_server_does_not_answer() {
    let (url, _asked) = always(None);
    let mut logged = Logged::new();
    logged.rows(3);
    let began = Instant::now();
    let finished = logged.upload(&url).0.finish_in(Duration::from_millis(300));
    let left = Some("the log was not sent within 300ms".to_owned());
    assert_eq!(finished, Finished { left, rows: 0 });
    drop(logged.upload(&url));
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn end_of_a_run_does_not_wait_long_for_an_absent_server() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let line = Line::to(server.port);
    let mut logged = Logged::new();
    logged.rows(2);
    let pace = Pace {
        farewell: Duration::from_millis(500),
        ..PACE
    };
    let (uploader, inbox) = logged.upload_at(&line.url(), pace);
    wait_until("the first rows", || !server.row_requests().is_empty());
    thread::sleep(PACE.period * 3); // until the answer has arrived
    line.cut();
    logged.file("a.txt", "a", 0);
    logged.artifact("checkpoint");
    logged.rows(1);
    logged.exit(0);
    let began = Instant::now();
    let finished = uploader.finish_in(LONG);
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    assert!(
        finished.left.is_some() && finished.rows == 2,
        "{finished:?}"
    );
    assert_eq!(inbox.warnings(), [""; 0], "the end of the run reports it");

    line.mend();
    is_complete(&logged.upload(&line.url()).0.finish_in(LONG));
    assert_eq!(
        (rows(&server.run()).len(), &server.run()["complete"]),
        (3, &json!(true))
    );
}

#[test]
fn dropped_uploader_ends_soon() {
    let (url, asked) = always(Some(
        "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    ));
    let logged = Logged::new();
    let (uploader, _) = logged.upload(&url);
    let count = || asked.lock().expect("no panic").len();
    wait_until("two attempts", || count() >= 2);
    drop(uploader);
    thread::sleep(Duration::from_millis(300));
    let after = count();
    thread::sleep(PACE.retry_max * 4);
    assert_eq!(count(), after);
}

#[test]
fn must_and_never_ask_the_server_before_the_run_begins() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut logged = Logged::new();
    logged.exit(0);
    is_complete(&logged.upload(&server.url()).0.finish_in(LONG));
    let check = |resume, run_id| {
        let more = [("WANDB_RESUME", resume), ("WANDB_ENTITY", "tester")];
        check_resume(&settings_with(&server.url(), &more), run_id)
            .map_err(|error| error.to_string())
    };
    assert_eq!(check("must", "abc12345"), Ok(()));
    assert_eq!(check("never", "new"), Ok(()));
    assert_eq!(check("allow", "new"), Ok(()));
    let missing = "WANDB_RESUME is `must`, and there is no run `new` to resume; use allow";
    assert_eq!(check("must", "new"), Err(missing.to_owned()));
    let exists = "WANDB_RESUME is `never`, and there is a run `abc12345` already; use allow, or another run id";
    assert_eq!(check("never", "abc12345"), Err(exists.to_owned()));

    let more = [("WANDB_RESUME", "must"), ("WANDB_INIT_TIMEOUT", "0.1")];
    let error =
        check_resume(&settings_with("http://127.0.0.1:1", &more), "new").expect_err("no server");
    assert!(
        error
            .to_string()
            .starts_with("cannot find out from W&B whether the run `new` exists: "),
        "{error}"
    );
}

#[test]
fn uploader_needs_a_key() {
    let logged = Logged::new();
    let settings = crate::settings::Settings {
        api_key: None,
        ..settings("http://127.0.0.1:1")
    };
    let upload = Upload {
        log: logged.log(),
        run: logged.dir.path().to_owned(),
        settings,
        pace: PACE,
    };
    let error = Uploader::start(upload, Inbox::default().notify())
        .err()
        .expect("no key");
    assert_eq!(error.to_string(), "there is no API key");
}
