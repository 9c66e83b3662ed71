//! What `samples` leaves behind, and what it does not touch.

#[path = "../../bdh/tests/support/tiny.rs"]
mod tiny;

use bdh::{Attach, MemorySink, Record, Value, at, every};
use bdh_callbacks::{Samples, SamplesBuilder};
use std::path::Path;
use tiny::{Listener, Seen};

fn samples() -> SamplesBuilder {
    Samples::builder()
        .cadence(every(2))
        .prompts(["abc", "d"])
        .max_tokens(20_usize)
}

/// The records of a run of four steps.
fn records(samples: SamplesBuilder, seed: u64) -> Vec<Record> {
    let memory = MemorySink::default();
    let samples = samples.build().expect("valid settings");
    let run = tiny::run(4)
        .seed(seed)
        .sink(memory.clone())
        .callback(samples);
    let fitted = run
        .build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes");
    assert_eq!(fitted.problems, []);
    memory.records()
}

fn texts(record: &Record) -> Vec<String> {
    let text = |(key, value): &(String, Value)| match value {
        Value::Text(text) if key.starts_with("samples/") => Some(text.clone()),
        _ => None,
    };
    record.values.iter().filter_map(text).collect()
}

#[test]
fn each_prompt_is_continued_and_measured() {
    let record = &records(samples(), 0)[1];
    let texts = texts(record);
    assert!(
        texts[0].starts_with("abc") && texts[1].starts_with('d'),
        "{texts:?}"
    );
    assert_eq!(texts.iter().map(String::len).collect::<Vec<_>>(), [23, 21]);
    let table = record
        .values
        .iter()
        .find(|(key, _)| key == "samples")
        .expect("a table");
    let Value::Table { columns, rows } = &table.1 else {
        panic!("{table:?}")
    };
    assert_eq!(columns.join(" ")[..22], *"prompt text distinct_1");
    assert_eq!((rows.len(), rows[0].len()), (2, columns.len()));
    assert_eq!([rows[0][0].clone(), rows[0][1].clone()].concat(), texts[0]);
    assert!(record.scalar("samples/log_prob").expect("a figure") < 0.0);
}

#[test]
fn seeds_come_from_the_run_the_step_and_the_prompt() {
    let first = records(samples(), 0);
    assert_eq!(texts(&first[1]), texts(&records(samples(), 0)[1]));
    assert_ne!(texts(&first[1]), texts(&records(samples(), 1)[1]));
    let twice = texts(&records(samples().prompts(["a", "a", "b"]), 0)[1]);
    assert_eq!(twice[0], twice[1]);
    assert_ne!(twice[1][1..], twice[2][1..]);
    assert_ne!(texts(&first[1]), texts(&first[3]));
}

#[test]
fn loops_raise_an_alarm_that_is_told_once() {
    let (memory, heard) = (MemorySink::default(), Seen::new());
    let greedy = samples()
        .temperature(0.0)
        .max_tokens(60_usize)
        .build()
        .expect("valid settings");
    let run = tiny::run(6)
        .sink(memory.clone())
        .sink(Listener(heard.clone()))
        .callback(greedy);
    run.build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes");
    // The model knows only the token before: its likeliest text is a circle of at most 11.
    assert_eq!(
        memory.series("samples/degenerate"),
        [(2, 1.0), (4, 1.0), (6, 1.0)]
    );
    assert_eq!(
        heard.all(),
        ["samples of step 2 go round in circles: 2 of 2"]
    );
}

fn pages(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir.join("samples")).expect("a folder");
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.expect("an entry").file_name();
    let mut names: Vec<_> = entries
        .map(|entry| name(entry).to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_stopped_run_is_sampled_where_it_ended() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path().join("run");
    let stop = tiny::on_step(|at| {
        at.stop("enough");
        Ok(())
    });
    let samples = samples().build().expect("valid settings");
    let run = tiny::run(9)
        .run_dir(&dir)
        .callback(samples)
        .callback(stop.every(at([5])));
    let fitted = run
        .build()
        .expect("a valid run")
        .fit()
        .expect("a run that stops");
    assert_eq!(pages(&dir), ["2.md", "4.md", "5.md"]);
    assert!(
        fitted
            .last
            .expect("a record")
            .scalar("samples/entropy")
            .is_some()
    );
    let page = std::fs::read_to_string(dir.join("samples/4.md")).expect("a page");
    assert!(
        page.starts_with("# Samples of step 4\n\n## 0\n\n```text\nabc"),
        "{page}"
    );
}

#[test]
fn two_in_one_run_each_have_keys_and_files_of_their_own() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path().join("run");
    let memory = MemorySink::default();
    let at = |temperature: f64| {
        samples()
            .temperature(temperature)
            .build()
            .expect("a temperature")
    };
    let run = || {
        tiny::run(4)
            .run_dir(&dir)
            .sink(memory.clone())
            .callback(at(1.0))
    };
    let refused = run()
        .callback(at(0.0).named("cold"))
        .build()
        .err()
        .expect("the same keys");
    assert!(refused.to_string().contains("`.prefix("), "{refused}");

    let coldest = at(0.0).prefix("coldest").prefix("cold");
    let run = run()
        .callback(at(0.0).prefix("cold"))
        .callback(coldest)
        .build();
    let run = run.expect("each has keys and files of its own");
    let files = &run.plan().files;
    let pages: Vec<_> = files
        .iter()
        .filter(|file| file.starts_with("samples/"))
        .collect();
    let expected = [
        "samples/2.md",
        "samples/4.md",
        "samples/cold/2.md",
        "samples/cold/4.md",
        "samples/cold/coldest/2.md",
        "samples/cold/coldest/4.md",
    ];
    assert_eq!(pages, expected.each_ref());
    assert_eq!(run.fit().expect("a run that completes").problems, []);

    let record = &memory.records()[3];
    for (folder, group) in [("samples", "samples"), ("samples/cold", "samples/cold")] {
        let page = std::fs::read_to_string(dir.join(folder).join("4.md")).expect("a page");
        let text = record
            .values
            .iter()
            .find(|(key, _)| *key == format!("{group}/0"));
        let Some((_, Value::Text(text))) = text else {
            panic!("{record:?}")
        };
        assert!(page.contains(text.as_str()), "{folder}: {page}");
    }
    let read = |page: &str| std::fs::read(dir.join(page)).expect("a page");
    assert_ne!(
        read(expected[1]),
        read(expected[3]),
        "of another temperature"
    );
    assert_eq!(read(expected[3]), read(expected[5]));
}

#[test]
fn a_prefix_that_leads_out_of_the_run_directory_is_refused() {
    for prefix in [
        "",
        "..",
        "../..",
        "cold/../../..",
        ".hidden",
        "cold/",
        "c:cold",
    ] {
        let samples = samples().build().expect("valid settings").prefix(prefix);
        let error = tiny::run(4)
            .callback(samples)
            .build()
            .err()
            .expect(prefix)
            .to_string();
        assert!(
            error.contains(&format!("its prefix is `{prefix}`; use a name such as")),
            "{error}"
        );
    }
}

#[test]
fn a_callback_that_fails_under_its_prefix_leaves_the_next_one_without_it() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let fails = tiny::on_step(|_| panic!("broken")).prefix("broken");
    let run = tiny::run(2).run_dir(dir.path().join("run")).callback(fails);
    let run = run
        .callback(samples().build().expect("valid settings"))
        .build();
    run.expect("a valid run")
        .fit()
        .expect("a run that completes");
    assert_eq!(pages(&dir.path().join("run")), ["2.md"]);
}

#[test]
fn a_task_that_cannot_generate_says_so() {
    let samples = samples().build().expect("valid settings");
    let mute = bdh::NextToken::new(tiny::Rows::of(2), tiny::val());
    let run = tiny::compose(mute, tiny::Tiny::new(0.0), 4);
    let run = run
        .optimizer(bdh::burn::optim::AdamWConfig::new().build(), 0.01)
        .callback(samples);
    let fitted = run
        .build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes");
    assert!(
        fitted.problems[0]
            .error
            .contains("does it have a vocabulary?"),
        "{:?}",
        fitted.problems
    );
}
