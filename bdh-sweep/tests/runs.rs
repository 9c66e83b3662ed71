//! Reading runs back from their directories, and comparing them.

use bdh_sweep::runs::{self, Keys, Run, RunStatus, Table};
use bdh_sweep::{Goal, Runner, Sweep, TrialStore, Watcher};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// Writes a run directory by hand.
fn write(dir: &Path, status: &str, args: &Value, lines: &[Value]) {
    fs::create_dir_all(dir).expect("a directory");
    let groups = json!({ "matrix": { "schedule": { "peak": 0.02 } } });
    let config = json!({ "user": { "args": args }, "groups": groups, "trainer": { "seed": 1 } });
    let run = json!({ "steps": 4, "status": status, "outcome": { "failed": "it broke" }, "config": config });
    fs::write(dir.join("run.json"), run.to_string()).expect("a file");
    let lines: Vec<_> = lines.iter().map(ToString::to_string).collect();
    fs::write(dir.join("metrics.jsonl"), lines.join("\n") + "\n").expect("a file");
}

fn line(step: u64, bpb: &Value) -> Value {
    json!({ "val_bpb": bpb, "train/loss": 1.5, "x": { "edges": [1, 2] }, "list": [[1], "a\"b"], "off": false,
            "none": null, "step": step, "tokens": step * 10, "elapsed": step as f64 / 2.0 })
}

fn keys() -> Keys {
    Keys::new("val_bpb")
}

/// Writes five runs: two completed, one diverged, one failed, one died.
fn five() -> TempDir {
    let root = tempfile::tempdir().expect("a temporary directory");
    let dir = |name: &str| root.path().join(name);
    let ended = |value: f64| {
        [
            line(0, &json!(8.0)),
            line(2, &json!(value + 1.0)),
            line(4, &json!(value)),
        ]
    };
    let args = |depth: u64, lr: f64| json!({ "depth": depth, "lr": lr, "width": 64, "name": format!("d{depth}") });
    write(&dir("good"), "completed", &args(4, 1e-3), &ended(2.0));
    write(&dir("deep/er"), "completed", &args(2, 1e-3), &ended(3.0));
    write(
        &dir("wild"),
        "completed",
        &args(2, 9.0),
        &[line(0, &json!(8.0)), line(4, &json!("NaN"))],
    );
    write(
        &dir("broken"),
        "failed",
        &args(3, 1e-4),
        &[line(0, &json!(8.0))],
    );
    write(
        &dir("gone"),
        "running",
        &args(3, 2e-3),
        &[line(0, &json!(8.0)), line(2, &json!(2.5))],
    );
    root
}

#[test]
fn rows_are_sorted_with_missing_values_last() {
    let root = five();
    let found = runs::read_all([root.path()], &keys());
    assert!(found.errors.is_empty());
    let table = Table::of(&found.runs, &keys());
    let names: Vec<_> = table
        .rows
        .iter()
        .map(|row| (row.name.as_str(), row.status.to_string()))
        .collect();
    let expected = [
        ("good", "completed"),
        ("gone", "died"),
        ("deep/er", "completed"),
        ("broken", "failed"),
        ("wild", "diverged"),
    ];
    assert_eq!(
        names,
        expected.map(|(name, status)| (name, status.to_owned()))
    );
    assert_eq!(table.settings, ["depth", "lr"], "names are not settings");
    let good = &table.rows[0];
    assert_eq!(good.settings, [json!(4), json!(1e-3)]);
    assert_eq!(
        (good.steps, good.last_step, good.tokens, good.seconds),
        (4, 4, 40, 2.0)
    );
    assert_eq!(
        (good.end.metric, good.best, good.rates["matrix"]),
        (Some(2.0), Some(2.0), 0.02)
    );
    assert_eq!(table.cuts, ["12.5%", "25%", "50%"]);
    let at: Vec<_> = good.at.iter().map(|at| at.metric).collect();
    assert_eq!(
        at,
        [Some(8.0), Some(8.0), Some(3.0)],
        "a snapshot has the last value before it"
    );
    assert_eq!(
        table.rows[3].at[2].metric, None,
        "a step that was never reached has no snapshot"
    );
}

#[test]
fn higher_can_be_better() {
    let root = five();
    let mut keys = keys();
    keys.goal = Goal::Maximize;
    let found = runs::read_all([root.path()], &keys);
    let table = Table::of(&found.runs, &keys);
    let names: Vec<_> = table.rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, ["broken", "deep/er", "gone", "good", "wild"]);
    assert_eq!(table.rows[3].best, Some(8.0));
}

#[test]
fn only_requested_keys_are_read_and_torn_lines_skipped() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let dir = root.path().join("run");
    write(
        &dir,
        "completed",
        &json!({}),
        &[line(1, &json!("Infinity")), line(2, &json!(-1e-3))],
    );
    let path = dir.join("metrics.jsonl");
    let text = fs::read_to_string(&path).expect("lines");
    fs::write(
        &path,
        format!("{text}\nno json\n{{\"step\":3,\"val_bpb\":\"?\"}}\n{{\"step\":4,\"val_b"),
    )
    .expect("lines");
    let run = Run::read(&dir, &["val_bpb", "nothing"]).expect("a run");
    assert_eq!(run.series("val_bpb"), [(1, f64::INFINITY), (2, -1e-3)]);
    assert_eq!(
        (
            run.last_step,
            run.series("train/loss").len(),
            run.last("nothing")
        ),
        (3, 0, None)
    );
    assert_eq!(
        (run.at("val_bpb", 0), run.at("val_bpb", 9)),
        (None, Some(-1e-3))
    );
    assert_eq!(run.config["groups.matrix.schedule.peak"], 0.02);
    assert_eq!(run.status, RunStatus::Completed);

    fs::remove_file(path).expect("removed");
    assert!(
        Run::read(&dir, &["val_bpb"])
            .expect("a run without records")
            .series
            .is_empty()
    );
    fs::write(dir.join("run.json"), "{}").expect("a file");
    let error = Run::read(&dir, &["val_bpb"])
        .expect_err("no run")
        .to_string();
    assert!(
        error.contains("run.json` does not describe a run"),
        "{error}"
    );
    assert_eq!(
        runs::read_all([root.path()], &keys()).errors.len(),
        1,
        "only that run has an error"
    );
}

#[test]
fn csv_has_all_columns_and_can_be_sorted() {
    let root = five();
    let found = runs::read_all([root.path()], &keys());
    let mut table = Table::of(&found.runs, &keys());
    let lines = |table: &Table| {
        let csv = table.csv();
        let mut reader = csv::Reader::from_reader(csv.as_bytes());
        let rows: Vec<Vec<String>> = reader
            .deserialize()
            .map(|row| row.expect("a row"))
            .collect();
        (
            reader
                .headers()
                .expect("names")
                .iter()
                .map(str::to_owned)
                .collect::<Vec<_>>(),
            rows,
        )
    };
    let (columns, rows) = lines(&table);
    assert_eq!(rows.len(), 5);
    let cell = |rows: &[Vec<String>], row: usize, name: &str| {
        rows[row][columns
            .iter()
            .position(|column| column == name)
            .expect(name)]
        .clone()
    };
    assert_eq!(cell(&rows, 0, "val_bpb"), "2");
    assert_eq!(cell(&rows, 0, "val_bpb@50%"), "3");
    assert_eq!(cell(&rows, 0, "lr/matrix"), "0.02");
    assert_eq!(
        (cell(&rows, 3, "why"), cell(&rows, 4, "val_bpb")),
        ("it broke".to_owned(), "NaN".to_owned())
    );

    table.sort_by("depth").expect("a column");
    let (_, rows) = lines(&table);
    let depths: Vec<_> = (0..5).map(|row| cell(&rows, row, "depth")).collect();
    assert_eq!(depths, ["2", "2", "3", "3", "4"]);
    let error = table
        .sort_by("width")
        .expect_err("all runs have the same width")
        .to_string();
    assert!(
        error.contains("no column `width`") && error.contains("depth, lr"),
        "{error}"
    );
}

#[test]
fn table_fits_a_terminal_and_lists_omitted_columns() {
    let root = five();
    let found = runs::read_all([root.path()], &keys());
    let mut found = found.runs;
    for run in &mut found {
        for number in 0..12 {
            run.chosen
                .insert(format!("some_long_setting_{number}"), json!(number));
        }
    }
    let text = Table::of(&found, &keys()).to_string();
    assert!(
        text.lines()
            .all(|line| line.starts_with("too wide") || line.chars().count() <= 100),
        "{text}"
    );
    assert!(
        text.contains("too wide for a terminal, but in the CSV: ")
            && text.contains("some_long_setting_11")
    );
    assert!(text.contains("broken: it broke"), "{text}");
}

#[test]
fn page_is_one_file_and_escapes_the_contents_of_runs() {
    let root = five();
    let bad = "</script><script>alert(1)</script> $DATA";
    write(
        &root.path().join("bad"),
        "completed",
        &json!({ "depth": bad }),
        &[line(1, &json!(1.0))],
    );
    let found = runs::read_all([root.path()], &keys());
    let html = Table::of(&found.runs, &keys()).html("a <b> $DATA", &found.runs, &keys());
    assert_eq!(
        html.matches("</script>").count(),
        2,
        "the page has two scripts of its own"
    );
    assert!(
        !html.contains("src=") && !html.contains("href=") && !html.contains("<link"),
        "no network"
    );
    assert!(html.contains("<h1>a &lt;b> &#36;DATA</h1>"));
    let data = html
        .split("id=\"data\">")
        .nth(1)
        .and_then(|rest| rest.split("</script>").next());
    let data: Value = serde_json::from_str(data.expect("data")).expect("JSON");
    assert_eq!(data["rows"].as_array().map(Vec::len), Some(6));
    assert_eq!(
        data["curves"]["val_bpb"][1],
        json!([[0, 8.0], [2, 3.0], [4, 2.0]])
    );
    assert_eq!(data["curves"]["val_bpb"][5], json!([[0, 8.0], [4, "NaN"]]));
    assert!(
        data["settings"]
            .as_array()
            .is_some_and(|names| names.contains(&json!("depth")))
    );
}

struct Silent;

impl Watcher for Silent {}

#[test]
#[cfg(unix)]
fn failed_trials_without_a_run_are_rows_with_a_reason() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let yaml = "{method: grid, metric: {name: val_bpb}, parameters: {x: {values: [1, 2]}}, \
                command: [sh, -c, 'echo too little memory; exit 3', '${args}']}";
    let sweep: Sweep = yaml.parse().expect("a sweep");
    let store = TrialStore::open(root.path(), yaml, 1).expect("a trial store");
    Runner::default()
        .run(&sweep, &store, &mut Silent)
        .expect("two failures");
    let found = runs::read_all([root.path()], &keys());
    let table = Table::of(&found.runs, &keys());
    assert_eq!(table.settings, ["x"]);
    assert_eq!(table.rows.len(), 2);
    let why = RunStatus::Failed("exit status: 3: too little memory".to_owned());
    assert_eq!(
        (&table.rows[0].status, &table.rows[1].settings),
        (&why, &vec![json!(2)])
    );
}

#[test]
fn trials_match_the_runs_of_their_own_sweep() {
    let root = tempfile::tempdir().expect("a temporary directory");
    for (sweep, x) in [("a", 1), ("b", 2)] {
        let dir = root.path().join(sweep);
        for number in [1, 2] {
            let run = dir.join(format!("trial-000{number}"));
            fs::create_dir_all(&run).expect("a directory");
            fs::write(run.join("run.json"), r#"{"steps":1,"status":"completed"}"#).expect("a file");
        }
        fs::create_dir(dir.join("trials")).expect("a directory");
        // The second failed with a run, the third without one; the fourth is running.
        for (number, status) in [
            (1, "completed"),
            (2, "failed"),
            (3, "failed"),
            (4, "running"),
        ] {
            let trial = json!({
                "number": number, "values": { "x": 10 * x + number }, "point": [], "status": status, "value": null,
                "why": format!("{sweep}{number}"), "host": "", "began_at": 0.0, "seconds": 1.0,
            });
            let file = dir.join(format!("trials/000{number}.json"));
            fs::write(file, trial.to_string()).expect("a file");
        }
    }
    let found = runs::read_all([root.path()], &keys());
    let rows = found.runs.iter().map(|run| {
        let why = if let RunStatus::Failed(why) = &run.status {
            why
        } else {
            "-"
        };
        format!("{} {} {why}", run.name, run.chosen["x"])
    });
    let expected = [
        "a/trial-0001 11 -",
        "a/trial-0002 12 a2",
        "a/trial-0003 13 a3",
        "b/trial-0001 21 -",
        "b/trial-0002 22 b2",
        "b/trial-0003 23 b3",
    ];
    assert_eq!(rows.collect::<Vec<_>>(), expected);
}

#[test]
fn run_of_an_earlier_version_is_a_row() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bdh/tests/data/first_edition");
    let keys = Keys::new("val/loss");
    let found = runs::read_all([dir.as_path()], &keys);
    assert!(found.errors.is_empty(), "{:?}", found.errors);
    let table = Table::of(&found.runs, &keys);
    let [row] = &table.rows[..] else {
        panic!("{} rows", table.rows.len())
    };
    assert_eq!(
        (row.name.as_str(), &row.status),
        ("first_edition", &RunStatus::Stopped)
    );
    assert_eq!((row.steps, row.last_step), (12, 6));
    assert!(
        row.end.metric.is_some_and(f64::is_finite),
        "{:?}",
        row.end.metric
    );
}

#[test]
fn number_of_steps_of_a_run_limited_by_time_is_known_at_its_end() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let timed = |name: &str, status: &str| {
        let dir = root.path().join(name);
        let ended = [1, 4, 8].map(|step| line(step, &json!(9.0 - step as f64)));
        write(&dir, status, &json!({ "name": name }), &ended);
        let path = dir.join("run.json");
        let mut file: Value =
            serde_json::from_slice(&fs::read(&path).expect("a file")).expect("JSON");
        file["steps"] = 0.into();
        fs::write(path, file.to_string()).expect("a file");
    };
    timed("done", "completed");
    timed("under way", "running");
    let found = runs::read_all([root.path()], &keys()).runs;
    let table = Table::of(&found, &keys());
    let row = |name: &str| {
        let mut rows = table.rows.iter();
        rows.find(|row| row.name == name).expect("a row")
    };
    let cuts = |name: &str| row(name).at.iter().map(|at| at.metric).collect::<Vec<_>>();
    assert_eq!((row("done").steps, row("under way").steps), (8, 0));
    assert_eq!(cuts("done"), [Some(8.0), Some(8.0), Some(5.0)]);
    assert_eq!(cuts("under way"), [None; 3], "shares of an unknown number");
    let past = runs::to_forecast(&found, &keys());
    let past: Vec<_> = past.iter().map(|run| (&*run.name, run.horizon)).collect();
    assert_eq!(past, [("done", 8)]);
}
