//! Formats of files, found by their first bytes.

use super::DocumentKind;
use super::error::DocumentError;
use super::lines::{Compression, LineReader, read_text, starts_with_document};
use super::parquet::{ParquetReader, check_column};
use super::part::Part;
use crate::left_out::why_not_text;
use bdh::files::hex;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Bytes of a file that decide its format.
const HEAD: usize = 64 << 10;

/// Bytes at the end of a file that belong to its digest.
const TAIL: u64 = 4 << 10;

/// File of documents.
#[derive(Debug, Clone)]
pub(super) struct DocumentFile {
    pub(super) path: PathBuf,
    /// Name below the opened directory.
    pub(super) name: String,
    /// Bytes on the disk.
    pub(super) size: u64,
    /// SHA-256 of the first and the last bytes, to tell files of one name and size apart.
    pub(super) digest: String,
    pub(super) format: Format,
    pub(super) part: Part,
}

/// Format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Parquet,
    Lines(Compression),
    Text(Compression),
}

impl Format {
    pub(super) fn kind(self) -> DocumentKind {
        match self {
            Self::Parquet => DocumentKind::Parquet,
            Self::Lines(_) => DocumentKind::Lines,
            Self::Text(_) => DocumentKind::Text,
        }
    }
}

impl DocumentFile {
    /// Opens a file and finds its format. The inner error is the reason why it has no documents.
    pub(super) fn open(path: &Path, name: String) -> Result<Result<Self, String>, DocumentError> {
        let unreadable = |source| DocumentError::unreadable(path, source);
        let mut file = File::open(path).map_err(unreadable)?;
        let size = file.metadata().map_err(unreadable)?.len();
        // An empty parquet file is a download that failed. Left out, another file would become the validation split.
        if size == 0 && !is_named(path, "parquet") {
            return Ok(Err("empty".to_owned()));
        }
        let mut head = Vec::new();
        (&mut file)
            .take(HEAD as u64)
            .read_to_end(&mut head)
            .map_err(unreadable)?;
        let format = match format_of(path, &head) {
            Ok(format) => format,
            Err(why) => return Ok(Err(why)),
        };
        match format {
            Format::Parquet => check_column(path)?,
            // Only the whole content shows that it is text, as of Latin-1 with a late accent, or of an archive in gzip.
            Format::Text(compression) => match read_text(path, compression) {
                Err(DocumentError::Damaged { why, .. }) => return Ok(Err(why)),
                text => drop(text?),
            },
            Format::Lines(_) => {}
        }
        let digest = digest(head, &mut file, size).map_err(unreadable)?;
        Ok(Ok(Self {
            path: path.to_owned(),
            name,
            size,
            digest,
            format,
            part: Part::All,
        }))
    }

    /// Opens the file for reading from a group on.
    pub(super) fn reader(&self, group: usize) -> Result<Reader, DocumentError> {
        match self.format {
            Format::Parquet => Ok(Reader::Parquet(ParquetReader::open(self, group)?)),
            Format::Lines(compression) => {
                let mut lines = LineReader::open(self, compression)?;
                for _ in 0..group {
                    if lines.next_group()?.is_none() {
                        break;
                    }
                }
                Ok(Reader::Lines(lines))
            }
            Format::Text(_) if group > 0 => Ok(Reader::Text(None)),
            Format::Text(compression) => {
                let text = read_text(&self.path, compression)?;
                let text = self.part.of_text(&text).to_owned();
                Ok(Reader::Text(Some(text).filter(|text| !text.is_empty())))
            }
        }
    }
}

/// Reader of one file.
#[derive(Debug)]
pub(super) enum Reader {
    Parquet(ParquetReader),
    Lines(LineReader),
    Text(Option<String>),
}

impl Reader {
    /// Reads the next group; `None` at the end of the file.
    pub(super) fn next_group(&mut self) -> Result<Option<Vec<String>>, DocumentError> {
        match self {
            Self::Parquet(reader) => reader.next_group(),
            Self::Lines(reader) => reader.next_group(),
            Self::Text(text) => Ok(text.take().map(|text| vec![text])),
        }
    }
}

/// Returns the SHA-256 of the head of a file and of its last bytes.
fn digest(mut bytes: Vec<u8>, file: &mut File, size: u64) -> io::Result<String> {
    file.seek(SeekFrom::Start(size.saturating_sub(TAIL)))?;
    file.take(TAIL).read_to_end(&mut bytes)?;
    Ok(hex(Sha256::digest(bytes)))
}

/// Returns the format of a file, or the reason why it has no documents.
fn format_of(path: &Path, head: &[u8]) -> Result<Format, String> {
    // By its name too: a file that is cut within its first bytes is damaged, and no text.
    if head.starts_with(b"PAR1") || is_named(path, "parquet") {
        return Ok(Format::Parquet);
    }
    let compression = Compression::of(head);
    if compression == Compression::None
        && let Some(why) = why_not_text(whole_characters(head))
    {
        return Err(why);
    }
    // Such as `dataset_infos.json` beside the data.
    if compression == Compression::None
        && is_named(path, "json")
        && !starts_with_document(head, head.len() < HEAD)
    {
        return Err("JSON, but not an object with a `text` in each line".to_owned());
    }
    if has_lines(path) {
        Ok(Format::Lines(compression))
    } else {
        Ok(Format::Text(compression))
    }
}

fn is_named(path: &Path, extension: &str) -> bool {
    path.extension()
        .is_some_and(|end| end.eq_ignore_ascii_case(extension))
}

/// Returns the head of a file without a character that the end of the head cuts.
fn whole_characters(head: &[u8]) -> &[u8] {
    if head.len() < HEAD {
        return head;
    }
    match std::str::from_utf8(head) {
        Err(error) if error.error_len().is_none() => &head[..error.valid_up_to()],
        _ => head,
    }
}

/// Returns whether the name is that of a file with a JSON object in each line.
fn has_lines(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.to_lowercase();
    let plain = [".gz", ".zst", ".zstd"]
        .iter()
        .find_map(|end| name.strip_suffix(end));
    let plain = plain.unwrap_or(&name);
    [".jsonl", ".ndjson", ".json"]
        .iter()
        .any(|end| plain.ends_with(end))
}
