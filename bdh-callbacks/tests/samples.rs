//! Records and files of `samples`.

#[path = "../../bdh/tests/support/tiny.rs"]
mod tiny;

use bdh::cadence::{at, every};
use bdh::{CallbackExt, MemorySink, Record, Value};
use bdh_callbacks::Samples;
use std::path::Path;
use tiny::{Listener, Seen};

fn samples() -> Samples {
    Samples::default()
        .on(every(2))
        .prompts(["abc", "d"])
        .max_tokens(20)
}

/// Returns the records of a run of four steps.
fn records(samples: Samples, seed: u64) -> Vec<Record> {
    let memory = MemorySink::default();
    let run = tiny::run(4)
        .seed(seed)
        .sink(memory.clone())
        .callback(samples);
    let fitted = run
        .build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes");
    assert_eq!(fitted.warnings, []);
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
fn loops_are_reported_once() {
    let (memory, messages) = (MemorySink::default(), Seen::new());
    let greedy = samples().temperature(0.0).max_tokens(60);
    let run = tiny::run(6)
        .sink(memory.clone())
        .sink(Listener(messages.clone()))
        .callback(greedy);
    run.build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes");
    // The model sees only the previous token, so its likeliest text is a loop of at most 11 tokens.
    assert_eq!(
        memory.series("samples/degenerate"),
        [(2, 1.0), (4, 1.0), (6, 1.0)]
    );
    assert_eq!(
        messages.all(),
        ["2 of 2 samples repeat themselves at step 2"]
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
fn stopped_run_is_sampled_at_its_end() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path().join("run");
    let stop = tiny::on_step(|ctx| {
        ctx.stop("enough");
        Ok(())
    });
    let run = tiny::run(9)
        .run_dir(&dir)
        .callback(samples())
        .callback(stop.on(at([5])));
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
fn prefixes_separate_keys_and_files() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path().join("run");
    let memory = MemorySink::default();
    let warm = || samples().temperature(1.0);
    let cold = || samples().temperature(0.0);
    let run = || {
        tiny::run(4)
            .run_dir(&dir)
            .sink(memory.clone())
            .callback(warm())
    };
    let refused = run()
        .callback(cold().named("cold"))
        .build()
        .expect_err("the same keys");
    assert!(refused.to_string().contains("`.prefix("), "{refused}");

    let coldest = cold().prefix("coldest").prefix("cold");
    let run = run()
        .callback(cold().prefix("cold"))
        .callback(coldest)
        .build();
    let run = run.expect("each has its own keys and files");
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
    assert_eq!(run.fit().expect("a run that completes").warnings, []);

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
fn prefix_outside_of_the_run_directory_is_refused() {
    for prefix in [
        "",
        "..",
        "../..",
        "cold/../../..",
        ".hidden",
        "cold/",
        "c:cold",
    ] {
        let error = tiny::run(4)
            .callback(samples().prefix(prefix))
            .build()
            .expect_err(prefix)
            .to_string();
        assert!(
            error.contains(&format!(
                "the prefix `{prefix}` is not a plain name: use one such as"
            )),
            "{error}"
        );
    }
}

#[test]
fn failure_under_a_prefix_does_not_affect_the_next_callback() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let fails = tiny::on_step(|_| panic!("broken")).prefix("broken");
    let run = tiny::run(2).run_dir(dir.path().join("run")).callback(fails);
    run.callback(samples())
        .build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes");
    assert_eq!(pages(&dir.path().join("run")), ["2.md"]);
}

#[test]
fn task_without_vocabulary_is_reported() {
    let mute = bdh::NextToken::new();
    let run = tiny::bare(mute, tiny::Rows::of(2), tiny::Tiny::new(0.0), 4);
    let run = run
        .optimizer(bdh::burn::optim::AdamWConfig::new().build(), 0.01)
        .callback(samples());
    let fitted = run
        .build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes");
    let cause = &fitted.warnings[0].cause;
    assert!(
        cause.contains("set a vocabulary with `NextToken::vocabulary`"),
        "{cause}"
    );
}
