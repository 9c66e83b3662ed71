//! Conversion of records to lines of `metrics.jsonl`, and back.

use super::{Histogram, Record, Value};
use crate::clock::Clock;
use crate::number;
use serde_json::{Map, Value as Json, json};
use std::time::Duration;

/// Keys of the clock in a line.
pub(crate) const CLOCK: [&str; 3] = ["step", "tokens", "elapsed"];

impl Record {
    /// Converts the record to a JSON object: its keys in order, then `step`, `tokens` and `elapsed` (seconds).
    ///
    /// NaN and the infinities, which JSON does not have, are the strings `"NaN"`, `"Infinity"` and
    /// `"-Infinity"`. Histograms, texts, tables, HTML and files are objects; images are left out.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let mut line = Map::new();
        for (key, value) in &self.values {
            if let Some(value) = value_to_json(value) {
                line.insert(key.clone(), value);
            }
        }
        // Last, to replace a callback's own key `step`: a resume truncates the file by the clock's.
        let Clock {
            step,
            tokens,
            elapsed,
            ..
        } = self.clock;
        let counts = [json!(step), json!(tokens), json!(elapsed.as_secs_f64())];
        line.extend(CLOCK.map(str::to_owned).into_iter().zip(counts));
        Json::Object(line)
    }

    /// Reads a record that [`to_json`](Self::to_json) wrote; `None` for any other value.
    ///
    /// The clock has only `step`, `tokens` and `elapsed`. Values of an unknown form are skipped.
    #[must_use]
    pub fn from_json(line: &Json) -> Option<Self> {
        let line = line.as_object()?;
        let clock = clock_from_json(line)?;
        let mut values = Vec::new();
        for (key, value) in line {
            if CLOCK.contains(&key.as_str()) {
                continue;
            }
            if let Some(value) = value_from_json(value) {
                values.push((key.clone(), value));
            }
        }
        Some(Self { clock, values })
    }
}

fn clock_from_json(line: &Map<String, Json>) -> Option<Clock> {
    let elapsed = line.get("elapsed").and_then(Json::as_f64).unwrap_or(0.0);
    Some(Clock {
        step: line.get("step")?.as_u64()?,
        tokens: line.get("tokens").and_then(Json::as_u64).unwrap_or(0),
        elapsed: Duration::try_from_secs_f64(elapsed).unwrap_or_default(),
        ..Clock::default()
    })
}

fn value_to_json(value: &Value) -> Option<Json> {
    Some(match value {
        Value::Scalar(scalar) => number::to_json(*scalar),
        Value::Histogram(histogram) => histogram_to_json(histogram),
        Value::Text(text) => json!({ "text": text }),
        Value::Html(html) => json!({ "html": html }),
        Value::Table { columns, rows } => json!({ "columns": columns, "rows": rows }),
        Value::Image(_) | Value::Picture(_) => return None,
        Value::File {
            path,
            kind,
            aliases,
        } => {
            json!({ "file": path.display().to_string(), "kind": kind, "aliases": aliases })
        }
    })
}

fn histogram_to_json(histogram: &Histogram) -> Json {
    let edges = histogram.edges.iter().copied().map(number::to_json);
    json!({
        "edges": edges.collect::<Vec<_>>(),
        "counts": histogram.counts,
        "non_finite": histogram.non_finite,
    })
}

fn value_from_json(value: &Json) -> Option<Value> {
    if let Some(scalar) = number::from_json(value) {
        return Some(Value::Scalar(scalar));
    }
    let value = value.as_object()?;
    if let Some(text) = value.get("text").and_then(string) {
        Some(Value::Text(text))
    } else if let Some(html) = value.get("html").and_then(string) {
        Some(Value::Html(html))
    } else if let Some(path) = value.get("file").and_then(string) {
        file_from_json(path, value)
    } else if value.contains_key("edges") {
        histogram_from_json(value).map(Value::Histogram)
    } else {
        table_from_json(value)
    }
}

fn table_from_json(value: &Map<String, Json>) -> Option<Value> {
    Some(Value::Table {
        columns: list(value.get("columns")?, string)?,
        rows: list(value.get("rows")?, |row| list(row, string))?,
    })
}

fn file_from_json(path: String, value: &Map<String, Json>) -> Option<Value> {
    let aliases = value.get("aliases");
    let aliases = aliases.and_then(|aliases| list(aliases, string));
    Some(Value::File {
        path: path.into(),
        kind: string(value.get("kind")?)?,
        aliases: aliases.unwrap_or_default(),
    })
}

fn histogram_from_json(value: &Map<String, Json>) -> Option<Histogram> {
    Some(Histogram {
        edges: list(value.get("edges")?, number::from_json)?,
        counts: list(value.get("counts")?, Json::as_u64)?,
        non_finite: value.get("non_finite")?.as_u64()?,
    })
}

/// Converts each item of an array; `None` if one cannot be converted.
fn list<T>(array: &Json, convert: impl Fn(&Json) -> Option<T>) -> Option<Vec<T>> {
    array.as_array()?.iter().map(convert).collect()
}

fn string(text: &Json) -> Option<String> {
    text.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_json() {
        let values = [
            ("nan", Value::Scalar(f64::NAN)),
            ("loss", Value::Scalar(0.1 + 0.2)),
            ("low", Value::Scalar(f64::NEG_INFINITY)),
            ("text", Value::Text("NaN".to_owned())),
            ("page", Value::Html("<b>1</b>".to_owned())),
            (
                "table",
                Value::Table {
                    columns: vec!["a".to_owned()],
                    rows: vec![vec!["1".to_owned()]],
                },
            ),
            (
                "empty",
                Value::Table {
                    columns: Vec::new(),
                    rows: Vec::new(),
                },
            ),
            (
                "hist",
                Value::Histogram(Histogram {
                    edges: vec![0.0, 0.5, 1.0],
                    counts: vec![3, 4],
                    non_finite: 1,
                }),
            ),
            (
                "file",
                Value::File {
                    path: "a/b".into(),
                    kind: "model".to_owned(),
                    aliases: vec!["x".to_owned()],
                },
            ),
        ];
        let values = values.map(|(key, value)| (key.to_owned(), value)).to_vec();
        let clock = Clock {
            step: 7,
            tokens: 70,
            elapsed: Duration::from_millis(1_250),
            ..Clock::default()
        };
        let record = Record { clock, values };
        let text = record.to_json().to_string();
        let line = serde_json::from_str(&text).expect("JSON");
        let back = Record::from_json(&line).expect("a record");
        assert_eq!(
            format!("{back:?}"),
            format!("{record:?}"),
            "compared as text, since NaN is not equal to itself"
        );
        assert_eq!(
            Record::from_json(&json!({ "train/loss": 1.0 })),
            None,
            "a line without a step"
        );
    }
}
