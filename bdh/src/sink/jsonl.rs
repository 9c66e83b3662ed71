//! `metrics.jsonl`: the truth of a run, one line a step, readable while it grows.

use super::Sink;
use crate::outcome::Outcome;
use crate::{BoxError, Record, RunInfo, Value};
use serde_json::{Map, json};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Appends one JSON object a record to `metrics.jsonl` in the run directory.
///
/// Each line is one `write(2)`, so a killed process leaves whole lines (and a torn last line, after the
/// machine itself died, is cut off on resume). Numbers are numbers; NaN and the infinities, which JSON
/// does not have, are the strings `"NaN"`, `"Infinity"` and `"-Infinity"`. Histograms, texts and tables
/// are objects; images are left to the sinks that show them, and a file is its path. The keys `step`,
/// `tokens` and `elapsed` are the clock's.
#[derive(Debug, Default)]
pub struct Jsonl {
    file: Option<File>,
}

impl Jsonl {
    /// The file's name in the run directory.
    pub const FILE: &str = "metrics.jsonl";
}

impl Sink for Jsonl {
    fn name(&self) -> String {
        "jsonl".to_owned()
    }

    fn files(&self) -> Vec<String> {
        vec![Self::FILE.to_owned()]
    }

    fn open(&mut self, run: &RunInfo) -> Result<(), BoxError> {
        let dir = run.dir.as_ref().ok_or("metrics.jsonl needs a run directory")?;
        let path = dir.join(Self::FILE);
        self.file = Some(match run.resumed_at {
            Some(step) => continue_after(&path, step, &run.resumed_record)?,
            None => begin(&path)?,
        });
        Ok(())
    }

    fn write(&mut self, record: &Record) -> Result<(), BoxError> {
        let file = self.file.as_mut().ok_or("metrics.jsonl is not open")?;
        write_line(file, &to_json(record))
    }

    fn flush(&mut self) -> Result<(), BoxError> {
        Ok(self.file.as_ref().map_or(Ok(()), File::sync_data)?)
    }

    fn close(&mut self, _outcome: &Outcome) -> Result<(), BoxError> {
        self.flush()
    }
}

/// Opens a new file. One that stands there already is another run's, unless nothing ever came of that.
fn begin(path: &Path) -> Result<File, BoxError> {
    let file = OpenOptions::new().append(true).create(true).open(path)?;
    if file.metadata()?.len() > 0 {
        return Err(format!("`{}` holds another run's records", path.display()).into());
    }
    Ok(file)
}

/// Opens `path` for appending after the record of `step`, and cuts off whatever came later.
///
/// That record itself is added if it never got there: a checkpoint appears before its step is recorded.
fn continue_after(path: &Path, step: u64, record: &serde_json::Value) -> Result<File, BoxError> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let (mut keep, mut last) = (0, None);
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let whole = line.ends_with(b"\n");
        let parsed: Option<serde_json::Value> = serde_json::from_slice(line).ok();
        match parsed.and_then(|line| line.get("step")?.as_u64()) {
            Some(recorded) if whole && recorded <= step => {
                keep += line.len() as u64;
                last = Some(recorded);
            }
            _ => break,
        }
    }
    file.set_len(keep)?;
    file.seek(SeekFrom::End(0))?;
    // A record of nothing but the clock stands for a step on which nothing was logged.
    let has_values = record.as_object().is_some_and(|record| record.len() > CLOCK.len());
    if last != Some(step) && has_values {
        write_line(&mut file, record)?;
    }
    Ok(file)
}

fn write_line(file: &mut File, line: &serde_json::Value) -> Result<(), BoxError> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    Ok(file.write_all(&bytes)?)
}

/// The keys of the clock.
const CLOCK: [&str; 3] = ["step", "tokens", "elapsed"];

/// A record as one JSON object: its keys, and the clock's counts.
pub(crate) fn to_json(record: &Record) -> serde_json::Value {
    let mut line = Map::new();
    for (key, value) in &record.values {
        if let Some(value) = value_to_json(value) {
            line.insert(key.clone(), value);
        }
    }
    // Last: a key `step` of somebody's own must not pass for the clock's, by which a resume cuts.
    let clock = &record.clock;
    let counts = [json!(clock.step), json!(clock.tokens), json!(clock.elapsed.as_secs_f64())];
    line.extend(CLOCK.map(str::to_owned).into_iter().zip(counts));
    serde_json::Value::Object(line)
}

fn value_to_json(value: &Value) -> Option<serde_json::Value> {
    Some(match value {
        Value::Scalar(scalar) => number(*scalar),
        Value::Histogram(histogram) => json!({
            "edges": histogram.edges.iter().copied().map(number).collect::<Vec<_>>(),
            "counts": histogram.counts,
            "non_finite": histogram.non_finite,
        }),
        Value::Text(text) => json!({ "text": text }),
        Value::Table { columns, rows } => json!({ "columns": columns, "rows": rows }),
        Value::Image(_) => return None,
        Value::File { path, kind } => json!({ "file": path_text(path), "kind": kind }),
    })
}

/// A number that JSON may not have.
pub(crate) fn number(scalar: f64) -> serde_json::Value {
    if scalar.is_finite() {
        json!(scalar)
    } else if scalar.is_nan() {
        json!("NaN")
    } else {
        json!(if scalar > 0.0 { "Infinity" } else { "-Infinity" })
    }
}

fn path_text(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Clock;

    fn record(step: u64, loss: f64) -> Record {
        let clock = Clock { step, ..Clock::default() };
        Record { clock, values: vec![("train/loss".to_owned(), Value::Scalar(loss))] }
    }

    #[test]
    fn numbers_that_json_does_not_have_become_strings() {
        let texts = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.1]
            .map(|loss| to_json(&record(1, loss))["train/loss"].to_string());
        assert_eq!(texts, ["\"NaN\"", "\"Infinity\"", "\"-Infinity\"", "0.1"]);
    }

    #[test]
    fn a_resumed_file_loses_later_steps_and_a_torn_last_line() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join(Jsonl::FILE);
        let mut sink = Jsonl { file: Some(File::create(&path).expect("a new file")) };
        for step in 1..=4 {
            sink.write(&record(step, 1.0)).expect("a line");
        }
        drop(sink);
        let text = std::fs::read_to_string(&path).expect("the lines");
        std::fs::write(&path, &text[..text.len() - 5]).expect("a torn last line");

        let third = to_json(&record(3, 9.0));
        let file = continue_after(&path, 3, &third).expect("a file to go on with");
        Jsonl { file: Some(file) }.write(&record(4, 2.0)).expect("a line");
        let lines = std::fs::read_to_string(&path).expect("the lines");
        let steps: Vec<_> = lines
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"))
            .map(|line| (line["step"].as_u64(), line["train/loss"].as_f64()))
            .collect();
        let expected = [1.0, 1.0, 1.0, 2.0].map(Some);
        assert_eq!(steps, (1..=4).map(Some).zip(expected).collect::<Vec<_>>());
    }

    #[test]
    fn a_resumed_file_gets_the_record_that_never_reached_it_and_no_empty_one() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join(Jsonl::FILE);
        let nothing = Record { clock: record(7, 0.0).clock, values: Vec::new() };
        drop(continue_after(&path, 7, &to_json(&nothing)).expect("a file"));
        assert_eq!(std::fs::read_to_string(&path).expect("the lines"), "");

        let third = to_json(&record(3, f64::NAN));
        drop(continue_after(&path, 3, &third).expect("a file"));
        drop(continue_after(&path, 3, &third).expect("a file"));
        assert_eq!(std::fs::read_to_string(&path).expect("the lines"), format!("{third}\n"));
    }
}
