//! A record as a line of `metrics.jsonl`, there and back.

use super::{Histogram, Record, Value};
use crate::clock::Clock;
use crate::number;
use serde_json::{Map, Value as Json, json};
use std::time::Duration;

/// The keys of the clock in a line.
pub(crate) const CLOCK: [&str; 3] = ["step", "tokens", "elapsed"];

impl Record {
    /// One JSON object: the keys in their order, then the clock's `step`, `tokens` and `elapsed` (seconds).
    ///
    /// NaN and the infinities, which JSON does not have, are the strings `"NaN"`, `"Infinity"` and
    /// `"-Infinity"`. Histograms, texts, tables and HTML are objects, a file is its path; images are left out.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let mut line = Map::new();
        for (key, value) in &self.values {
            if let Some(value) = value_to_json(value) {
                line.insert(key.clone(), value);
            }
        }
        // Last: a key `step` of somebody's own must not pass for the clock's, by which a resume cuts.
        let clock = &self.clock;
        let counts = [
            json!(clock.step),
            json!(clock.tokens),
            json!(clock.elapsed.as_secs_f64()),
        ];
        line.extend(CLOCK.map(str::to_owned).into_iter().zip(counts));
        Json::Object(line)
    }

    /// The record that [`to_json`](Self::to_json) wrote, without images and without the clock's other
    /// counts. `None` for anything else; values of unknown form are passed over.
    #[must_use]
    pub fn from_json(line: &Json) -> Option<Self> {
        let line = line.as_object()?;
        let elapsed = line.get("elapsed").and_then(Json::as_f64).unwrap_or(0.0);
        let clock = Clock {
            step: line.get("step")?.as_u64()?,
            tokens: line.get("tokens").and_then(Json::as_u64).unwrap_or(0),
            elapsed: Duration::try_from_secs_f64(elapsed).unwrap_or_default(),
            ..Clock::default()
        };
        let values = line
            .iter()
            .filter(|(key, _)| !CLOCK.contains(&key.as_str()));
        let values = values.filter_map(|(key, value)| Some((key.clone(), value_from_json(value)?)));
        Some(Self {
            clock,
            values: values.collect(),
        })
    }
}

fn value_to_json(value: &Value) -> Option<Json> {
    Some(match value {
        Value::Scalar(scalar) => number::to_json(*scalar),
        Value::Histogram(histogram) => json!({
            "edges": histogram.edges.iter().copied().map(number::to_json).collect::<Vec<_>>(),
            "counts": histogram.counts,
            "non_finite": histogram.non_finite,
        }),
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

fn value_from_json(value: &Json) -> Option<Value> {
    if let Some(scalar) = number::from_json(value) {
        return Some(Value::Scalar(scalar));
    }
    let text = |name: &str| value.get(name)?.as_str().map(str::to_owned);
    if let Some(text) = text("text") {
        return Some(Value::Text(text));
    }
    if let Some(html) = text("html") {
        return Some(Value::Html(html));
    }
    if let Some(file) = text("file") {
        let aliases = value.get("aliases").and_then(strings).unwrap_or_default();
        return Some(Value::File {
            path: file.into(),
            kind: text("kind")?,
            aliases,
        });
    }
    if let Some(edges) = value.get("edges") {
        return Some(Value::Histogram(Histogram {
            edges: edges
                .as_array()?
                .iter()
                .map(number::from_json)
                .collect::<Option<_>>()?,
            counts: value
                .get("counts")?
                .as_array()?
                .iter()
                .map(Json::as_u64)
                .collect::<Option<_>>()?,
            non_finite: value.get("non_finite")?.as_u64()?,
        }));
    }
    let rows = value
        .get("rows")?
        .as_array()?
        .iter()
        .map(strings)
        .collect::<Option<_>>()?;
    Some(Value::Table {
        columns: strings(value.get("columns")?)?,
        rows,
    })
}

fn strings(array: &Json) -> Option<Vec<String>> {
    array
        .as_array()?
        .iter()
        .map(|text| text.as_str().map(str::to_owned))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_from_its_line() {
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
            "NaN is not equal to itself, its text is"
        );
        assert_eq!(
            Record::from_json(&json!({ "train/loss": 1.0 })),
            None,
            "a line without a step"
        );
    }
}
