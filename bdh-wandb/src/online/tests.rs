mod answers;
mod files;
mod logs;
mod refused;
mod resumed;
mod run;
mod same;
#[path = "../../tests/support/wandb_server.rs"]
mod server;

use super::{Finished, News};
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
fn a_run_arrives_while_it_goes_on_and_its_page_is_told() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut logged = Logged::new();
    logged.rows(3);
    let (uploader, ears) = logged.upload(&server.url());
    let arrived = |count| {
        move |run: &Json| {
            run["history"]
                .as_array()
                .is_some_and(|rows| rows.len() == count)
        }
    };
    let has = |count: usize| {
        let dump = server.dump();
        dump["runs"]
            .as_object()
            .expect("runs")
            .values()
            .next()
            .is_some_and(arrived(count))
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

#[test]
fn a_configuration_that_is_no_json_is_null_and_the_rest_of_it_stays() {
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
fn a_server_that_fails_and_is_slow_gets_everything_once_it_works() {
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
    let (uploader, ears) = logged.upload(&server.url());
    is_complete(&uploader.finish_in(LONG));
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
    let Some(server) = Server::start(&[]) else {
        return;
    };
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
    let remarks = ears.remarks();
    assert_eq!(remarks.len(), 1, "{remarks:?}");
    assert!(
        remarks[0].ends_with("what it has not got waits in the log"),
        "{remarks:?}"
    );
    same::assert_same_as_wandb_sync(&server, &logged);
}

#[test]
fn a_request_to_stop_is_passed_on_once() {
    let Some(server) = Server::start(&["--stop-after", "3"]) else {
        return;
    };
    let mut logged = Logged::new();
    let (uploader, ears) = logged.upload(&server.url());
    for _ in 0..8 {
        logged.rows(1);
        thread::sleep(PACE.period);
    }
    logged.exit(0);
    is_complete(&uploader.finish_in(LONG));
    let stops = ears
        .heard()
        .into_iter()
        .filter(|news| matches!(news, News::Stop(_)));
    assert_eq!(
        stops.collect::<Vec<_>>(),
        [News::Stop(
            "stopped from the W&B page of the run".to_owned()
        )]
    );
    assert_eq!(rows(&server.run()).len(), 8);
    same::assert_same_as_wandb_sync(&server, &logged);
}

#[test]
fn two_hundred_thousand_rows_go_in_requests_of_at_most_ten_mebibytes() {
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
    let most = (10 << 20) / (filler.len() as u64 + 80); // a row holds more than its filler
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
