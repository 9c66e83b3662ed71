use super::lines::RECENT;
use super::*;
use crate::clock::Clock;
use crate::message::Message;
use crate::record::Value;
use std::fs;
use std::sync::mpsc::Receiver;

fn record(step: u64, loss: f64) -> Record {
    let clock = Clock {
        step,
        ..Clock::default()
    };
    Record {
        clock,
        values: vec![("train/loss".to_owned(), Value::Scalar(loss))],
    }
}

/// Returns a sink with a new file in `dir`, and the receiver of its warnings.
fn begun(dir: &Path) -> (Jsonl, Receiver<Message>) {
    let (run, messages) = Feedback::channel();
    let file = begin(&dir.join(Jsonl::FILE)).expect("a new file");
    (
        Jsonl(Some(Log::new(dir, file, &run).expect("a file"))),
        messages,
    )
}

fn write(sink: &mut Jsonl, steps: std::ops::RangeInclusive<u64>) {
    for step in steps {
        sink.write(&record(step, 1.0)).expect("a line");
    }
}

fn steps(path: &Path) -> Vec<u64> {
    let text = fs::read_to_string(path).expect("the lines");
    let step = |line| -> Option<u64> {
        serde_json::from_str::<serde_json::Value>(line).expect("JSON")["step"].as_u64()
    };
    text.lines()
        .map(|line| step(line).expect("a step"))
        .collect()
}

fn texts(messages: &Receiver<Message>) -> Vec<String> {
    messages
        .try_iter()
        .map(|message| message.to_string())
        .collect()
}

#[test]
fn a_resumed_file_loses_later_steps_and_a_torn_last_line() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join(Jsonl::FILE);
    write(&mut begun(dir.path()).0, 1..=4);
    let text = fs::read_to_string(&path).expect("the lines");
    fs::write(&path, &text[..text.len() - 5]).expect("a torn last line");

    let third = record(3, 9.0);
    drop(continue_after(&path, 3, Some(&third)).expect("a file to go on with"));
    let expected: String = text.split_inclusive('\n').take(3).collect();
    assert_eq!(fs::read_to_string(&path).expect("the lines"), expected);
}

#[test]
fn a_resumed_file_gets_a_missing_record_but_no_empty_one() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join(Jsonl::FILE);
    drop(continue_after(&path, 7, None).expect("a file"));
    assert_eq!(fs::read_to_string(&path).expect("the lines"), "");

    let third = record(3, f64::NAN);
    drop(continue_after(&path, 3, Some(&third)).expect("a file"));
    drop(continue_after(&path, 3, Some(&third)).expect("a file"));
    let line = format!("{}\n", third.to_json());
    assert_eq!(fs::read_to_string(&path).expect("the lines"), line);
}

#[test]
fn a_file_that_is_replaced_deleted_or_cut_gets_each_record_once() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join(Jsonl::FILE);
    let (mut sink, messages) = begun(dir.path());
    write(&mut sink, 1..=3);
    let old = fs::read(&path).expect("the lines");
    write(&mut sink, 4..=5);
    let copy = dir.path().join("sedAbCdEf");
    fs::write(&copy, &old).expect("what an editor has read a little earlier");
    fs::rename(&copy, &path).expect("a replaced file");
    write(&mut sink, 6..=6);
    assert_eq!(steps(&path), [1, 2, 3, 4, 5, 6]);

    fs::remove_file(&path).expect("a deleted file");
    write(&mut sink, 7..=7);
    assert_eq!(steps(&path), [1, 2, 3, 4, 5, 6, 7]);

    fs::write(&path, [&old[..], b"{\"torn"].concat()).expect("an older text, in place");
    sink.flush().expect("durable lines");
    assert_eq!(steps(&path), [1, 2, 3, 4, 5, 6, 7]);

    fs::write(&path, "").expect("a cleared file");
    sink.close(&Outcome::Completed).expect("a closed file");
    assert_eq!(steps(&path), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(texts(&messages), Vec::<String>::new());
}

#[test]
fn missing_records_that_are_no_longer_kept_are_reported() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join(Jsonl::FILE);
    let (mut sink, messages) = begun(dir.path());
    write(&mut sink, 1..=2);
    let long = Value::Text("x".repeat(RECENT));
    sink.write(&Record {
        values: vec![("a".to_owned(), long)],
        ..record(3, 0.0)
    })
    .expect("a line");
    write(&mut sink, 4..=4);
    fs::remove_file(&path).expect("a deleted file");
    write(&mut sink, 5..=5);
    assert_eq!(steps(&path), [4, 5]);
    let warnings = texts(&messages);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].contains("lacks records since the start, up to step 3"),
        "{warnings:?}"
    );
}

#[test]
fn missing_records_from_before_a_resume_are_reported() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join(Jsonl::FILE);
    write(&mut begun(dir.path()).0, 1..=3);
    let (run, messages) = Feedback::channel();
    let (file, last) = continue_after(&path, 3, Some(&record(3, 1.0))).expect("a file");
    assert_eq!(last, Some(3));
    let mut log = Log::new(dir.path(), file, &run).expect("a file");
    log.lines.gone = last;
    let mut sink = Jsonl(Some(log));
    write(&mut sink, 4..=4);
    fs::remove_file(&path).expect("a deleted file");
    write(&mut sink, 5..=5);
    assert_eq!(steps(&path), [4, 5]);
    let warnings = texts(&messages);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].contains("lacks records since the start, up to step 3"),
        "{warnings:?}"
    );
}

#[test]
#[cfg(unix)]
fn a_link_is_not_followed_and_the_lines_wait() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join(Jsonl::FILE);
    let elsewhere = dir.path().join("elsewhere");
    fs::write(&elsewhere, "").expect("another file");
    let (mut sink, messages) = begun(dir.path());
    write(&mut sink, 1..=1);
    fs::remove_file(&path).expect("a deleted file");
    std::os::unix::fs::symlink(&elsewhere, &path).expect("a link");
    write(&mut sink, 2..=3);
    assert_eq!(fs::read(&elsewhere).expect("another file"), b"");
    let warnings = texts(&messages);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].ends_with("a link; it is tried again with each record"),
        "{warnings:?}"
    );
    let error = sink
        .close(&Outcome::Completed)
        .expect_err("lines are missing")
        .to_string();
    assert!(
        error.ends_with("the records from step 2 to step 3 are missing"),
        "{error}"
    );
    fs::remove_file(&path).expect("a deleted link");
    write(&mut sink, 4..=4);
    assert_eq!(steps(&path), [1, 2, 3, 4]);
}

#[test]
#[cfg(target_os = "linux")]
fn unwritten_lines_wait_up_to_a_limit() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join(Jsonl::FILE);
    let (mut sink, messages) = begun(dir.path());
    write(&mut sink, 1..=1);
    let log = sink.0.as_mut().expect("it is open");
    // Read-only: each write fails, as on a disk that has trouble.
    let file = std::mem::replace(&mut log.file, File::open(&path).expect("the file"));
    write(&mut sink, 2..=3);
    assert_eq!(texts(&messages).len(), 1);
    sink.0.as_mut().expect("it is open").file = file;
    write(&mut sink, 4..=4);
    assert_eq!(steps(&path), [1, 2, 3, 4]);

    sink.0.as_mut().expect("it is open").file = File::open(&path).expect("the file");
    let quarter = Value::Text("x".repeat(BACKLOG / 4));
    let large = |step| Record {
        values: vec![("a".to_owned(), quarter.clone())],
        ..record(step, 0.0)
    };
    for step in 5..8 {
        sink.write(&large(step)).expect("room in memory");
    }
    let error = sink.write(&large(8)).expect_err("too much").to_string();
    assert!(
        error.ends_with("the records from step 5 to step 8 are missing"),
        "{error}"
    );
    assert_eq!(steps(&path), [1, 2, 3, 4], "whole lines");
    assert_eq!(
        texts(&messages).len(),
        1,
        "the second outage is reported once, too"
    );
}

#[test]
#[cfg(unix)]
fn a_moved_directory_keeps_its_file_apart_from_the_next_run() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (home, moved) = (dir.path().join("run"), dir.path().join("moved"));
    fs::create_dir(&home).expect("a directory");
    let (mut sink, _messages) = begun(&home);
    write(&mut sink, 1..=1);
    fs::rename(home.join(Jsonl::FILE), home.join("other name")).expect("a moved file");
    write(&mut sink, 2..=2);
    assert!(!home.join(Jsonl::FILE).exists());
    fs::rename(home.join("other name"), home.join(Jsonl::FILE)).expect("a moved file");

    fs::rename(&home, &moved).expect("a moved directory");
    fs::create_dir(&home).expect("the directory of another run");
    write(&mut begun(&home).0, 1..=1);
    write(&mut sink, 3..=3);
    assert_eq!(steps(&moved.join(Jsonl::FILE)), [1, 2, 3]);
    assert_eq!(steps(&home.join(Jsonl::FILE)), [1]);

    fs::remove_dir_all(moved).expect("a deleted directory");
    let error = sink
        .write(&record(4, 1.0))
        .expect_err("it can be found nowhere")
        .to_string();
    assert!(
        error.ends_with("metrics.jsonl` has been deleted"),
        "{error}"
    );
    assert_eq!(steps(&home.join(Jsonl::FILE)), [1]);
}
