//! JSONL and text, plain or compressed.

use super::error::DocumentError;
use super::file::DocumentFile;
use super::part::Part;
use crate::left_out::why_not_text;
use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// Documents of a group of JSONL.
const GROUP: usize = 1024;

/// Most bytes of a document: a small compressed file could otherwise fill the memory.
const LIMIT: u64 = 256 << 20;

/// Bytes that editors of Windows put before UTF-8 text.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Compression of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// Finds the compression by the first bytes of a file.
    pub(super) fn of(head: &[u8]) -> Self {
        if head.starts_with(b"\x1f\x8b") {
            Self::Gzip
        } else if head.starts_with(b"\x28\xb5\x2f\xfd") {
            Self::Zstd
        } else {
            Self::None
        }
    }

    fn open(self, path: &Path) -> Result<Box<dyn BufRead + Send>, DocumentError> {
        let unreadable = |source| DocumentError::unreadable(path, source);
        let file = File::open(path).map_err(unreadable)?;
        Ok(match self {
            Self::None => Box::new(BufReader::new(file)),
            Self::Gzip => Box::new(BufReader::new(MultiGzDecoder::new(file))),
            Self::Zstd => {
                let decoder = zstd::Decoder::new(file).map_err(unreadable)?;
                Box::new(BufReader::new(decoder))
            }
        })
    }
}

/// Reads a whole file as one text.
pub(super) fn read_text(path: &Path, compression: Compression) -> Result<String, DocumentError> {
    let mut bytes = Vec::new();
    let mut limited = compression.open(path)?.take(LIMIT + 1);
    if let Err(error) = limited.read_to_end(&mut bytes) {
        return Err(DocumentError::damaged(path, "its content", &error));
    }
    if bytes.len() as u64 > LIMIT {
        return Err(too_large(path));
    }
    if let Some(why) = why_not_text(&bytes) {
        return Err(DocumentError::damaged(path, "its text", &why));
    }
    String::from_utf8(bytes).map_err(|error| DocumentError::damaged(path, "its text", &error))
}

/// Reader of a file with a JSON object in each line.
pub(super) struct LineReader {
    path: PathBuf,
    part: Part,
    lines: Box<dyn BufRead + Send>,
    /// Number of lines that were read.
    line: u64,
    /// Number of documents that were read, of all parts.
    documents: u64,
}

impl fmt::Debug for LineReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LineReader")
            .field("path", &self.path)
            .field("line", &self.line)
            .finish_non_exhaustive()
    }
}

/// Fields of a line that are read.
#[derive(Deserialize)]
struct Line {
    text: String,
}

impl LineReader {
    pub(super) fn open(
        file: &DocumentFile,
        compression: Compression,
    ) -> Result<Self, DocumentError> {
        Ok(Self {
            path: file.path.clone(),
            part: file.part,
            lines: compression.open(&file.path)?,
            line: 0,
            documents: 0,
        })
    }

    /// Reads the next documents of the part; `None` at the end of the file.
    pub(super) fn next_group(&mut self) -> Result<Option<Vec<String>>, DocumentError> {
        let mut texts = Vec::new();
        while texts.len() < GROUP {
            let Some(text) = self.next_document()? else {
                break;
            };
            if self.part.has(self.documents) {
                texts.push(text);
            }
            self.documents += 1;
        }
        Ok(Some(texts).filter(|texts| !texts.is_empty()))
    }

    /// Reads the document of the next line that is not blank.
    fn next_document(&mut self) -> Result<Option<String>, DocumentError> {
        loop {
            let mut bytes = Vec::new();
            let mut limited = (&mut self.lines).take(LIMIT + 1);
            if let Err(error) = limited.read_until(b'\n', &mut bytes) {
                let place = format!("line {}", self.line + 1);
                return Err(DocumentError::damaged(&self.path, place, &error));
            }
            if bytes.is_empty() {
                return Ok(None);
            }
            if bytes.len() as u64 > LIMIT {
                return Err(too_large(&self.path));
            }
            self.line += 1;
            let line = trimmed(&bytes);
            if !line.is_empty() {
                return self.document(line).map(Some);
            }
        }
    }

    fn document(&self, line: &[u8]) -> Result<String, DocumentError> {
        parse(line).map_err(|why| DocumentError::Line {
            path: self.path.clone(),
            line: self.line,
            why: format!("is no object with a text ({why})"),
        })
    }
}

/// Parses a line. serde would take an array of one string for an object with a text.
fn parse(line: &[u8]) -> Result<String, String> {
    if !line.starts_with(b"{") {
        return Err("it has no `{` at its start".to_owned());
    }
    match serde_json::from_slice::<Line>(line) {
        Ok(line) => Ok(line.text),
        Err(error) => Err(error.to_string()),
    }
}

/// Returns a line without spaces and byte order mark.
fn trimmed(line: &[u8]) -> &[u8] {
    line.strip_prefix(BYTE_ORDER_MARK)
        .unwrap_or(line)
        .trim_ascii()
}

/// Returns whether the first line that is not blank is a document, or may be one that the end of the head cuts.
pub(super) fn starts_with_document(head: &[u8], is_whole: bool) -> bool {
    let mut lines = head.split_inclusive(|byte| *byte == b'\n');
    let Some(line) = lines.find(|line| !trimmed(line).is_empty()) else {
        return true;
    };
    let is_cut = !is_whole && !line.ends_with(b"\n");
    is_cut && trimmed(line).starts_with(b"{") || parse(trimmed(line)).is_ok()
}

fn too_large(path: &Path) -> DocumentError {
    DocumentError::TooLarge {
        path: path.to_owned(),
        limit: LIMIT,
    }
}
