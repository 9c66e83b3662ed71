//! Records that a sink may meet, most of them once in its life.

use super::Value;
use super::scratch::Scratch;
use crate::clock::Clock;
use crate::histogram::Histogram;
use crate::record::Record;
use std::path::PathBuf;
use std::time::Duration;

/// A record, and what is odd about it.
pub(super) struct OddRecord {
    pub(super) with: String,
    pub(super) record: Record,
}

/// A record as most are.
pub(super) fn plain(step: u64) -> Record {
    let scalars = [("train/loss", 1.0 / (step as f64 + 3.0)), ("lr", 0.01)];
    let values = scalars.map(|(key, scalar)| (key.to_owned(), Value::Scalar(scalar)));
    Record {
        clock: clock(step),
        values: values.to_vec(),
    }
}

/// Records of all kinds, on ascending steps with gaps.
pub(super) fn odd_records(scratch: &Scratch) -> Vec<OddRecord> {
    let mut all = vec![
        ("scalars".to_owned(), plain(0).values),
        ("nothing".to_owned(), Vec::new()),
    ];
    let one = |key: &str, value: Value| vec![(key.to_owned(), value)];
    let values = numbers()
        .into_iter()
        .chain(texts())
        .chain(media())
        .chain(files(scratch));
    // A key of its own for each, and one that they all share, whatever they are.
    for (index, (with, value)) in values.enumerate() {
        let own = (format!("group/{index}"), value.clone());
        all.push((with.to_owned(), vec![own, ("shared".to_owned(), value)]));
    }
    for key in odd_keys(scratch) {
        let with = format!("the key {key:?}");
        all.push((
            format!("a scalar under {with}"),
            one(&key, Value::Scalar(1.5)),
        ));
        all.push((
            format!("a text under {with}"),
            one(&key, Value::Text("text".to_owned())),
        ));
        all.push((
            format!("a picture under {with}"),
            one(&key, Value::Image(png())),
        ));
    }
    let many = (0..1_000).map(|index| (format!("many/{index}"), Value::Scalar(f64::from(index))));
    all.push(("1,000 scalars".to_owned(), many.collect()));
    let with_step = |(index, (with, values)): (usize, (String, Vec<(String, Value)>))| {
        let step = index as u64 + 10 * (index as u64 / 3); // 0, 1, 2, 13, 14, 15, 26, …
        OddRecord {
            with,
            record: Record {
                clock: clock(step),
                values,
            },
        }
    };
    let mut records: Vec<_> = all.into_iter().enumerate().map(with_step).collect();
    let last = plain(1 << 40);
    records.push(OddRecord {
        with: "a step beyond 32 bits".to_owned(),
        record: last,
    });
    records
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

fn numbers() -> Vec<(&'static str, Value)> {
    let of = |edges: &[f64], counts: &[u64], non_finite| {
        Value::Histogram(Histogram {
            edges: edges.to_vec(),
            counts: counts.to_vec(),
            non_finite,
        })
    };
    vec![
        ("NaN", Value::Scalar(f64::NAN)),
        ("infinity", Value::Scalar(f64::INFINITY)),
        ("negative infinity", Value::Scalar(f64::NEG_INFINITY)),
        ("negative zero", Value::Scalar(-0.0)),
        ("the largest number", Value::Scalar(f64::MAX)),
        ("the smallest number", Value::Scalar(f64::from_bits(1))),
        ("a histogram", of(&[-1.0, 0.0, 0.5, 2.0], &[3, 0, 9], 0)),
        ("a histogram without bins", of(&[], &[], 0)),
        ("a histogram of non-finite values", of(&[], &[], 9)),
        ("a histogram of one value", of(&[2.0, 2.0], &[5], 1)),
        (
            "a histogram with infinite edges",
            of(&[f64::NEG_INFINITY, 0.0, f64::INFINITY], &[1, 2], 0),
        ),
        ("a histogram that lacks edges", of(&[0.0], &[1, 2, 3], 0)),
        (
            "a histogram of 5,000 bins",
            of(
                &(0..=5_000).map(f64::from).collect::<Vec<_>>(),
                &[u64::MAX >> 20; 5_000],
                0,
            ),
        ),
    ]
}

fn texts() -> Vec<(&'static str, Value)> {
    let row = |cells: &[&str]| cells.iter().map(ToString::to_string).collect::<Vec<_>>();
    let table = |columns: &[&str], rows: &[&[&str]]| {
        let rows = rows.iter().map(|cells| row(cells)).collect();
        Value::Table {
            columns: row(columns),
            rows,
        }
    };
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

fn media() -> Vec<(&'static str, Value)> {
    vec![
        ("a picture", Value::Image(png())),
        ("a picture that is none", Value::Image(b"GIF89a".to_vec())),
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
    let file = |path: PathBuf| {
        let aliases = ["early-250", "a b/ü"].map(str::to_owned).to_vec();
        Value::File {
            path,
            kind: "a kind/of: ü".to_owned(),
            aliases,
        }
    };
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
    ];
    let known = [
        "step", "tokens", "elapsed", "_step", "_runtime", "CON", "-rf *", "{run}",
    ];
    let mut keys: Vec<_> = plain
        .iter()
        .chain(&known)
        .map(ToString::to_string)
        .collect();
    keys.push("x".repeat(300));
    keys.push("ü".repeat(300));
    keys.extend([1, 2, 4, 8].map(|up| format!("{}x", "../".repeat(up))));
    keys.push(scratch.outside().display().to_string());
    keys
}

/// A picture of 2 by 1 pixels.
fn png() -> Vec<u8> {
    let parts: [&[u8]; 3] = [
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x02\0\0\0\x01\x08\x02\0\0\0\x7b\x40\xe8\xdd",
        b"\0\0\0\x0fIDATx\x9cc\xf8\xcf\xc0\xc0\xf0\x1f\0\x05\x01\x01\xff\x75\xfe\x75\xe8",
        b"\0\0\0\0IEND\xaeB`\x82",
    ];
    parts.concat()
}
