mod answers;
mod files;
mod logs;
mod refused;
mod resumed;
mod run;
mod same;
#[path = "../../tests/support/wandb_server.rs"]
mod server;

use super::{Finished, UploadMessage};
use run::{Logged, PACE};
use serde_json::{Value as Json, json};
use server::{Line, Server, wait_until};
use std::thread;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_mins(1);

fn rows(run: &Json) -> Vec<u64> {
    let rows = run["history"].as_array().expect("rows");
    rows.iter()
        .map(|row| row["_step"].as_u64().expect("a row"))
        .collect()
}

fn is_complete(finished: &Finished) {
    assert_eq!(finished.left, None);
}

#[test]
fn run_is_uploaded_while_it_trains_and_its_page_is_reported() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut logged = Logged::new();
    logged.rows(3);
    let (uploader, inbox) = logged.upload(&server.url());
    wait_until("three rows", || num_rows(&server.dump()) == 3);
    logged.rows(2);
    wait_until("five rows", || num_rows(&server.dump()) == 5);
    let page = format!("{}/tester/birds%20of%20prey/runs/abc12345", server.url());
    assert_eq!(inbox.messages(), [UploadMessage::Url(page)]);

    thread::sleep(PACE.heartbeat * 3);
    let requests = server.run()["requests"].as_u64().expect("a count");
    assert!(requests >= 4, "no heartbeat: {requests} requests");
    logged.exit(3);
    let finished = uploader.finish_in(LONG);
    assert_eq!(
        finished,
        Finished {
            left: None,
            rows: 5
        }
    );
    let run = server.run();
    assert_eq!(
        (rows(&run), &run["exitcode"], &run["complete"]),
        ((0..5).collect(), &json!(3), &json!(true))
    );
}

/// Returns the number of rows of the only run in a dump; 0 before the server knows the run.
fn num_rows(dump: &Json) -> usize {
    let runs = dump["runs"].as_object().expect("runs");
    match runs.values().next() {
        Some(run) => run["history"].as_array().map_or(0, Vec::len),
        None => 0,
    }
}

#[test]
fn invalid_json_in_a_configuration_becomes_null() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut logged = Logged::new();
    logged.configure(&[("odd", "NaN"), ("model", "{\"depth\":3}")]);
    logged.exit(0);
    is_complete(&logged.upload(&server.url()).0.finish_in(LONG));
    let config = server.run()["config"].clone();
    let value = |key: &str| config[key]["value"].clone();
    assert_eq!(
        ["lr", "odd", "model"].map(value),
        [json!(0.1), json!(null), json!({ "depth": 3 })]
    );
    assert!(
        config["_wandb"]["value"]["t"].is_object(),
        "such a run counts as never started"
    );
}

#[test]
fn failing_slow_server_gets_everything_once_it_works() {
    let Some(server) = Server::start(&[
        "--fail-filestream",
        "5",
        "--fail-graphql",
        "4",
        "--slow",
        "0.1",
    ]) else {
        return;
    };
    let mut logged = Logged::new();
    logged.all_kinds();
    let (uploader, inbox) = logged.upload(&server.url());
    is_complete(&uploader.finish_in(LONG));
    let notices = inbox.notices();
    assert!(
        notices.len() <= 2 && notices[0].starts_with("W&B does not answer (503"),
        "{notices:?}"
    );
    assert_eq!(inbox.warnings(), [""; 0]);
    same::assert_same_as_wandb_sync(&server, &logged);
}

#[test]
fn server_that_is_away_for_half_a_minute_gets_everything() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let line = Line::to(server.port);
    let mut logged = Logged::new();
    let (uploader, inbox) = logged.upload(&line.url());
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
        assert!(
            began.elapsed() < Duration::from_millis(500),
            "the writer waited"
        );
    }
    logged.file("notes.txt", "written while the server was away", 0);
    logged.exit(0);
    is_complete(&uploader.finish_in(LONG));
    let run = server.run();
    assert_eq!(rows(&run), (0..340).collect::<Vec<_>>());
    assert_eq!(run["files"]["notes.txt"]["size"], 33);
    let notices = inbox.notices();
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert!(
        notices[0].ends_with("the log keeps what has not been sent"),
        "{notices:?}"
    );
    same::assert_same_as_wandb_sync(&server, &logged);
}

#[test]
fn request_to_stop_is_forwarded_once() {
    let Some(server) = Server::start(&["--stop-after", "3"]) else {
        return;
    };
    let mut logged = Logged::new();
    let (uploader, inbox) = logged.upload(&server.url());
    for _ in 0..8 {
        logged.rows(1);
        thread::sleep(PACE.period);
    }
    logged.exit(0);
    is_complete(&uploader.finish_in(LONG));
    let stops = inbox
        .messages()
        .into_iter()
        .filter(|message| matches!(message, UploadMessage::Stop(_)));
    assert_eq!(
        stops.collect::<Vec<_>>(),
        [UploadMessage::Stop(
            "stopped from the W&B page of the run".to_owned()
        )]
    );
    assert_eq!(rows(&server.run()).len(), 8);
    same::assert_same_as_wandb_sync(&server, &logged);
}

#[test]
fn many_rows_go_in_requests_of_at_most_ten_mebibytes() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut logged = Logged::new();
    let filler = format!("\"{}\"", "x".repeat(120));
    for _ in 0..200_000 {
        logged.row(&[("filler", &filler)]);
    }
    logged.exit(0);
    let (uploader, _) = logged.upload(&server.url());
    is_complete(&uploader.finish_in(LONG * 2));
    let requests = server.row_requests();
    let most = (10 << 20) / (filler.len() as u64 + 80); // a row has more than its filler
    assert!(
        requests.len() >= 4 && requests.iter().all(|(_, count)| *count <= most),
        "{requests:?}"
    );
    let run = server.run();
    let history = run["history"].as_array().expect("rows");
    assert_eq!(
        (history.len(), &history[199_999]["_step"]),
        (200_000, &json!(199_999))
    );
}
