//! Values as JSON, and the files of those that are more than a number.

use crate::artifact::about;
use crate::folder;
use crate::png;
use crate::proto::{FileItem, Files, Kind};
use crate::text::{array, number, object, quoted, safe};
use bdh::files::hex;
use bdh::{Histogram, Value};
use sha2::{Digest, Sha256};
use std::io::{self, Write as _};
use std::path::Path;

/// The most bins that W&B takes.
const BINS: usize = 512;

/// The values of one row, and what the log has to say before it.
#[derive(Debug)]
pub(super) struct Encoded<'a> {
    step: u64,
    /// Where files go.
    folder: &'a Path,
    /// Keys and their values in JSON; none for what has no form in a row.
    pub(super) values: Vec<(String, String)>,
    files: Vec<FileItem>,
}

/// A value that is a file.
struct Media<'a> {
    kind: &'a str,
    /// Its folder under `media/`.
    under: &'a str,
    ending: &'a str,
    bytes: &'a [u8],
    /// What is said of it beside path, hash and size, in JSON.
    fields: &'a [(&'a str, String)],
}

impl<'a> Encoded<'a> {
    /// Nothing yet, of a row of `step`, whose files go under `folder`.
    pub(super) fn new(step: u64, folder: &'a Path) -> Self {
        Self {
            step,
            folder,
            values: Vec::new(),
            files: Vec::new(),
        }
    }

    /// Puts a value into its form, and writes its file, if it has one.
    pub(super) fn add(&mut self, key: &str, value: &Value) -> io::Result<()> {
        let json = match value {
            Value::Scalar(scalar) => number(*scalar),
            Value::Histogram(of) => {
                if of.non_finite > 0 {
                    self.values
                        .push((format!("{key}/nonfinite"), of.non_finite.to_string()));
                }
                let Some(json) = histogram(of) else {
                    return Ok(());
                };
                json
            }
            Value::Text(text) => {
                let columns = ["step", "text"].map(str::to_owned);
                self.table(
                    key,
                    &columns,
                    &[array([self.step.to_string(), quoted(text)].into_iter())],
                )?
            }
            Value::Table { columns, rows } => {
                // Text, whatever it looks like: read as a number, "007" and "1e2" would be 7 and 100.
                let row = |row: &Vec<String>| array(row.iter().map(|text| quoted(text)));
                self.table(key, columns, &rows.iter().map(row).collect::<Vec<_>>())?
            }
            Value::Image(bytes) => {
                let Some((width, height)) = png::size(bytes) else {
                    return Ok(());
                };
                let fields = [
                    ("format", quoted("png")),
                    ("width", width.to_string()),
                    ("height", height.to_string()),
                ];
                let kind = "image-file";
                self.media(
                    key,
                    &Media {
                        kind,
                        under: "images",
                        ending: "png",
                        bytes,
                        fields: &fields,
                    },
                )?
            }
            Value::Html(html) => {
                let bytes = html.as_bytes();
                let kind = "html-file";
                self.media(
                    key,
                    &Media {
                        kind,
                        under: "html",
                        ending: "html",
                        bytes,
                        fields: &[],
                    },
                )?
            }
            _ => return Ok(()), // a file is an artifact, and not of the row
        };
        self.values.push((key.to_owned(), json));
        Ok(())
    }

    /// The entry for the files, if there are any.
    pub(super) fn files(&mut self) -> Option<Kind> {
        let files = std::mem::take(&mut self.files);
        (!files.is_empty()).then_some(Kind::Files(Files { files }))
    }

    /// A table of rows that are JSON already.
    fn table(&mut self, key: &str, columns: &[String], rows: &[String]) -> io::Result<String> {
        let columns_json = array(columns.iter().map(|column| quoted(column)));
        let data = array(rows.iter().cloned());
        let json = format!("{{\"columns\":{columns_json},\"data\":{data}}}");
        let fields = [
            ("ncols", columns.len().to_string()),
            ("nrows", rows.len().to_string()),
        ];
        let (kind, bytes) = ("table-file", json.as_bytes());
        self.media(
            key,
            &Media {
                kind,
                under: "table",
                ending: "table.json",
                bytes,
                fields: &fields,
            },
        )
    }

    /// Writes a file, and describes it.
    fn media(&mut self, key: &str, media: &Media<'_>) -> io::Result<String> {
        let Media {
            kind,
            under,
            ending,
            bytes,
            fields,
        } = media;
        let digest = hex(Sha256::digest(bytes));
        let name = format!("{}_{}_{}", safe(key), self.step, &digest[..20]);
        let path = format!("media/{under}/{name}.{ending}");
        let file = self.folder.join(&path);
        // Not by rename: nothing points to it before it is whole, and a sync to the disk for each would take its time.
        folder::make(self.folder, format!("media/{under}"))
            .and_then(|_| folder::create(&file)?.write_all(bytes))
            .map_err(|error| about(&file, error))?;
        let own = [
            ("_type", quoted(kind)),
            ("path", quoted(&path)),
            ("sha256", quoted(&digest)),
            ("size", bytes.len().to_string()),
        ];
        self.files.push(FileItem {
            path,
            policy: 0,
            kind: 2,
        });
        let fields = own
            .iter()
            .chain(*fields)
            .map(|(key, value)| (*key, value.as_str()));
        Ok(object(fields))
    }
}

/// Edges and counts; neighbouring bins are put together where there are too many. None for one without bins.
fn histogram(histogram: &Histogram) -> Option<String> {
    let Histogram { edges, counts, .. } = histogram;
    if counts.is_empty() || edges.len() != counts.len() + 1 {
        return None;
    }
    let together = counts.len().div_ceil(BINS);
    let values = counts
        .chunks(together)
        .map(|chunk| chunk.iter().sum::<u64>().to_string());
    let first = edges
        .iter()
        .step_by(together)
        .take(counts.len().div_ceil(together));
    let bins = first.chain(edges.last()).map(|edge| number(*edge));
    let fields = [
        ("_type", quoted("histogram")),
        ("values", array(values)),
        ("bins", array(bins)),
    ];
    Some(object(
        fields.iter().map(|(key, value)| (*key, value.as_str())),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const KEY: &str = "group/a key";

    fn json(encoded: &Encoded<'_>) -> serde_json::Value {
        let (_, json) = encoded.values.last().expect("a value");
        serde_json::from_str(json).expect("JSON")
    }

    #[test]
    fn a_histogram_of_many_bins_is_put_together_without_losing_a_count() {
        for bins in [1_usize, 2, 64, 512, 513, 1_000, 5_000] {
            let edges: Vec<_> = (0..=bins).map(|edge| edge as f64).collect();
            let of = Histogram {
                edges,
                counts: vec![3; bins],
                non_finite: 0,
            };
            let mut encoded = Encoded::new(7, Path::new("not needed"));
            encoded.add(KEY, &Value::Histogram(of)).expect("no file");
            let json = json(&encoded);
            let values = json["values"].as_array().expect("values");
            let edges = json["bins"].as_array().expect("edges");
            assert!(
                values.len() <= 512 && edges.len() == values.len() + 1,
                "{bins} bins"
            );
            let total: u64 = values.iter().filter_map(serde_json::Value::as_u64).sum();
            assert_eq!((total, edges[0].as_f64()), (3 * bins as u64, Some(0.0)));
            assert_eq!(
                edges.last().and_then(serde_json::Value::as_f64),
                Some(bins as f64)
            );
        }
    }

    #[test]
    fn what_is_not_finite_is_counted_beside_the_histogram() {
        let of = Histogram {
            edges: Vec::new(),
            counts: Vec::new(),
            non_finite: 9,
        };
        let mut encoded = Encoded::new(7, Path::new("not needed"));
        encoded.add(KEY, &Value::Histogram(of)).expect("no file");
        assert_eq!(
            encoded.values,
            [("group/a key/nonfinite".to_owned(), "9".to_owned())]
        );
    }

    #[test]
    fn texts_and_tables_are_files_whose_hash_and_size_are_told() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let mut encoded = Encoded::new(7, folder.path());
        let text = "to be\n\"or\" not";
        encoded
            .add(KEY, &Value::Text(text.to_owned()))
            .expect("a written file");
        let json = json(&encoded);
        let bytes =
            fs::read(folder.path().join(json["path"].as_str().expect("a path"))).expect("its file");
        assert_eq!(json["size"].as_u64(), Some(bytes.len() as u64));
        assert_eq!(json["sha256"], hex(Sha256::digest(&bytes)));
        let table: serde_json::Value = serde_json::from_slice(&bytes).expect("a table");
        let expected = serde_json::json!({ "columns": ["step", "text"], "data": [[7, text]] });
        assert_eq!(table, expected);
    }

    #[test]
    fn text_that_looks_like_a_number_stays_text_in_a_table() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let texts = [
            "  7\n",
            "7",
            "007",
            "1e2",
            "-0.50",
            "18446744073709551617",
            "NaN",
            "true",
            "null",
            "[1]",
            "",
        ];
        let texts = texts.map(str::to_owned);
        let rows: Vec<_> = texts.iter().map(|text| vec![text.clone()]).collect();
        let table = Value::Table {
            columns: vec!["text".to_owned()],
            rows,
        };
        let values = texts.iter().map(|text| Value::Text(text.clone()));
        for value in values.chain([table]) {
            let mut encoded = Encoded::new(7, folder.path());
            encoded.add(KEY, &value).expect("a written file");
            let json = json(&encoded);
            let path = folder.path().join(json["path"].as_str().expect("a path"));
            let table: serde_json::Value =
                serde_json::from_slice(&fs::read(path).expect("its file")).expect("a table");
            let expected = match &value {
                Value::Text(text) => serde_json::json!([[7, text]]),
                _ => texts.iter().map(|text| serde_json::json!([text])).collect(),
            };
            assert_eq!(table["data"], expected);
        }
    }

    #[test]
    fn a_picture_that_is_none_is_passed_over() {
        for bytes in [
            &b""[..],
            b"\x89PNG\r\n\x1a\n",
            b"GIF89a",
            b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0",
        ] {
            let mut encoded = Encoded::new(7, Path::new("not needed"));
            encoded
                .add(KEY, &Value::Image(bytes.to_vec()))
                .expect("no file");
            assert!(encoded.values.is_empty() && encoded.files().is_none());
        }
    }
}
