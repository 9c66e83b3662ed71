//! Values as JSON, and the files of media.

use crate::artifact::about;
use crate::folder;
use crate::png;
use crate::proto::{FileItem, Files, Kind};
use crate::text::{array, number, object, quoted, safe};
use bdh::Value;
use bdh::files::hex;
use bdh::stats::Histogram;
use sha2::{Digest, Sha256};
use std::io::{self, Write as _};
use std::path::Path;

/// Largest number of bins that W&B accepts.
const BINS: usize = 512;

/// Values of one row, and the files that must be in the log before it.
#[derive(Debug)]
pub(super) struct Encoded<'a> {
    step: u64,
    /// Folder of the run's files.
    folder: &'a Path,
    /// Keys and their values in JSON.
    pub(super) values: Vec<(String, String)>,
    files: Vec<FileItem>,
}

/// Value that is stored in a file.
struct Media<'a> {
    kind: &'static str,
    /// Folder under `media/`.
    under: &'static str,
    ending: &'static str,
    bytes: &'a [u8],
    /// Fields beside path, hash and size, as JSON.
    fields: Vec<(&'static str, String)>,
}

impl<'a> Encoded<'a> {
    /// Returns an empty row of `step`, whose files go under `folder`.
    pub(super) fn new(step: u64, folder: &'a Path) -> Self {
        Self {
            step,
            folder,
            values: Vec::new(),
            files: Vec::new(),
        }
    }

    /// Adds a value to the row, and writes its file if it has one.
    ///
    /// A value that W&B cannot show, such as bytes that are not a PNG, is left out.
    pub(super) fn add(&mut self, key: &str, value: &Value) -> io::Result<()> {
        let json = match value {
            Value::Scalar(scalar) => Some(number(*scalar)),
            Value::Histogram(of) => {
                self.add_non_finite(key, of);
                histogram(of)
            }
            Value::Text(text) => Some(self.text(key, text)?),
            Value::Table { columns, rows } => Some(self.cells(key, columns, rows)?),
            Value::Image(png) => self.image(key, png)?,
            Value::Html(html) => Some(self.html(key, html)?),
            _ => None, // a file becomes an artifact, which is not part of a row
        };
        if let Some(json) = json {
            self.values.push((key.to_owned(), json));
        }
        Ok(())
    }

    /// Adds the number of a histogram's values that are not finite, if there are any.
    fn add_non_finite(&mut self, key: &str, histogram: &Histogram) {
        if histogram.non_finite > 0 {
            self.values
                .push((format!("{key}/nonfinite"), histogram.non_finite.to_string()));
        }
    }

    /// Returns the entry for the files; `None` if there are none.
    pub(super) fn files(&mut self) -> Option<Kind> {
        let files = std::mem::take(&mut self.files);
        (!files.is_empty()).then_some(Kind::Files(Files { files }))
    }

    /// Writes a text as a table of one row, and returns its description.
    fn text(&mut self, key: &str, text: &str) -> io::Result<String> {
        let columns = ["step", "text"].map(str::to_owned);
        let row = array([self.step.to_string(), quoted(text)].into_iter());
        self.table(key, &columns, &[row])
    }

    /// Writes a table, and returns its description.
    fn cells(&mut self, key: &str, columns: &[String], rows: &[Vec<String>]) -> io::Result<String> {
        // Cells stay text: read as numbers, "007" and "1e2" would become 7 and 100.
        let mut json = Vec::with_capacity(rows.len());
        for row in rows {
            json.push(array(row.iter().map(|text| quoted(text))));
        }
        self.table(key, columns, &json)
    }

    /// Writes a table of rows that are JSON already, and returns its description.
    fn table(&mut self, key: &str, columns: &[String], rows: &[String]) -> io::Result<String> {
        let json = table_json(columns, rows);
        let fields = vec![
            ("ncols", columns.len().to_string()),
            ("nrows", rows.len().to_string()),
        ];
        let media = Media {
            kind: "table-file",
            under: "table",
            ending: "table.json",
            bytes: json.as_bytes(),
            fields,
        };
        self.media(key, media)
    }

    /// Writes an image, and returns its description; `None` if the bytes are not a PNG.
    fn image(&mut self, key: &str, png: &[u8]) -> io::Result<Option<String>> {
        let Some((width, height)) = png::size(png) else {
            return Ok(None);
        };
        let fields = vec![
            ("format", quoted("png")),
            ("width", width.to_string()),
            ("height", height.to_string()),
        ];
        let media = Media {
            kind: "image-file",
            under: "images",
            ending: "png",
            bytes: png,
            fields,
        };
        self.media(key, media).map(Some)
    }

    /// Writes a page, and returns its description.
    fn html(&mut self, key: &str, html: &str) -> io::Result<String> {
        let media = Media {
            kind: "html-file",
            under: "html",
            ending: "html",
            bytes: html.as_bytes(),
            fields: Vec::new(),
        };
        self.media(key, media)
    }

    /// Writes a file, and returns its description.
    fn media(&mut self, key: &str, media: Media<'_>) -> io::Result<String> {
        let digest = hex(Sha256::digest(media.bytes));
        let name = format!("{}_{}_{}", safe(key), self.step, &digest[..20]);
        let path = format!("media/{}/{name}.{}", media.under, media.ending);
        self.write_file(&path, &media)?;
        let mut fields = vec![
            ("_type", quoted(media.kind)),
            ("path", quoted(&path)),
            ("sha256", quoted(&digest)),
            ("size", media.bytes.len().to_string()),
        ];
        fields.extend(media.fields);
        self.files.push(FileItem {
            path,
            policy: 0, // upload now
            kind: 2,   // media
        });
        Ok(object_of(&fields))
    }

    /// Writes the file of a value at a path within the folder.
    fn write_file(&self, path: &str, media: &Media<'_>) -> io::Result<()> {
        let file = self.folder.join(path);
        // Without a rename: no entry names the file before it is whole, and a sync to the disk for each would be slow.
        folder::make(self.folder, format!("media/{}", media.under))
            .and_then(|_| folder::create(&file)?.write_all(media.bytes))
            .map_err(|error| about(&file, error))
    }
}

/// Returns the content of a table's file.
fn table_json(columns: &[String], rows: &[String]) -> String {
    let columns = array(columns.iter().map(|column| quoted(column)));
    let data = array(rows.iter().cloned());
    format!("{{\"columns\":{columns},\"data\":{data}}}")
}

/// Returns the JSON object of some fields.
fn object_of(fields: &[(&str, String)]) -> String {
    object(fields.iter().map(|(key, value)| (*key, value.as_str())))
}

/// Returns edges and counts, with neighbouring bins merged down to [`BINS`]; `None` for a histogram without bins.
fn histogram(histogram: &Histogram) -> Option<String> {
    let Histogram { edges, counts, .. } = histogram;
    if counts.is_empty() || edges.len() != counts.len() + 1 {
        return None;
    }
    let merged = counts.len().div_ceil(BINS);
    let mut values = Vec::new();
    let mut bins = Vec::new();
    for (index, chunk) in counts.chunks(merged).enumerate() {
        values.push(chunk.iter().sum::<u64>().to_string());
        bins.push(number(edges[index * merged]));
    }
    bins.push(number(edges[counts.len()]));
    let fields = [
        ("_type", quoted("histogram")),
        ("values", array(values.into_iter())),
        ("bins", array(bins.into_iter())),
    ];
    Some(object_of(&fields))
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
    fn merged_bins_keep_every_count() {
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
    fn non_finite_values_are_counted_beside_the_histogram() {
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
    fn texts_and_tables_are_files_with_hash_and_size() {
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
    fn numeric_text_stays_text_in_a_table() {
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
    fn bytes_that_are_not_a_png_are_skipped() {
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
