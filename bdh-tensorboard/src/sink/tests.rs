//! Records read back from the file.

use super::*;
use crate::event_file::event_files;
use crate::markdown;
use crate::proto::{DataType, Tensor};
use crate::summary::Plugin;
use bdh::Clock;
use bdh::stats::Histogram;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::HashMap;

/// Content of a tensor, with floats as bits so that NaN equals itself.
#[derive(Debug, Clone, PartialEq)]
enum Content {
    Scalar(u32),
    Rows(Vec<[u64; 3]>),
    Strings(Vec<Vec<u8>>),
}

fn content(tensor: &Tensor) -> Content {
    match tensor.dtype() {
        DataType::Float => Content::Scalar(tensor.floats[0].to_bits()),
        DataType::Double => {
            let (doubles, _) = tensor.content.as_chunks::<8>();
            let doubles: Vec<_> = doubles
                .iter()
                .map(|bytes| u64::from_le_bytes(*bytes))
                .collect();
            let (rows, rest) = doubles.as_chunks::<3>();
            assert!(rest.is_empty());
            Content::Rows(rows.to_vec())
        }
        _ => Content::Strings(tensor.strings.clone()),
    }
}

/// Values of one step.
type Step = (u64, Vec<Tagged>);

/// Content under a tag.
#[derive(Debug, Clone, PartialEq)]
struct Tagged {
    tag: String,
    content: Content,
    has_metadata: bool,
}

/// Returns the expected content of a value and its plugin; histograms need edges that can be drawn.
fn expected(value: &Value) -> Option<(Plugin, Content)> {
    let text = |text: String| Some((Plugin::Text, Content::Strings(vec![text.into_bytes()])));
    match value {
        Value::Scalar(scalar) => {
            Some((Plugin::Scalars, Content::Scalar((*scalar as f32).to_bits())))
        }
        Value::Histogram(Histogram { edges, counts, .. }) => {
            let bins = edges.windows(2).zip(counts);
            let row = |(edges, count): (&[f64], &u64)| {
                [edges[0], edges[1], *count as f64].map(f64::to_bits)
            };
            Some((Plugin::Histograms, Content::Rows(bins.map(row).collect())))
        }
        Value::Text(words) => text(markdown::plain(words)),
        Value::Image(png) if png.len() > 20 => {
            let size = |at: usize| {
                let bytes = png[at..at + 4].try_into().expect("four bytes");
                u32::from_be_bytes(bytes).to_string().into_bytes()
            };
            Some((
                Plugin::Images,
                Content::Strings(vec![size(16), size(20), png.clone()]),
            ))
        }
        _ => None,
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let png = (1_u32.., 1_u32.., vec(any::<u8>(), 0..50)).prop_map(|(width, height, rest)| {
        let sides = [width, height].map(u32::to_be_bytes).concat();
        [&b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"[..], &sides, &rest].concat()
    });
    prop_oneof![
        any::<f64>().prop_map(Value::Scalar),
        vec(-1e9..1e9, 0..20).prop_map(|mut edges| {
            edges.sort_by(f64::total_cmp);
            let counts = (1..edges.len() as u64).collect();
            Value::Histogram(Histogram {
                edges,
                counts,
                non_finite: 0,
            })
        }),
        ".*".prop_map(Value::Text),
        png.prop_map(Value::Image),
        vec(any::<u8>(), 0..20).prop_map(Value::Image),
        ".*".prop_map(Value::Html),
    ]
}

/// Records on ascending steps; few keys, so that kinds meet under one.
fn any_records() -> impl Strategy<Value = Vec<Record>> {
    let values = vec(("[ab/é]{0,2}", any_value()), 0..6);
    vec((1..1_000_u64, values), 0..8).prop_map(|records| {
        let mut clock = Clock::default();
        let record = |(steps, values): (u64, Vec<(String, Value)>)| {
            clock.step += steps;
            let values: HashMap<_, _> = values.into_iter().collect(); // a record has a key once
            Record {
                clock,
                values: values.into_iter().collect(),
            }
        };
        records.into_iter().map(record).collect()
    })
}

fn run(dir: &Path) -> RunInfo {
    RunInfo {
        name: "run".to_owned(),
        dir: Some(dir.to_owned()),
        steps: 1,
        length: 1.into(),
        seed: 0,
        config: serde_json::Value::Null,
        eval_sets: vec!["val".to_owned()],
        resumed_at: None,
        resumed_record: None,
        notes: Vec::new(),
        started_at: 0.0,
        feedback: Feedback::default(),
    }
}

fn write(dir: &Path, records: &[Record]) {
    let mut sink = TensorBoard::default();
    sink.open(&run(dir)).expect("a directory");
    for record in records {
        sink.write(record).expect("space");
    }
    sink.close(&Outcome::Completed).expect("space");
}

fn read(path: &Path) -> Vec<Event> {
    rewind::open(path)
        .expect("a file")
        .map(|(_, event)| event)
        .collect()
}

/// Records as they should come back: metadata on the first of a tag, and nothing of another kind after it.
fn all_expected(records: &[Record]) -> Vec<Step> {
    let mut plugins: HashMap<String, Plugin> = HashMap::new();
    let mut all = Vec::new();
    for record in records {
        let mut values = Vec::new();
        for (key, value) in &record.values {
            let Some((plugin, content)) = expected(value) else {
                continue;
            };
            let has_metadata = !plugins.contains_key(key);
            if *plugins.entry(key.clone()).or_insert(plugin) == plugin {
                values.push(Tagged {
                    tag: key.clone(),
                    content,
                    has_metadata,
                });
            }
        }
        all.push((record.clock.step, values));
    }
    all.retain(|(_, values)| !values.is_empty());
    all
}

fn all_read(events: &[Event]) -> Vec<Step> {
    let mut all = Vec::new();
    for event in events {
        let (Some(step), Some(summary)) = (event.logged_step(), &event.summary) else {
            continue;
        };
        let mut values = Vec::new();
        for value in &summary.value {
            let tensor = value.tensor.as_ref().expect("every value has a tensor");
            values.push(Tagged {
                tag: value.tag.clone(),
                content: content(tensor),
                has_metadata: value.metadata.is_some(),
            });
        }
        all.push((step, values));
    }
    all
}

proptest! {
    #[test]
    fn random_records_come_back_from_the_file(records in any_records()) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        write(dir.path(), &records);
        let path = event_files(dir.path()).expect("a directory").remove(0);
        let events = read(&path);
        prop_assert_eq!(all_read(&events), all_expected(&records));
        prop_assert!(events[0].is_of("bdh") && events[events.len() - 1].is_end());
    }

    #[test]
    fn torn_file_gives_the_whole_records_before_the_tear(records in any_records(), part in 0.0..1.0) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        write(dir.path(), &records);
        let path = event_files(dir.path()).expect("a directory").remove(0);
        let bytes = std::fs::read(&path).expect("the file");
        let len = (bytes.len() as f64 * part) as usize;
        std::fs::write(&path, &bytes[..len]).expect("space");
        let (read, expected) = (all_read(&read(&path)), all_expected(&records));
        prop_assert_eq!(&expected[..read.len()], &read[..]);
    }

    #[test]
    fn any_text_is_recovered_from_its_markup(text in "[ -~äあ\n]*") {
        let markup = markdown::plain(&text).replace("<br>", "\n").replace("&#160;", " ");
        let markup = markup.strip_prefix("<code>").and_then(|rest| rest.strip_suffix("</code>"));
        let mut parts = markup.expect("a tag around it").split("&#");
        let mut shown = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (number, rest) = part.split_once(';').expect("an entity");
            shown.push(char::from(number.parse::<u8>().expect("ASCII")));
            shown.push_str(rest);
        }
        prop_assert_eq!(shown, text);
    }

    #[test]
    fn any_histogram_can_be_drawn(edges in vec(any::<f64>(), 0..9), counts in vec(any::<u64>(), 0..9)) {
        let value = Value::Histogram(Histogram { edges, counts, non_finite: 0 });
        let record = Record { clock: Clock::default(), values: vec![("h".to_owned(), value)] };
        let values = Summaries::default().of(shown(&record));
        let tensor = values[0].tensor.as_ref().expect("every value has a tensor");
        let Content::Rows(rows) = content(tensor) else { panic!("{tensor:?}") };
        for row in rows {
            let [left, right, _] = row.map(f64::from_bits);
            prop_assert!(left.is_finite() && right.is_finite() && left <= right);
        }
    }
}

#[test]
#[cfg(unix)]
fn fifos_and_links_with_our_names_are_left_alone() {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let (dir, outside) = (scratch.path().join("run"), scratch.path().join("mine"));
    fs::create_dir(&dir).expect("a run directory");
    fs::write(&outside, "mine").expect("a file");
    let fifo = dir.join("events.out.tfevents.0000000001.x");
    let made = std::process::Command::new("mkfifo")
        .arg(fifo)
        .status()
        .expect("mkfifo");
    assert!(made.success());
    let links = [
        "events.out.tfevents.0000000002.x",
        writer_name::FILE,
        "tensorboard.tmp",
    ];
    for name in links {
        std::os::unix::fs::symlink(&outside, dir.join(name)).expect("a link");
    }
    let info = RunInfo {
        resumed_at: Some(3),
        ..run(&dir)
    };
    let mut sink = TensorBoard::at(&dir);
    sink.open(&info).expect("an open sink");
    sink.close(&Outcome::Completed).expect("a closed sink");
    assert_eq!(fs::read_to_string(&outside).expect("the file"), "mine");
    let note = fs::symlink_metadata(dir.join(writer_name::FILE)).expect("the note");
    assert!(note.is_file(), "a file replaces the link");
    assert_eq!(event_files(&dir).expect("a directory").len(), 3);
}
