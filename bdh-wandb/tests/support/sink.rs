//! A sink without a trainer: invented runs, and records of every kind.

#![allow(dead_code, reason = "each test takes what it needs")]

use bdh::stats::Histogram;
use bdh::{Clock, Outcome, Record, RunInfo, Sink, Value};
use serde_json::json;
use std::path::Path;
use std::time::Duration;

/// Returns a run of 100 steps in `dir`.
pub(crate) fn run(dir: &Path) -> RunInfo {
    RunInfo {
        name: dir
            .file_name()
            .map_or("unnamed".into(), |name| name.to_string_lossy().into_owned()),
        dir: Some(dir.to_owned()),
        steps: 100,
        length: 100.into(),
        seed: 7,
        config: json!({
            "trainer": { "steps": 100, "seed": 7 },
            "user": { "depth": 4, "model": { "width": 64, "bias": false }, "name": "tiny ü", "nothing": null },
        }),
        eval_sets: vec!["val".to_owned()],
        resumed_at: None,
        resumed_record: None,
        notes: Vec::new(),
        started_at: 1_700_000_000.25,
        feedback: bdh::sink::Feedback::default(),
    }
}

pub(crate) fn record(step: u64, values: Vec<(&str, Value)>) -> Record {
    let clock = Clock {
        step,
        tokens: 512 * step,
        elapsed: Duration::from_millis(125 * step),
        ..Clock::default()
    };
    Record {
        clock,
        values: values
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect(),
    }
}

/// Returns a record of scalars that are hard to represent.
pub(crate) fn scalars(step: u64) -> Record {
    let x = step as f64;
    record(
        step,
        vec![
            ("train/loss", Value::Scalar(1.0 / (x + 3.0))),
            (
                "val/bpb",
                Value::Scalar(if step.is_multiple_of(3) {
                    f64::NAN
                } else {
                    x.exp()
                }),
            ),
            ("high", Value::Scalar(f64::INFINITY)),
            ("low", Value::Scalar(f64::NEG_INFINITY)),
            ("small", Value::Scalar(f64::MIN_POSITIVE * x)),
            ("whole", Value::Scalar(x)),
        ],
    )
}

/// Returns a record with a value of every kind; `checkpoint` is a folder.
pub(crate) fn everything(step: u64, checkpoint: &Path) -> Record {
    let histogram = Histogram {
        edges: vec![-1.0, 0.0, 0.5, 2.0],
        counts: vec![3, 0, 9],
        non_finite: 2,
    };
    let cells = |row: &[&str]| row.iter().map(ToString::to_string).collect::<Vec<_>>();
    let table = Value::Table {
        columns: cells(&["prompt", "score"]),
        rows: vec![cells(&["to be", "0.5"])],
    };
    let aliases = cells(&["early-250"]);
    record(
        step,
        vec![
            ("train/loss", Value::Scalar(0.25)),
            ("weights/wte", Value::Histogram(histogram)),
            (
                "sample/0",
                Value::Text("Once upon a time\n  there was \"a\" ü".to_owned()),
            ),
            ("samples", table),
            ("plot", Value::Image(png())),
            ("page", Value::Html("<b>bold</b>".to_owned())),
            (
                "checkpoint/early",
                Value::File {
                    path: checkpoint.to_owned(),
                    kind: "model".to_owned(),
                    aliases,
                },
            ),
        ],
    )
}

/// Creates a folder that looks like a checkpoint.
pub(crate) fn checkpoint(dir: &Path) -> std::path::PathBuf {
    let path = dir.join("checkpoints/ckpt_early_step_250");
    std::fs::create_dir_all(&path).expect("a folder");
    std::fs::write(path.join("model.safetensors"), vec![7; 3_000]).expect("a file");
    std::fs::write(path.join("state.json"), "{}").expect("a file");
    path
}

/// Returns a PNG of 2 by 1 pixels.
pub(crate) fn png() -> Vec<u8> {
    let hex = "89504e470d0a1a0a0000000d4948445200000002000000010802000000\
               7b40e8dd0000000f49444154789c63f8cfc0c0f01f000501\
               01ff75fe75e80000000049454e44ae426082";
    let digits: Vec<_> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| {
        u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("two digits")
    };
    digits.chunks(2).map(byte).collect()
}

/// Opens the sink, writes the records, closes it.
pub(crate) fn log(sink: &mut dyn Sink, run: &RunInfo, records: &[Record]) {
    sink.open(run).expect("an open sink");
    for record in records {
        sink.write(record).expect("a written record");
    }
    sink.close(&Outcome::Completed).expect("a closed sink");
}
