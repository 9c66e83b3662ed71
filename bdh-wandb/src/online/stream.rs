//! Lines to send to the server: rows of history, lines of output and the summary.
//!
//! Each line has a number on the server, so a request without an answer can be sent again.

use serde_json::Value as Json;
use std::collections::VecDeque;
use std::fmt::Write as _;

/// Largest request, in bytes; further lines go into the next one.
const MAX_BODY: usize = 10 << 20;

/// Longest line that the server accepts, in bytes.
const MAX_LINE: usize = (10 << 20) - (100 << 10);

/// Length in bytes of a line that is too long for the server.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong(pub(super) usize);

/// Lines that have been read and not been sent.
#[derive(Debug, Default)]
pub(super) struct Stream {
    rows: Lines,
    output: Lines,
    /// Summary as a JSON string.
    summary: Option<String>,
    uploaded: VecDeque<String>,
}

/// Lines of one file, as JSON strings.
#[derive(Debug, Default)]
struct Lines {
    /// Number of the first pending line on the server.
    first: u64,
    waiting: VecDeque<String>,
    /// Size of the pending lines, in bytes.
    bytes: usize,
}

/// Request, with the number of lines of each kind in it.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) body: String,
    rows: usize,
    output: usize,
    summary: bool,
    uploaded: usize,
}

impl Stream {
    /// Sets the numbers of the first row and the first line of output to send.
    pub(super) fn start_at(&mut self, rows: u64, output: u64) {
        (self.rows.first, self.output.first) = (rows, output);
    }

    /// Returns the number of rows that the server has acknowledged.
    pub(super) fn rows_sent(&self) -> u64 {
        self.rows.first
    }

    pub(super) fn push_row(&mut self, line: &str) {
        self.rows.push(line);
    }

    pub(super) fn push_output(&mut self, line: &str) {
        self.output.push(line);
    }

    /// Replaces the pending summary.
    pub(super) fn summarize(&mut self, summary: &str) -> Result<(), TooLong> {
        check(summary)?;
        self.summary = Some(quoted(summary));
        Ok(())
    }

    /// Adds a file that has arrived to the next request.
    pub(super) fn uploaded(&mut self, name: String) {
        self.uploaded.push_back(name);
    }

    /// Whether enough is pending that reading should pause.
    pub(super) fn is_full(&self) -> bool {
        self.rows.bytes + self.output.bytes >= MAX_BODY
    }

    /// Returns the next request; `None` if nothing is pending.
    pub(super) fn batch(&self) -> Option<Batch> {
        let mut space = MAX_BODY.saturating_sub(self.summary.as_ref().map_or(0, String::len));
        let rows = self.rows.that_fit(&mut space);
        let output = self.output.that_fit(&mut space);
        let (summary, uploaded) = (self.summary.is_some(), self.uploaded.len());
        if rows + output + uploaded == 0 && !summary {
            return None;
        }
        let mut batch = Batch {
            // With its final size, as growing would copy up to 10 MiB several times; 256 bytes are for the keys.
            body: String::with_capacity(MAX_BODY - space + 256),
            rows,
            output,
            summary,
            uploaded,
        };
        self.write_body(&mut batch);
        Some(batch)
    }

    fn write_body(&self, batch: &mut Batch) {
        let body = &mut batch.body;
        body.push_str("{\"files\":{");
        self.rows.write("wandb-history.jsonl", batch.rows, body);
        self.output.write("output.log", batch.output, body);
        if let Some(line) = &self.summary {
            write_chunk("wandb-summary.json", 0, std::iter::once(line), body);
        }
        body.push('}');
        if batch.uploaded > 0 {
            let names: Json = self.uploaded.iter().map(String::as_str).collect();
            let _ = write!(body, ",\"uploaded\":{names}"); // writing to a String cannot fail
        }
        body.push('}');
    }

    /// Removes the lines of an acknowledged request.
    pub(super) fn arrived(&mut self, batch: &Batch) {
        self.rows.drop_first(batch.rows);
        self.output.drop_first(batch.output);
        self.uploaded.drain(..batch.uploaded);
        if batch.summary {
            self.summary = None;
        }
    }
}

impl Lines {
    fn push(&mut self, line: &str) {
        let line = quoted(line);
        self.bytes += line.len() + 1;
        self.waiting.push_back(line);
    }

    /// Returns how many lines fit into `space` bytes of a request, and reduces `space`.
    ///
    /// The first line always fits if more than half of a request is free: otherwise a long line would never be sent.
    fn that_fit(&self, space: &mut usize) -> usize {
        let mut count = 0;
        for line in &self.waiting {
            if line.len() + 1 > *space && !(count == 0 && *space > MAX_BODY / 2) {
                break;
            }
            *space = space.saturating_sub(line.len() + 1);
            count += 1;
        }
        count
    }

    fn write(&self, name: &str, count: usize, body: &mut String) {
        if count > 0 {
            write_chunk(name, self.first, self.waiting.iter().take(count), body);
        }
    }

    fn drop_first(&mut self, count: usize) {
        self.first += count as u64;
        for line in self.waiting.drain(..count) {
            self.bytes -= line.len() + 1;
        }
    }
}

/// Checks that the server accepts a line of this length.
pub(super) fn check(line: &str) -> Result<(), TooLong> {
    if line.len() > MAX_LINE {
        return Err(TooLong(line.len()));
    }
    Ok(())
}

/// Appends the lines of a file, which start at the number `offset`, to a body that ends in the object of all files.
fn write_chunk<'a>(
    name: &str,
    offset: u64,
    lines: impl Iterator<Item = &'a String>,
    body: &mut String,
) {
    let comma = if body.ends_with('{') { "" } else { "," };
    // Writing to a String cannot fail.
    let _ = write!(
        body,
        "{comma}\"{name}\":{{\"offset\":{offset},\"content\":["
    );
    for (index, line) in lines.enumerate() {
        if index > 0 {
            body.push(',');
        }
        body.push_str(line);
    }
    body.push_str("]}");
}

fn quoted(text: &str) -> String {
    Json::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offsets(batch: &Batch) -> Vec<(String, u64, usize)> {
        let body: Json = serde_json::from_str(&batch.body).expect("JSON");
        let files = body["files"].as_object().expect("files").clone();
        files
            .into_iter()
            .map(|(name, chunk)| {
                let lines = chunk["content"].as_array().expect("lines").len();
                (name, chunk["offset"].as_u64().expect("an offset"), lines)
            })
            .collect()
    }

    #[test]
    fn lines_without_an_answer_are_sent_again_at_the_same_place() {
        let mut stream = Stream::default();
        stream.start_at(7, 2);
        stream.push_row(r#"{"loss":NaN}"#);
        stream.push_output("a line");
        stream.summarize("{}").expect("a short summary");
        let batch = stream.batch().expect("a request");
        let expected = [
            ("wandb-history.jsonl", 7, 1),
            ("output.log", 2, 1),
            ("wandb-summary.json", 0, 1),
        ];
        let expected = expected.map(|(name, offset, lines)| (name.to_owned(), offset, lines));
        assert_eq!(offsets(&batch), expected);
        stream.push_row("{}");
        assert_eq!(
            offsets(&stream.batch().expect("a request"))[0],
            ("wandb-history.jsonl".to_owned(), 7, 2)
        );
        stream.arrived(&batch);
        assert_eq!(
            offsets(&stream.batch().expect("a request")),
            [("wandb-history.jsonl".to_owned(), 8, 1)]
        );
        stream.arrived(&stream.batch().expect("a request"));
        assert!(stream.batch().is_none());
        assert_eq!(stream.rows_sent(), 9);
    }

    #[test]
    fn requests_stay_below_ten_mebibytes() {
        let mut stream = Stream::default();
        for _ in 0..30 {
            stream.push_row(&format!("{{\"text\":\"{}\"}}", "x".repeat(1 << 20)));
        }
        stream.push_row(&"x".repeat(MAX_LINE));
        stream.push_row("{}");
        let mut sizes = Vec::new();
        while let Some(batch) = stream.batch() {
            assert!(batch.body.len() < MAX_BODY + 200, "{}", batch.body.len());
            sizes.push(batch.rows);
            stream.arrived(&batch);
        }
        assert_eq!((sizes, stream.rows.bytes), (vec![9, 9, 9, 3, 2], 0));
        assert_eq!(check(&"x".repeat(MAX_LINE + 1)), Err(TooLong(10_383_361)));
    }
}
