//! Uploads that resume send everything once.

use super::super::Finished;
use super::run::{Logged, PACE};
use super::server::Server;
use super::{LONG, is_complete, rows};
use serde_json::{Value as Json, json};
use std::{fs, thread};

#[test]
fn resumed_upload_sends_no_row_twice() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut logged = Logged::new();
    let output = |logged: &mut Logged, line: &str| {
        use crate::proto::{Kind, Output};
        logged.put(Kind::Output(Output {
            stream: 1,
            timestamp: None,
            line: format!("{line}\n"),
        }));
    };
    logged.rows(40);
    output(&mut logged, "first");
    logged.exit(0);
    is_complete(&logged.upload(&server.url()).0.finish_in(LONG));
    assert_eq!(server.row_requests(), [(0, 40)]);

    let (uploader, _) = logged.upload(&server.url());
    logged.rows(25);
    output(&mut logged, "second");
    thread::sleep(PACE.period * 3);
    logged.rows(5);
    logged.exit(1);
    assert_eq!(
        uploader.finish_in(LONG),
        Finished {
            left: None,
            rows: 70
        }
    );
    let run = server.run();
    assert_eq!(
        (rows(&run), &run["exitcode"]),
        ((0..70).collect(), &json!(1))
    );
    let lines: Vec<_> = run["output"]
        .as_object()
        .expect("lines")
        .values()
        .cloned()
        .collect();
    assert_eq!(
        lines,
        [
            "1970-01-01T00:00:00.000000 first",
            "1970-01-01T00:00:00.000000 second"
        ]
    );
    let mut next = 0;
    for (offset, count) in server.row_requests() {
        assert_eq!(offset, next, "a row was sent twice, or left out");
        next += count;
    }
    assert_eq!(next, 70);
}

#[test]
fn new_log_under_an_old_id_follows_the_existing_rows() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut logged = Logged::new();
    for session in 0..2 {
        logged = Logged::new();
        logged.rows(9);
        logged.row(&[("nan", "NaN")]);
        logged.summarize(&[("_step", "9"), ("nan", "NaN")]);
        logged.exit(0);
        is_complete(&logged.upload(&server.url()).0.finish_in(LONG));
        is_complete(&logged.upload(&server.url()).0.finish_in(LONG)); // a second time: nothing is left to send
        assert_eq!(server.run()["summary"]["_step"], 9 + 10 * session);
    }
    assert_eq!(server.row_requests(), [(0, 10), (10, 10)]);
    logged.rows(5);
    logged.exit(0);
    is_complete(&logged.upload(&server.url()).0.finish_in(LONG));
    assert_eq!(
        rows(&server.run()),
        (0..25).collect::<Vec<_>>(),
        "W&B drops a `_step` that goes back"
    );
}

#[test]
fn new_log_follows_a_summary_that_is_ahead_of_its_rows() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    for _ in 0..2 {
        let mut logged = Logged::new();
        logged.rows(3);
        logged.summarize(&[("_step", "7")]);
        logged.exit(0);
        is_complete(&logged.upload(&server.url()).0.finish_in(LONG));
    }
    assert_eq!(rows(&server.run()), [0, 1, 2, 8, 9, 10]);
    assert_eq!(server.run()["summary"]["_step"], 15);
}

#[test]
fn resumed_upload_sends_no_file_twice_unless_the_run_is_lost() {
    let [Some(server), Some(other)] = [Server::start(&[]), Server::start(&[])] else {
        return;
    };
    let puts = |server: &Server| {
        let puts = server
            .requests()
            .into_iter()
            .filter(|request| request["kind"] == "put");
        let name = |put: Json| {
            put["path"]
                .as_str()
                .and_then(|path| Some(path.rsplit_once('/')?.1.to_owned()))
        };
        puts.filter_map(name).collect::<Vec<_>>()
    };
    let mut logged = Logged::new();
    logged.file("one.txt", "1", 0);
    logged.artifact("checkpoint");
    logged.exit(0);
    is_complete(&logged.upload(&server.url()).0.finish_in(LONG));
    let first = ["one.txt", "model.bin", "state.json", "manifest.json"];
    assert_eq!(puts(&server), first);

    logged.file("two.txt", "2", 0);
    logged.exit(0);
    is_complete(&logged.upload(&server.url()).0.finish_in(LONG));
    assert_eq!(puts(&server)[4..], ["two.txt"]);
    is_complete(&logged.upload(&other.url()).0.finish_in(LONG));
    assert_eq!(puts(&other)[..4], first);
}

#[test]
fn files_are_sent_after_a_log_was_cut_and_grew_again() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let mut logged = Logged::new();
    logged.rows(3);
    logged.file("early.txt", "early", 0);
    logged.artifact("first");
    logged.exit(0);
    is_complete(&logged.upload(&server.url()).0.finish_in(LONG));

    logged.resume_at(10);
    logged.rows(1);
    logged.file("late.txt", "late", 0);
    logged.artifact("second");
    logged.rows(60); // longer than it was
    logged.exit(0);
    is_complete(&logged.upload(&server.url()).0.finish_in(LONG));
    let dump = server.dump();
    assert_eq!(server.run()["files"]["late.txt"]["text"], "late");
    assert_eq!(
        dump["artifacts"].as_object().map(serde_json::Map::len),
        Some(2)
    );
    assert_eq!(rows(&server.run()), (0..63).collect::<Vec<_>>());
}

#[test]
fn repaired_log_is_sent_without_gaps_or_duplicates() {
    for is_sent in [true, false] {
        let Some(server) = Server::start(&[]) else {
            return;
        };
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
        is_complete(&logged.upload(&server.url()).0.finish_in(LONG));
        if is_sent {
            damage(&logged);
        }
        fs::remove_dir_all(logged.dir.path().join("artifacts")).expect("the staged files");

        logged.resume_at(90); // which repairs it
        logged.file("late.txt", "late", 0);
        logged.artifact("second");
        logged.rows(3);
        logged.exit(0);
        is_complete(&logged.upload(&server.url()).0.finish_in(LONG));
        let all = (0..13).filter(|row| is_sent || *row != 2);
        assert_eq!(rows(&server.run()), all.collect::<Vec<_>>());
        assert_eq!(server.run()["files"]["late.txt"]["text"], "late");
        assert_eq!(
            server.dump()["artifacts"]
                .as_object()
                .map(serde_json::Map::len),
            Some(2)
        );
    }
}
