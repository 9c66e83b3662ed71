mod run;
mod same;
#[path = "../../../../tests/support/wandb_server.rs"]
mod server;

use super::resume::check_resume;
use super::sync::{SyncError, sync_with};
use super::{Finished, News, Pace, Upload, Uploader};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bdh::Problem;
use run::{Ears, KEY, Logged, PACE, holds, settings, settings_with};
use serde_json::{Value as Json, json};
use server::{Line, Server, always, wait_until};
use std::fs;
use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_mins(1);

fn rows(run: &Json) -> Vec<u64> {
    let rows = run["history"].as_array().expect("rows");
    rows.iter().map(|row| row["_step"].as_u64().expect("a row")).collect()
}

fn is_complete(finished: &Finished) {
    assert_eq!(finished.left, None);
}

#[test]
fn a_run_arrives_while_it_goes_on_and_its_page_is_told() {
    let Some(server) = Server::start(&[]) else { return };
    let mut logged = Logged::new();
    logged.rows(3);
    let (uploader, ears) = logged.upload(&server.url());
    let arrived =
        |count| move |run: &Json| run["history"].as_array().is_some_and(|rows| rows.len() == count);
    let has = |count: usize| {
        let dump = server.dump();
        dump["runs"].as_object().expect("runs").values().next().is_some_and(arrived(count))
    };
    wait_until("three rows", || has(3));
    logged.rows(2);
    wait_until("five rows", || has(5));
    let page = format!("{}/tester/birds%20of%20prey/runs/abc12345", server.url());
    assert_eq!(ears.heard(), [News::Url(page)]);

    thread::sleep(PACE.heartbeat * 3);
    let silent = server.run()["requests"].as_u64().expect("a count");
    assert!(silent >= 4, "no sign of life: {silent} requests");
    logged.exit(3);
    let finished = uploader.finish(LONG);
    assert_eq!(finished, Finished { left: None, rows: 5 });
    let run = server.run();
    assert_eq!(
        (rows(&run), &run["exitcode"], &run["complete"]),
        ((0..5).collect(), &json!(3), &json!(true))
    );
}

#[test]
fn a_configuration_that_is_no_json_is_null_and_the_rest_of_it_stays() {
    let Some(server) = Server::start(&[]) else { return };
    let mut logged = Logged::new();
    logged.configure(&[("odd", "NaN"), ("model", "{\"depth\":3}")]);
    logged.exit(0);
    is_complete(&logged.upload(&server.url()).0.finish(LONG));
    let config = server.run()["config"].clone();
    let value = |key: &str| config[key]["value"].clone();
    assert_eq!(["lr", "odd", "model"].map(value), [json!(0.1), json!(null), json!({ "depth": 3 })]);
    assert!(config["_wandb"]["value"]["t"].is_object(), "such a run counts as never started");
}

#[test]
fn a_server_that_fails_and_is_slow_gets_everything_once_it_works() {
    let Some(server) =
        Server::start(&["--fail-filestream", "5", "--fail-graphql", "4", "--slow", "0.1"])
    else {
        return;
    };
    let mut logged = Logged::new();
    logged.all_kinds();
    let (uploader, ears) = logged.upload(&server.url());
    is_complete(&uploader.finish(LONG));
    let remarks = ears.remarks();
    assert!(
        remarks.len() <= 2 && remarks[0].starts_with("W&B does not answer (503"),
        "{remarks:?}"
    );
    assert_eq!(ears.problems(), [""; 0]);
    same::assert_same_as_wandb_sync(&server, &logged);
}

#[test]
fn a_server_that_is_away_for_half_a_minute_misses_nothing() {
    let Some(server) = Server::start(&[]) else { return };
    let line = Line::to(server.port);
    let mut logged = Logged::new();
    let (uploader, ears) = logged.upload(&line.url());
    let has_some =
        || server.dump()["runs"]["tester/birds of prey/abc12345"]["history"][2].is_object();
    for second in 0..34 {
        match second {
            1 => wait_until("the first rows", has_some),
            2 => line.cut(),
            32 => line.mend(),
            _ => thread::sleep(Duration::from_secs(1)),
        }
        let began = Instant::now();
        logged.rows(10);
        assert!(began.elapsed() < Duration::from_millis(500), "the writer waited");
    }
    logged.file("notes.txt", "written while the server was away", 0);
    logged.exit(0);
    is_complete(&uploader.finish(LONG));
    let run = server.run();
    assert_eq!(rows(&run), (0..340).collect::<Vec<_>>());
    assert_eq!(run["files"]["notes.txt"]["size"], 33);
    let remarks = ears.remarks();
    assert_eq!(remarks.len(), 1, "{remarks:?}");
    assert!(remarks[0].ends_with("what it has not got waits in the log"), "{remarks:?}");
    same::assert_same_as_wandb_sync(&server, &logged);
}

#[test]
fn a_request_to_stop_is_passed_on_once() {
    let Some(server) = Server::start(&["--stop-after", "3"]) else { return };
    let mut logged = Logged::new();
    let (uploader, ears) = logged.upload(&server.url());
    for _ in 0..8 {
        logged.rows(1);
        thread::sleep(PACE.period);
    }
    logged.exit(0);
    is_complete(&uploader.finish(LONG));
    let stops = ears.heard().into_iter().filter(|news| matches!(news, News::Stop(_)));
    assert_eq!(
        stops.collect::<Vec<_>>(),
        [News::Stop("stopped from the W&B page of the run".to_owned())]
    );
    assert_eq!(rows(&server.run()).len(), 8);
    same::assert_same_as_wandb_sync(&server, &logged);
}

#[test]
fn a_resumed_upload_sends_no_row_twice() {
    let Some(server) = Server::start(&[]) else { return };
    let mut logged = Logged::new();
    let output = |logged: &mut Logged, line: &str| {
        use crate::sinks::wandb::proto::{Kind, Output};
        logged.put(Kind::Output(Output { stream: 1, timestamp: None, line: format!("{line}\n") }));
    };
    logged.rows(40);
    output(&mut logged, "first");
    logged.exit(0);
    is_complete(&logged.upload(&server.url()).0.finish(LONG));
    assert_eq!(server.row_requests(), [(0, 40)]);

    let (uploader, _) = logged.upload(&server.url());
    logged.rows(25);
    output(&mut logged, "second");
    thread::sleep(PACE.period * 3);
    logged.rows(5);
    logged.exit(1);
    assert_eq!(uploader.finish(LONG), Finished { left: None, rows: 70 });
    let run = server.run();
    assert_eq!((rows(&run), &run["exitcode"]), ((0..70).collect(), &json!(1)));
    let lines: Vec<_> = run["output"].as_object().expect("lines").values().cloned().collect();
    assert_eq!(lines, ["1970-01-01T00:00:00.000000 first", "1970-01-01T00:00:00.000000 second"]);
    let mut next = 0;
    for (offset, count) in server.row_requests() {
        assert_eq!(offset, next, "a row was sent twice, or left out");
        next += count;
    }
    assert_eq!(next, 70);
}

#[test]
fn a_new_log_under_an_old_id_comes_after_the_rows_that_are_there() {
    let Some(server) = Server::start(&[]) else { return };
    let mut logged = Logged::new();
    for session in 0..2 {
        logged = Logged::new();
        logged.rows(9);
        logged.row(&[("nan", "NaN")]);
        logged.summarize(&[("_step", "9"), ("nan", "NaN")]);
        logged.exit(0);
        is_complete(&logged.upload(&server.url()).0.finish(LONG));
        is_complete(&logged.upload(&server.url()).0.finish(LONG)); // once more: nothing is left to send
        assert_eq!(server.run()["summary"]["_step"], 9 + 10 * session);
    }
    assert_eq!(server.row_requests(), [(0, 10), (10, 10)]);
    logged.rows(5);
    logged.exit(0);
    is_complete(&logged.upload(&server.url()).0.finish(LONG));
    assert_eq!(
        rows(&server.run()),
        (0..25).collect::<Vec<_>>(),
        "W&B drops a `_step` that goes back"
    );
}

#[test]
fn a_new_log_goes_behind_a_summary_that_is_further_than_its_rows() {
    let Some(server) = Server::start(&[]) else { return };
    for _ in 0..2 {
        let mut logged = Logged::new();
        logged.rows(3);
        logged.summarize(&[("_step", "7")]);
        logged.exit(0);
        is_complete(&logged.upload(&server.url()).0.finish(LONG));
    }
    assert_eq!(rows(&server.run()), [0, 1, 2, 8, 9, 10]);
    assert_eq!(server.run()["summary"]["_step"], 15);
}

#[test]
fn a_resumed_upload_sends_no_file_twice_unless_the_server_lost_the_run() {
    let [Some(server), Some(other)] = [Server::start(&[]), Server::start(&[])] else { return };
    let puts = |server: &Server| {
        let puts = server.requests().into_iter().filter(|request| request["kind"] == "put");
        let name = |put: Json| {
            put["path"].as_str().and_then(|path| Some(path.rsplit_once('/')?.1.to_owned()))
        };
        puts.filter_map(name).collect::<Vec<_>>()
    };
    let mut logged = Logged::new();
    logged.file("one.txt", "1", 0);
    logged.artifact("checkpoint");
    logged.exit(0);
    is_complete(&logged.upload(&server.url()).0.finish(LONG));
    let first = ["one.txt", "model.bin", "state.json", "manifest.json"];
    assert_eq!(puts(&server), first);

    logged.file("two.txt", "2", 0);
    logged.exit(0);
    is_complete(&logged.upload(&server.url()).0.finish(LONG));
    assert_eq!(puts(&server)[4..], ["two.txt"]);
    is_complete(&logged.upload(&other.url()).0.finish(LONG));
    assert_eq!(puts(&other)[..4], first);
}

#[test]
fn files_of_a_resumed_run_are_sent_where_its_log_was_cut_and_grew_again() {
    let Some(server) = Server::start(&[]) else { return };
    let mut logged = Logged::new();
    logged.rows(3);
    logged.file("early.txt", "early", 0);
    logged.artifact("first");
    logged.exit(0);
    is_complete(&logged.upload(&server.url()).0.finish(LONG));

    logged.go_on(10);
    logged.rows(1);
    logged.file("late.txt", "late", 0);
    logged.artifact("second");
    logged.rows(60); // longer than it was
    logged.exit(0);
    is_complete(&logged.upload(&server.url()).0.finish(LONG));
    let dump = server.dump();
    assert_eq!(server.run()["files"]["late.txt"]["text"], "late");
    assert_eq!(dump["artifacts"].as_object().map(serde_json::Map::len), Some(2));
    assert_eq!(rows(&server.run()), (0..63).collect::<Vec<_>>());
}

#[test]
fn a_repaired_log_is_sent_on_without_a_gap_and_without_a_row_twice() {
    for is_sent in [true, false] {
        let Some(server) = Server::start(&[]) else { return };
        let mut logged = Logged::new();
        logged.rows(2);
        let before = fs::metadata(logged.log()).expect("the log").len();
        logged.rows(1);
        logged.artifact("first");
        logged.rows(7);
        let damage = |logged: &Logged| {
            let mut bytes = fs::read(logged.log()).expect("the log");
            bytes[before as usize + 20] ^= 1; // row 2
            fs::write(logged.log(), bytes).expect("the log");
        };
        if !is_sent {
            damage(&logged);
        }
        is_complete(&logged.upload(&server.url()).0.finish(LONG));
        if is_sent {
            damage(&logged);
        }
        fs::remove_dir_all(logged.dir.path().join("artifacts")).expect("what has arrived");

        logged.go_on(90); // which repairs it
        logged.file("late.txt", "late", 0);
        logged.artifact("second");
        logged.rows(3);
        logged.exit(0);
        is_complete(&logged.upload(&server.url()).0.finish(LONG));
        let all = (0..13).filter(|row| is_sent || *row != 2);
        assert_eq!(rows(&server.run()), all.collect::<Vec<_>>());
        assert_eq!(server.run()["files"]["late.txt"]["text"], "late");
        assert_eq!(server.dump()["artifacts"].as_object().map(serde_json::Map::len), Some(2));
    }
}

#[test]
fn two_hundred_thousand_rows_go_in_requests_of_at_most_ten_mebibytes() {
    let Some(server) = Server::start(&[]) else { return };
    let mut logged = Logged::new();
    let filler = format!("\"{}\"", "x".repeat(120));
    for _ in 0..200_000 {
        logged.row(&[("filler", &filler)]);
    }
    logged.exit(0);
    let (uploader, _) = logged.upload(&server.url());
    is_complete(&uploader.finish(LONG * 2));
    let requests = server.row_requests();
    let most = (10 << 20) / (filler.len() as u64 + 80); // a row holds more than its filler
    assert!(
        requests.len() >= 4 && requests.iter().all(|(_, count)| *count <= most),
        "{requests:?}"
    );
    let run = server.run();
    let history = run["history"].as_array().expect("rows");
    assert_eq!((history.len(), &history[199_999]["_step"]), (200_000, &json!(199_999)));
}

#[test]
fn a_key_that_is_refused_is_told_once_and_is_in_no_file_and_no_text() {
    const NO: &str = "HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json\r\nConnection: close\r\n\
        Content-Length: 49\r\n\r\n{\"errors\":[{\"message\":\"api key is not the right\"}]}";
    let (url, asked) = always(Some(NO));
    let mut logged = Logged::new();
    logged.all_kinds();
    let (uploader, ears) = logged.upload(&url);
    wait_until("the refusal", || !ears.heard().is_empty());
    let finished = uploader.finish(LONG);
    assert!(
        finished.left.as_ref().is_some_and(|why| why.starts_with("401 Unauthorized")),
        "{finished:?}"
    );
    let heard = ears.heard();
    let [News::Problem(Problem { who, during, consequence, .. })] = heard.as_slice() else {
        panic!("{heard:?}");
    };
    assert_eq!((who.as_str(), during.as_str()), ("wandb", "upload"));
    assert_eq!(
        consequence,
        "the run goes on, and W&B gets nothing more of it; its log is complete"
    );

    let encoded = BASE64_STANDARD.encode(format!("api:{KEY}"));
    let said = format!("{heard:?} {finished:?}");
    for secret in [KEY, &encoded] {
        assert!(!said.contains(secret) && !holds(logged.dir.path(), secret));
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
fn a_server_that_refuses_to_say_what_it_has_leaves_the_note_as_it_is() {
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
fn the_key_goes_nowhere_but_to_the_server_itself() {
    let Some(server) = Server::start(&[]) else { return };
    let mut logged = Logged::new();
    logged.all_kinds();
    let (uploader, ears) = logged.upload(&server.url());
    is_complete(&uploader.finish(LONG));
    let encoded = BASE64_STANDARD.encode(format!("api:{KEY}"));
    let (said, received) = (format!("{:?}", ears.heard()), server.dump().to_string());
    for secret in [KEY, &encoded] {
        assert!(
            !said.contains(secret)
                && !received.contains(secret)
                && !holds(logged.dir.path(), secret)
        );
    }
}

#[test]
fn nobody_waits_for_a_server_that_does_not_answer() {
    let (url, _asked) = always(None);
    let mut logged = Logged::new();
    logged.rows(3);
    let began = Instant::now();
    let finished = logged.upload(&url).0.finish(Duration::from_millis(300));
    let left = Some("it was not sent in 300ms".to_owned());
    assert_eq!(finished, Finished { left, rows: 0 });
    drop(logged.upload(&url));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[test]
fn the_end_of_a_run_does_not_wait_long_for_a_server_that_is_away() {
    let Some(server) = Server::start(&[]) else { return };
    let line = Line::to(server.port);
    let mut logged = Logged::new();
    logged.rows(2);
    let pace = Pace { farewell: Duration::from_millis(500), ..PACE };
    let (uploader, ears) = logged.upload_at(&line.url(), pace);
    wait_until("the first rows", || !server.row_requests().is_empty());
    thread::sleep(PACE.period * 3); // and until the answer is back
    line.cut();
    logged.file("a.txt", "a", 0);
    logged.artifact("checkpoint");
    logged.rows(1);
    logged.exit(0);
    let began = Instant::now();
    let finished = uploader.finish(LONG);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(finished.left.is_some() && finished.rows == 2, "{finished:?}");
    assert_eq!(ears.problems(), [""; 0], "whoever waits for the end tells it");

    line.mend();
    is_complete(&logged.upload(&line.url()).0.finish(LONG));
    assert_eq!((rows(&server.run()).len(), &server.run()["complete"]), (3, &json!(true)));
}

#[test]
fn a_file_that_is_not_taken_is_told_and_the_run_is_not_called_complete() {
    let Some(server) = Server::start(&["--refuse-puts", "3"]) else { return };
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
    assert_eq!(uploader.finish(LONG), Finished { left, rows: 1 });
    let problems = ears.problems();
    assert!(
        problems.len() == 1 && problems[0].contains("`upload of file `kept.txt``"),
        "{problems:?}"
    );
    assert_eq!(server.run()["files"]["other.txt"]["text"], "other");
    is_complete(&logged.upload(&server.url()).0.finish(LONG));
    assert_eq!(server.run()["files"]["kept.txt"]["text"], "kept");
}

#[test]
fn an_uploader_that_is_dropped_ends_soon() {
    let (url, asked) =
        always(Some("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"));
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
fn a_file_that_is_gone_is_a_remark_and_the_rest_arrives() {
    let Some(server) = Server::start(&[]) else { return };
    let mut logged = Logged::new();
    logged.file("gone.txt", "x", 0);
    logged.file("kept.txt", "kept", 0);
    fs::remove_file(logged.files().join("gone.txt")).expect("a file");
    logged.rows(2);
    logged.exit(0);
    let (uploader, ears) = logged.upload(&server.url());
    is_complete(&uploader.finish(LONG));
    let remarks = ears.remarks();
    assert_eq!(remarks.len(), 1, "{remarks:?}");
    assert!(remarks[0].ends_with("gone.txt` is not there any more and is not sent"), "{remarks:?}");
    assert_eq!((rows(&server.run()).len(), ears.problems()), (2, vec![]));
    assert_eq!(server.run()["files"]["kept.txt"]["text"], "kept");
    assert_eq!(server.run()["files"]["gone.txt"], Json::Null);
}

#[test]
fn an_artifact_of_which_files_are_gone_is_never_called_sent() {
    let Some(server) = Server::start(&[]) else { return };
    let mut logged = Logged::new();
    logged.artifact("checkpoint");
    logged.artifact("other");
    fs::remove_file(logged.dir.path().join("artifacts/checkpoint/state.json")).expect("a file");
    logged.rows(2);
    logged.exit(0);
    let (uploader, ears) = logged.upload(&server.url());
    let finished = uploader.finish(LONG);
    let left = finished.left.expect("something is left");
    assert!(left.starts_with("files or artifacts were not taken, 1 of them: `"), "{left}");
    assert!(left.ends_with("state.json` is not in the run's folder any more"), "{left}");
    assert_eq!((ears.problems().len(), finished.rows), (1, 2));
    let error = sync_with(&logged.log(), settings(&server.url()), PACE, LONG);
    assert!(matches!(error, Err(SyncError::Files { failed: 1, .. })), "{error:?}");
    assert!(!logged.dir.path().join("run-abc12345.wandb.synced").exists());
    assert!(logged.dir.path().join("artifacts/checkpoint/model.bin").exists());
}

#[test]
fn artifacts_of_a_run_that_was_moved_are_found() {
    let Some(server) = Server::start(&[]) else { return };
    let mut logged = Logged::new();
    logged.artifact("checkpoint");
    logged.exit(0);
    let elsewhere = tempfile::tempdir().expect("a temporary directory");
    let folder = elsewhere.path().join("artifacts/a run");
    run::copy(logged.dir.path(), &folder);
    drop(logged);
    let synced = sync_with(&folder, settings(&server.url()), PACE, LONG).expect("a sync");
    assert_eq!(synced.files, 1);
    let artifacts = server.dump()["artifacts"].clone();
    let artifact = artifacts.as_object().and_then(|all| all.values().next()).expect("an artifact");
    assert_eq!(
        (&artifact["committed"], &artifact["files"]["state.json"]["text"]),
        (&json!(true), &json!("{}"))
    );
}

#[test]
fn a_log_of_somebody_else_gets_no_file_from_outside_of_its_folder() {
    use crate::sinks::wandb::proto::{Artifact, Kind, Manifest, ManifestEntry};
    let Some(server) = Server::start(&[]) else { return };
    let home = tempfile::tempdir().expect("a temporary directory");
    let secret = home.path().join(".netrc");
    fs::write(&secret, "password of mine").expect("a file");
    let mut logged = Logged::new();
    let root = fs::canonicalize(logged.dir.path()).expect("the run's folder");
    let artifacts = root.join("artifacts");
    fs::create_dir(&artifacts).expect("a folder");
    let mut paths = vec![
        secret.clone(),
        artifacts.join("../../").join(secret.strip_prefix("/").expect("a path")),
    ];
    let up: std::path::PathBuf = root.components().map(|_| "..").collect();
    paths.push(artifacts.join(up).join(secret.strip_prefix("/").expect("a path")));
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&secret, artifacts.join("link")).expect("a link");
        std::os::unix::fs::symlink(&secret, logged.files().join("link.txt")).expect("a link");
        paths.push(artifacts.join("link"));
    }
    let count = paths.len() as u64;
    for path in paths {
        let local_path = path.to_str().expect("Unicode").to_owned();
        let entry =
            ManifestEntry { path: "netrc".to_owned(), local_path, ..ManifestEntry::default() };
        let manifest = Some(Manifest { contents: vec![entry], ..Manifest::default() });
        logged.put(Kind::Artifact(Artifact { manifest, finalize: true, ..Artifact::default() }));
    }
    let file =
        crate::sinks::wandb::proto::FileItem { path: "link.txt".to_owned(), policy: 0, kind: 1 };
    logged.put(Kind::Files(crate::sinks::wandb::proto::Files { files: vec![file] }));
    logged.exit(0);
    let error = sync_with(&logged.log(), settings(&server.url()), PACE, LONG);
    assert!(matches!(error, Err(SyncError::Files { failed, .. }) if failed == count), "{error:?}");
    assert!(!server.dump().to_string().contains("password"));
    assert!(server.requests().iter().all(|request| request["kind"] != "put"));
}

#[test]
fn more_files_than_may_wait_arrive_all_the_same() {
    let Some(server) = Server::start(&[]) else { return };
    let mut logged = Logged::new();
    let names: Vec<_> = (0..150).map(|index| format!("media/{index}.txt")).collect();
    logged.files_at_once(&names);
    logged.rows(3);
    logged.exit(0);
    let (uploader, ears) = logged.upload(&server.url());
    is_complete(&uploader.finish(LONG));
    let run = server.run();
    let (held, told) = (run["files"].as_object(), run["uploaded"].as_array());
    assert_eq!((held.map(serde_json::Map::len), told.map(Vec::len)), (Some(150), Some(150)));
    assert_eq!((rows(&run).len(), ears.remarks()), (3, vec![]));
}

#[test]
fn files_outside_of_the_runs_folder_are_not_sent() {
    let Some(server) = Server::start(&[]) else { return };
    let mut logged = Logged::new();
    logged.file("../secret.txt", "secret", 0);
    logged.exit(0);
    let (uploader, ears) = logged.upload(&server.url());
    is_complete(&uploader.finish(LONG));
    assert_eq!((ears.remarks().len(), &server.run()["files"]), (1, &json!({})));
}

#[test]
fn a_row_that_w_and_b_would_not_take_is_left_out_and_told() {
    let Some(server) = Server::start(&[]) else { return };
    let mut logged = Logged::new();
    logged.rows(1);
    logged.row(&[("text", &format!("\"{}\"", "x".repeat(10_383_360)))]);
    logged.rows(1);
    logged.exit(0);
    let (uploader, ears) = logged.upload(&server.url());
    assert_eq!(uploader.finish(LONG), Finished { left: None, rows: 2 });
    assert_eq!(rows(&server.run()), [0, 2]);
    let remarks = ears.remarks();
    assert!(
        remarks.len() == 1 && remarks[0].ends_with("is not sent: W&B takes 10,383,360"),
        "{remarks:?}"
    );
    // It is not counted the next time either.
    logged.rows(1);
    logged.exit(0);
    is_complete(&logged.upload(&server.url()).0.finish(LONG));
    assert_eq!(rows(&server.run()), [0, 2, 3]);
}

#[test]
fn a_damaged_entry_of_a_log_is_told_and_the_others_arrive() {
    let Some(server) = Server::start(&[]) else { return };
    let mut logged = Logged::new();
    logged.rows(1);
    let before = fs::metadata(logged.log()).expect("the log").len();
    logged.rows(2);
    logged.exit(0);
    let mut bytes = fs::read(logged.log()).expect("the log");
    bytes[before as usize + 20] ^= 1;
    fs::write(logged.log(), bytes).expect("the log");
    let (uploader, ears) = logged.upload(&server.url());
    is_complete(&uploader.finish(LONG));
    assert_eq!(rows(&server.run()), [0, 2]);
    let remarks = ears.remarks();
    assert!(remarks.len() == 1 && remarks[0].starts_with("the W&B log is damaged"), "{remarks:?}");
}

#[test]
fn a_log_on_the_disk_is_sent_as_a_whole_and_the_next_time_only_what_is_new() {
    let Some(server) = Server::start(&[]) else { return };
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
    assert_eq!((rows(&run), &run["exitcode"]), ((0..6).collect(), &json!(0)));
}

#[test]
fn a_sync_that_cannot_work_says_why() {
    let logged = Logged::new();
    let empty = tempfile::tempdir().expect("a temporary directory");
    let error = sync_with(empty.path(), settings("http://127.0.0.1:1"), PACE, LONG);
    assert!(matches!(error, Err(SyncError::NoLog { .. })), "{error:?}");
    let patience = Duration::from_millis(100);
    let error = sync_with(&logged.log(), settings("http://127.0.0.1:1"), PACE, patience);
    assert!(matches!(error, Err(SyncError::Unreachable { .. })), "{error:?}");
    fs::File::create(empty.path().join("x.wandb"))
        .and_then(|mut file| file.write_all(b"no log"))
        .expect("a file");
    let error = sync_with(empty.path(), settings("http://127.0.0.1:1"), PACE, patience);
    assert!(matches!(error, Err(SyncError::Log(_))), "{error:?}");
}

#[test]
fn a_log_that_does_not_say_which_run_it_is_of_is_not_called_sent() {
    let Some(server) = Server::start(&[]) else { return };
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
    assert_eq!(uploader.finish(LONG), Finished { left, rows: 0 });
    assert_eq!(ears.problems().len(), 1);
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn must_and_never_ask_the_server_before_the_run_begins() {
    let Some(server) = Server::start(&[]) else { return };
    let mut logged = Logged::new();
    logged.exit(0);
    is_complete(&logged.upload(&server.url()).0.finish(LONG));
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
        check_resume(&settings_with("http://127.0.0.1:1", &more), "new").expect_err("nobody there");
    assert!(
        error.to_string().starts_with("W&B was asked whether there is a run `new`: "),
        "{error}"
    );
}

#[test]
fn without_a_key_nothing_starts() {
    let logged = Logged::new();
    let settings =
        crate::sinks::wandb::settings::Settings { api_key: None, ..settings("http://127.0.0.1:1") };
    let upload = Upload { log: logged.log(), files: logged.files(), settings, pace: PACE };
    let error = Uploader::start(upload, Ears::default().tell()).err().expect("no key");
    assert_eq!(error.to_string(), "there is no API key");
}
