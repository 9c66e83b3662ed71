//! Unusual records, to test sinks with.

use super::Value;
use super::scratch::Scratch;
use crate::clock::Clock;
use crate::histogram::Histogram;
use crate::record::Record;
use std::path::PathBuf;
use std::time::Duration;

/// A record, with a description of its values.
pub(super) struct OddRecord {
    pub(super) with: String,
    pub(super) record: Record,
}

/// Makes a usual record of two scalars.
pub(super) fn plain(step: u64) -> Record {
    let scalars = [("train/loss", 1.0 / (step as f64 + 3.0)), ("lr", 0.01)];
    let values = scalars.map(|(key, scalar)| (key.to_owned(), Value::Scalar(scalar)));
    Record {
        clock: clock(step),
        values: values.to_vec(),
    }
}

/// Makes records of all kinds, on ascending steps with gaps.
pub(super) fn odd_records(scratch: &Scratch) -> Vec<OddRecord> {
    let mut records = Records::default();
    records.add("scalars", plain(0).values);
    records.add("nothing", Vec::new());
    records.add_values([numbers(), texts(), media(), files(scratch)].concat());
    for key in odd_keys(scratch) {
        records.add_key(&key);
    }
    records.add("1,000 scalars", many_scalars());
    records.0.push(OddRecord {
        with: "a step beyond 32 bits".to_owned(),
        record: plain(1 << 40),
    });
    records.0
}

#[derive(Default)]
struct Records(Vec<OddRecord>);

impl Records {
    /// Adds a record on the next of the steps 0, 1, 2, 13, 14, 15, 26, …
    fn add(&mut self, with: impl Into<String>, values: Vec<(String, Value)>) {
        let index = self.0.len() as u64;
        let clock = clock(index + 10 * (index / 3));
        self.0.push(OddRecord {
            with: with.into(),
            record: Record { clock, values },
        });
    }

    /// Adds a record for each described value.
    fn add_values(&mut self, values: Vec<(&str, Value)>) {
        // Each value has a key of its own, and a key that all kinds of values share.
        for (index, (with, value)) in values.into_iter().enumerate() {
            let own = (format!("group/{index}"), value.clone());
            self.add(with, vec![own, ("shared".to_owned(), value)]);
        }
    }

    /// Adds records of a scalar, a text and a picture under a key.
    fn add_key(&mut self, key: &str) {
        let values = [
            ("a scalar", Value::Scalar(1.5)),
            ("a text", Value::Text("text".to_owned())),
            ("a picture", Value::Image(png())),
        ];
        for (what, value) in values {
            let with = format!("{what} under the key {key:?}");
            self.add(with, vec![(key.to_owned(), value)]);
        }
    }
}

fn clock(step: u64) -> Clock {
    let elapsed = Duration::from_millis(125) * step as u32;
    Clock {
        step,
        tokens: 512 * step,
        elapsed,
        ..Clock::default()
    }
}

fn many_scalars() -> Vec<(String, Value)> {
    let mut scalars = Vec::new();
    for index in 0..1_000 {
        scalars.push((format!("many/{index}"), Value::Scalar(f64::from(index))));
    }
    scalars
}

fn numbers() -> Vec<(&'static str, Value)> {
    let many_edges: Vec<_> = (0..=5_000).map(f64::from).collect();
    vec![
        ("NaN", Value::Scalar(f64::NAN)),
        ("infinity", Value::Scalar(f64::INFINITY)),
        ("negative infinity", Value::Scalar(f64::NEG_INFINITY)),
        ("negative zero", Value::Scalar(-0.0)),
        ("the largest number", Value::Scalar(f64::MAX)),
        ("the smallest number", Value::Scalar(f64::from_bits(1))),
        (
            "a histogram",
            histogram(&[-1.0, 0.0, 0.5, 2.0], &[3, 0, 9], 0),
        ),
        ("a histogram without bins", histogram(&[], &[], 0)),
        ("a histogram of non-finite values", histogram(&[], &[], 9)),
        ("a histogram of one value", histogram(&[2.0, 2.0], &[5], 1)),
        (
            "a histogram with infinite edges",
            histogram(&[f64::NEG_INFINITY, 0.0, f64::INFINITY], &[1, 2], 0),
        ),
        (
            "a histogram that lacks edges",
            histogram(&[0.0], &[1, 2, 3], 0),
        ),
        (
            "a histogram of 5,000 bins",
            histogram(&many_edges, &[u64::MAX >> 20; 5_000], 0),
        ),
    ]
}

fn histogram(edges: &[f64], counts: &[u64], non_finite: u64) -> Value {
    Value::Histogram(Histogram {
        edges: edges.to_vec(),
        counts: counts.to_vec(),
        non_finite,
    })
}

fn texts() -> Vec<(&'static str, Value)> {
    vec![
        (
            "a text",
            Value::Text("Once upon a time\n\tthere was \"a\" größe → 東京 🦀\\".to_owned()),
        ),
        ("an empty text", Value::Text(String::new())),
        (
            "a text with control characters",
            Value::Text("\0\u{1}\r\n\u{7f}\u{feff}".to_owned()),
        ),
        ("a long text", Value::Text("größe ".repeat(50_000))),
        (
            "a table",
            table(
                &["prompt", "score"],
                &[&["to be", "0.5"], &["| or |\nnot", ""]],
            ),
        ),
        ("an empty table", table(&[], &[])),
        ("a table without rows", table(&["a", "a"], &[])),
        (
            "a ragged table",
            table(&["a", "b"], &[&["1"], &["1", "2", "3"], &[]]),
        ),
    ]
}

fn table(columns: &[&str], rows: &[&[&str]]) -> Value {
    let cells = |row: &[&str]| row.iter().map(ToString::to_string).collect();
    Value::Table {
        columns: cells(columns),
        rows: rows.iter().map(|row| cells(row)).collect(),
    }
}

fn media() -> Vec<(&'static str, Value)> {
    vec![
        ("a picture", Value::Image(png())),
        (
            "a picture that is not a PNG",
            Value::Image(b"GIF89a".to_vec()),
        ),
        (
            "a picture that is cut off",
            Value::Image(png()[..20].to_vec()),
        ),
        ("an empty picture", Value::Image(Vec::new())),
        (
            "HTML",
            Value::Html("<b>bold</b> & <script>alert(1)</script>".to_owned()),
        ),
        ("empty HTML", Value::Html(String::new())),
    ]
}

fn files(scratch: &Scratch) -> Vec<(&'static str, Value)> {
    vec![
        ("a folder", file(scratch.checkpoint())),
        (
            "a file",
            file(scratch.checkpoint().join("model.safetensors")),
        ),
        ("a file that does not exist", file(scratch.run.join("gone"))),
        ("a file without a name", file(PathBuf::new())),
        (
            "a file with a name of 300 characters",
            file(scratch.run.join("y".repeat(300))),
        ),
    ]
}

fn file(path: PathBuf) -> Value {
    let aliases = ["early-250", "a b/ü"].map(str::to_owned).to_vec();
    Value::File {
        path,
        kind: "a kind/of: ü".to_owned(),
        aliases,
    }
}

fn odd_keys(scratch: &Scratch) -> Vec<String> {
    let plain = [
        "",
        ".",
        "..",
        "/",
        "a key",
        "größe/東京 🦀",
        "a//b",
        "a/../b",
        "line\nbreak",
        "nul\0",
        "q\"'`\\",
        // Keys that sinks or file systems use themselves.
        "step",
        "tokens",
        "elapsed",
        "_step",
        "_runtime",
        "CON",
        "-rf *",
        "{run}",
    ];
    let mut keys = plain.map(str::to_owned).to_vec();
    keys.push("x".repeat(300));
    keys.push("ü".repeat(300));
    keys.extend([1, 2, 4, 8].map(|up| format!("{}x", "../".repeat(up))));
    keys.push(scratch.outside().display().to_string());
    keys
}

/// Returns a PNG picture of 2 by 1 pixels.
fn png() -> Vec<u8> {
    let parts: [&[u8]; 3] = [
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x02\0\0\0\x01\x08\x02\0\0\0\x7b\x40\xe8\xdd",
        b"\0\0\0\x0fIDATx\x9cc\xf8\xcf\xc0\xc0\xf0\x1f\0\x05\x01\x01\xff\x75\xfe\x75\xe8",
        b"\0\0\0\0IEND\xaeB`\x82",
    ];
    parts.concat()
}
