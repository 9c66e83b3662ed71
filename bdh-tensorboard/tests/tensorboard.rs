//! Event files checked by TensorBoard's own functions, its `EventAccumulator` and both of its servers.

#![cfg(feature = "sink")]

#[path = "support/board.rs"]
mod board;
#[path = "../../bdh-callbacks/tests/support/judges.rs"]
mod judges;

use bdh::stats::Histogram;
use bdh::{Outcome, Record, Sink, Value};
use bdh_tensorboard::{Layout, TensorBoard};
use board::{Board, LOADERS, accumulated, record, run, write};
use judges::Judge;
use serde_json::{Value as Json, json};
use std::path::Path;

/// Smallest PNG: one pixel.
const PIXEL: &[u8] =
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\0\0\0\0\x3a\x7e\x9b\x55\
    \0\0\0\nIDATx\x9cc`\0\0\0\x02\0\x01\x48\xaf\xa4\x71\0\0\0\0IEND\xaeB`\x82";

/// Returns pseudo-random numbers that are the same on every call (Knuth's MMIX generator).
fn noise(count: usize) -> impl Iterator<Item = f32> {
    let step = |state: &u64| {
        Some(
            state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407),
        )
    };
    std::iter::successors(Some(42), step)
        .skip(1)
        .map(|state| (state >> 40) as f32 / 1e6)
        .take(count)
}

/// Returns a number as JSON; NaN and infinities, which JSON lacks, become strings.
fn json_number(value: f64) -> Json {
    let name = if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    };
    if value.is_finite() {
        json!(value)
    } else {
        json!(name)
    }
}

#[test]
fn values_equal_those_of_tensorboards_own_functions() {
    let Some(judge) = Judge::modern() else { return };
    let special = [
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        0.0,
        -0.0,
        1e-45,
        3.5e38,
        0.1 + 0.2,
    ];
    let scalars: Vec<f64> = noise(20).map(f64::from).chain(special).collect();

    let bad = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
    let with_bad: Vec<f32> = noise(100).chain(bad).chain(noise(31)).collect();
    let histograms: [(&str, Vec<f32>, usize); 9] = [
        ("random", noise(10_000).collect(), 64),
        (
            "normal",
            noise(12_000)
                .zip(noise(13_000).skip(9))
                .map(|(a, b)| a.ln() * (b).cos())
                .collect(),
            30,
        ),
        ("constant", vec![-1.25; 50], 30),
        ("empty", Vec::new(), 30),
        ("nan", with_bad, 17),
        ("only_nan", bad.to_vec(), 5),
        ("one", vec![3.0], 1),
        ("edges", (0..=64).map(|edge| edge as f32).collect(), 64),
        (
            "range",
            vec![f32::MIN, -1.0, 0.0, f32::MIN_POSITIVE, 1.0, f32::MAX],
            7,
        ),
    ];
    let texts = [
        ("plain", "one\ntwo  spaces\n\n    four more\nlast"),
        (
            "markup",
            "# not a title\n*a* <b>b</b> & `c` | d\n```\nfence\n```\n<script>alert(1)</script>",
        ),
        ("other", "größer → 東京 🦀"),
    ];
    let settings =
        json!({ "lr": 0.01, "depth": 12, "tied": true, "name": "größe", "data.mix": "[1,2]" });
    let user = json!({ "lr": 0.01, "depth": 12, "tied": true, "name": "größe", "data": { "mix": [1, 2] }, "none": null });

    let value = |(name, values, bins): &(&str, Vec<f32>, usize)| {
        (
            name.to_string(),
            Value::Histogram(Histogram::of(values, *bins)),
        )
    };
    let first = histograms.iter().map(value);
    let first =
        first.chain(texts.map(|(name, text)| (name.to_owned(), Value::Text(text.to_owned()))));
    let mut records = vec![record(0, first)];
    let scalar =
        |(step, value): (usize, &f64)| record(step as u64, [("loss", Value::Scalar(*value))]);
    records.extend(scalars.iter().enumerate().map(scalar));

    let dir = tempfile::tempdir().expect("a temporary directory");
    let run = run(dir.path(), &user);
    write(TensorBoard::default(), &run, &records, &Outcome::Completed);
    let mut hparams = settings;
    hparams["seed"] = json!(7);
    let floats = |values: &[f32]| {
        values
            .iter()
            .map(|value| json_number((*value).into()))
            .collect::<Vec<_>>()
    };
    let case = |(name, values, bins): &(&str, Vec<f32>, usize)| {
        (
            (*name).to_owned(),
            json!({ "values": floats(values), "bins": bins }),
        )
    };
    let values = json!({
        "scalars": { "loss": scalars.iter().copied().map(json_number).collect::<Vec<_>>() },
        "histograms": histograms.iter().map(case).collect::<serde_json::Map<_, _>>(),
        "texts": texts.iter().map(|(name, text)| ((*name).to_owned(), json!(text))).collect::<serde_json::Map<_, _>>(),
        "hparams": hparams,
        "start": run.started_at,
    });
    let path = dir.path().join("values.json");
    std::fs::write(&path, values.to_string()).expect("space");
    let verdict = judge.json("tensorboard_equal.py", [dir.path(), &path]);
    assert_eq!(verdict["differences"], json!([]));
    assert_eq!(
        verdict["compared"],
        scalars.len() + histograms.len() + 2 + texts.len() + 1
    );
}

/// Returns a record of every kind, on steps 0 to 4.
fn records() -> Vec<Record> {
    let table = Value::Table {
        columns: vec!["name".to_owned(), "a|b".to_owned()],
        rows: vec![
            vec!["*x*".to_owned(), "1\n2".to_owned()],
            vec!["<i>".to_owned()],
        ],
    };
    let file = Value::File {
        path: "checkpoints/early".into(),
        kind: "model".to_owned(),
        aliases: vec!["early-250".to_owned()],
    };
    let open = Histogram {
        edges: vec![f64::NEG_INFINITY, 0.0, 2.0, 1.0, f64::INFINITY],
        counts: vec![1, 2, 3, 4],
        non_finite: 0,
    };
    vec![
        record(
            0,
            [
                ("val/loss", Value::Scalar(5.5)),
                ("table", table),
                ("file", file),
            ],
        ),
        record(
            1,
            [
                ("train/loss", Value::Scalar(f64::NAN)),
                (
                    "hist",
                    Value::Histogram(Histogram::of(&[1.0, 2.0, 5.0, f32::NAN], 2)),
                ),
                ("page", Value::Html("<h1>x</h1>".to_owned())),
                ("sample", Value::Text("a\n b".to_owned())),
            ],
        ),
        record(
            2,
            [
                ("train/loss", Value::Scalar(f64::INFINITY)),
                ("hist", Value::Histogram(Histogram::of(&[3.0; 4], 2))),
                ("image", Value::Image(PIXEL.to_vec())),
                ("image", Value::Image(b"\x89PNG\r\n\x1a\nbroken".to_vec())),
                ("val/loss", Value::Text("of another kind".to_owned())),
            ],
        ),
        record(
            3,
            [
                ("train/loss", Value::Scalar(1.25)),
                ("hist", Value::Histogram(open)),
                ("broken", Value::Image(Vec::new())),
            ],
        ),
        record(4, [("page", Value::Html(String::new()))]),
    ]
}

/// Returns the scalars and histograms of [`records`] that every reader should show.
fn expected() -> [(&'static str, Json); 2] {
    let scalars = json!({
        "val/loss": [[0, 5.5]],
        "train/loss": [[1, "NaN"], [2, "Infinity"], [3, 1.25]],
        "hist/nonfinite": [[1, 1.0]],
    });
    let histograms = json!({ "hist": [
        [1, [[1.0, 3.0, 2.0], [3.0, 5.0, 1.0]]],
        [2, [[3.0, 3.0, 0.0], [3.0, 3.0, 4.0]]],
        [3, [[0.0, 0.0, 1.0], [0.0, 2.0, 2.0], [2.0, 2.0, 3.0], [1.0, 1.0, 4.0]]],
    ] });
    [("scalars", scalars), ("histograms", histograms)]
}

fn layout() -> Layout {
    Layout::default()
        .lines("loss", "both", ["train/loss", "val/loss"])
        .band("loss", "band", "a", "b", "c")
}

#[test]
fn both_servers_and_the_accumulator_agree() {
    let Some(judge) = Judge::modern() else { return };
    let runs = tempfile::tempdir().expect("a temporary directory");
    let dir = runs.path().join("first");
    write(
        TensorBoard::default().layout(layout()),
        &run(&dir, &json!(null)),
        &records(),
        &Outcome::Completed,
    );

    let read = &accumulated(&judge, &[&dir])[0];
    for (kind, expected) in expected() {
        assert_eq!(read[kind], expected, "{kind}");
    }
    assert_eq!(
        read["texts"]["sample"],
        json!([[1, "<code>a<br>&#160;b</code>"]])
    );
    for loader in LOADERS {
        let shown = Board::start(&judge, runs.path(), loader).shows(1, 3);
        for (kind, expected) in expected() {
            assert_eq!(shown[kind]["first"], expected, "{kind} {loader:?}");
        }
        let texts = &shown["texts"]["first"];
        assert_eq!(
            texts["sample"],
            json!([[1, "<p><code>a<br>&#160;b</code></p>"]])
        );
        assert_eq!(
            texts["file"],
            json!([[0, "<p><code>model: checkpoints/early early-250</code></p>"]])
        );
        assert_eq!(
            text_of(&texts["table"][0][1]),
            "name|a&#124;b|&#42;x&#42;|1<br>2|&#60;i&#62;||"
        );
        assert_eq!(
            texts.as_object().map(serde_json::Map::len),
            Some(3),
            "{texts}"
        );
        assert_eq!(
            shown["images"],
            json!({ "first": { "image": [2] } }),
            "{loader:?}"
        );
        let charts = &shown["charts"]["category"][0];
        assert_eq!(
            charts["chart"][0]["multiline"]["tag"],
            json!(["train/loss", "val/loss"])
        );
        assert_eq!(charts["chart"][1]["margin"]["series"][0]["upper"], "c");
    }
}

/// Returns the cells of a table in HTML.
fn text_of(html: &Json) -> String {
    let html = html.as_str().expect("HTML").replace('\n', "");
    let ends = html.replace("</th>", "|").replace("</td>", "|");
    let tags = ["table", "thead", "tbody", "tr", "th", "td"];
    tags.iter().fold(ends, |text, tag| {
        text.replace(&format!("<{tag}>"), "")
            .replace(&format!("</{tag}>"), "")
    })
}

#[test]
fn concurrent_writers_in_one_folder_keep_separate_files() {
    let Some(judge) = Judge::modern() else { return };
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let path = dir.path();
            let records =
                move |step| record(step, [(format!("by/{writer}"), Value::Scalar(step as f64))]);
            let records: Vec<_> = (1..=50).map(records).collect();
            scope.spawn(move || {
                write(
                    TensorBoard::default(),
                    &run(path, &json!({})),
                    &records,
                    &Outcome::Completed,
                );
            });
        }
    });
    let files = event_files(dir.path());
    let files: Vec<&Path> = files.iter().map(AsRef::as_ref).collect();
    let read = accumulated(&judge, &files);
    let expected: Vec<_> = (1..=50)
        .map(|step| json!([step, f64::from(step)]))
        .collect();
    let mut tags = Vec::new();
    for file in &read {
        let [(tag, points)] = file["scalars"]
            .as_object()
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()[..]
        else {
            panic!("{file}")
        };
        assert_eq!(*points, json!(expected));
        tags.push(tag);
    }
    tags.sort();
    assert_eq!(tags, ["by/0", "by/1", "by/2", "by/3"]);
}

fn event_files(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = dir
        .read_dir()
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path());
    let mut files: Vec<_> = entries
        .filter(|path| path.to_string_lossy().contains("tfevents"))
        .collect();
    files.sort();
    files
}

#[test]
fn torn_file_is_read_up_to_the_tear_and_then_the_next() {
    let Some(judge) = Judge::modern() else { return };
    let runs = tempfile::tempdir().expect("a temporary directory");
    let dir = runs.path().join("torn");
    let scalar = |step: u64| record(step, [("loss", Value::Scalar(step as f64))]);
    let mut sink = TensorBoard::default();
    sink.open(&run(&dir, &json!({}))).expect("a directory");
    (1..=5).for_each(|step| sink.write(&scalar(step)).expect("space"));
    drop(sink); // killed
    let path = &event_files(&dir)[0];
    let whole = std::fs::read(path).expect("the file");
    std::fs::write(path, &whole[..whole.len() - 7]).expect("a torn file");

    let mut resumed = run(&dir, &json!({}));
    resumed.resumed_at = Some(4);
    resumed.resumed_record = Some(scalar(4));
    write(
        TensorBoard::default(),
        &resumed,
        &[scalar(5), scalar(6)],
        &Outcome::Completed,
    );
    let expected: Vec<_> = (1..=6).map(|step| json!([step, f64::from(step)])).collect();
    assert_eq!(
        accumulated(&judge, &[&dir])[0]["scalars"]["loss"],
        json!(expected)
    );
    for loader in LOADERS {
        let shown = Board::start(&judge, runs.path(), loader).shows(1, 6);
        assert_eq!(
            shown["scalars"]["torn"]["loss"],
            json!(expected),
            "{loader:?}"
        );
    }
}

#[test]
fn unwritable_files_are_errors_with_a_cause() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut nowhere = run(dir.path(), &json!({}));
    nowhere.dir = None;
    let error = TensorBoard::default()
        .open(&nowhere)
        .expect_err("there is no directory");
    assert!(
        error.to_string().contains("`TensorBoard::at(…)`"),
        "{error}"
    );
    TensorBoard::at(dir.path().join("own"))
        .open(&nowhere)
        .expect("the sink has its own directory");

    let file = dir.path().join("file");
    std::fs::write(&file, "").expect("space");
    TensorBoard::at(file.join("below"))
        .open(&nowhere)
        .expect_err("a file has no folders");
    let record = record(1, [("loss", Value::Scalar(1.0))]);
    TensorBoard::default()
        .write(&record)
        .expect_err("it is not open");
}
