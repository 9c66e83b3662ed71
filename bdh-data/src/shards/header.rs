//! Headers of token shards.
//!
//! Sources: nanochat's rewrite (PR #800) for rows; modded-nanogpt and llm.c for streams.

use super::ShardFormat;
use super::error::ShardError;
use super::npy;
use super::writer::RowHeader;
use std::path::Path;

/// Number of bytes that are read of each file at first, more than any header has.
pub(super) const HEAD: usize = 4096;

/// Magic number of rows.
pub(super) const ROWS_MAGIC: i32 = 20_260_902;
/// Bytes of the header of rows: 64 numbers.
pub(super) const ROWS_HEADER: usize = 256;
/// Magic number of a stream.
const STREAM_MAGIC: i32 = 20_240_520;
/// Bytes of the header of a stream: 256 numbers.
const STREAM_HEADER: usize = 1024;
/// Version of both formats.
pub(super) const VERSION: i32 = 1;

/// Largest vocabulary with ids of two bytes; the id 65535 marks a target to ignore.
pub(super) const MAX_VOCAB: usize = 65_535;

/// Format, place and number of the ids in a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) format: ShardFormat,
    /// Place of the first id, in bytes.
    pub(super) data: u64,
    /// Number of rows, or of ids in a stream.
    pub(super) len: u64,
    /// Settings of rows; `None` for a stream.
    pub(super) rows: Option<RowHeader>,
}

impl Header {
    /// Reads a header from the first bytes of a file.
    pub(super) fn parse(path: &Path, head: &[u8]) -> Result<Self, ShardError> {
        if head.starts_with(npy::MAGIC) {
            return npy::parse(path, head);
        }
        let Some(magic) = number(head, 0) else {
            return Err(not_a_shard(path, format!("it has {} bytes", head.len())));
        };
        match magic {
            ROWS_MAGIC => rows(&Fields::new(path, head, ROWS_HEADER)?),
            STREAM_MAGIC => stream(&Fields::new(path, head, STREAM_HEADER)?),
            _ => Err(not_a_shard(path, format!("its magic is {magic}"))),
        }
    }

    /// Returns the length of a complete file, in bytes.
    pub(super) fn file_len(&self) -> u64 {
        // Numbers of a header are below 2^31, so only the length of an `.npy` can reach the limit.
        let ids = match self.rows {
            Some(rows) => 2 * self.len * rows.row_len as u64, // inputs and targets
            None => self.len,
        };
        ids.saturating_mul(2).saturating_add(self.data)
    }
}

/// Numbers of a complete header.
struct Fields<'a> {
    path: &'a Path,
    head: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Checks that the header is complete and has a known version.
    fn new(path: &'a Path, head: &'a [u8], len: usize) -> Result<Self, ShardError> {
        let Some(head) = head.get(..len) else {
            let why = format!("the file has {} bytes, and the header {len}", head.len());
            return Err(damaged(path, why));
        };
        let fields = Self { path, head };
        match number(head, 1) {
            Some(VERSION) => Ok(fields),
            found => {
                let found = found.unwrap_or_default();
                Err(fields.damaged("version", found, "only 1 is known"))
            }
        }
    }

    /// Returns a number of the header that is at least `least`.
    fn at_least(&self, index: usize, name: &str, least: i32) -> Result<u32, ShardError> {
        let value = number(self.head, index).unwrap_or_default();
        if value < least {
            return Err(self.damaged(name, value, &format!("it is {least} or more")));
        }
        Ok(value.cast_unsigned())
    }

    /// Returns the size of the vocabulary, whose ids have two bytes.
    fn vocab_size(&self) -> Result<usize, ShardError> {
        let size = self.at_least(4, "vocab_size", 1)?;
        if size as usize > MAX_VOCAB {
            let size = size.cast_signed();
            return Err(self.damaged("vocab_size", size, "ids of two bytes allow 65535"));
        }
        Ok(size as usize)
    }

    fn damaged(&self, name: &str, value: i32, rule: &str) -> ShardError {
        damaged(self.path, format!("its {name} is {value}, and {rule}"))
    }
}

fn rows(fields: &Fields<'_>) -> Result<Header, ShardError> {
    let row_len = fields.at_least(2, "row_len", 1)?;
    let num_rows = fields.at_least(3, "num_rows", 0)?;
    Ok(Header {
        format: ShardFormat::Rows,
        data: ROWS_HEADER as u64,
        len: num_rows.into(),
        rows: Some(RowHeader {
            row_len: row_len as usize,
            vocab_size: fields.vocab_size()?,
            tokenizer_id: number(fields.head, 5).unwrap_or_default(),
        }),
    })
}

fn stream(fields: &Fields<'_>) -> Result<Header, ShardError> {
    let num_tokens = fields.at_least(2, "num_tokens", 0)?;
    Ok(Header {
        format: ShardFormat::Stream,
        data: STREAM_HEADER as u64,
        len: num_tokens.into(),
        rows: None,
    })
}

/// Returns the number at an index of a header.
fn number(head: &[u8], index: usize) -> Option<i32> {
    let bytes = head.get(4 * index..)?.first_chunk()?;
    Some(i32::from_le_bytes(*bytes))
}

pub(super) fn not_a_shard(path: &Path, found: String) -> ShardError {
    ShardError::NotAShard {
        path: path.to_owned(),
        found,
    }
}

pub(super) fn damaged(path: &Path, why: String) -> ShardError {
    ShardError::Damaged {
        path: path.to_owned(),
        why,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(numbers: &[i32], len: usize) -> Vec<u8> {
        let mut head: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        head.resize(len, 0);
        head
    }

    fn parse(head: &[u8]) -> Result<Header, String> {
        Header::parse(Path::new("x"), head).map_err(|error| error.to_string())
    }

    #[test]
    fn headers_decide_the_length_of_a_file() {
        let rows = parse(&head(&[ROWS_MAGIC, 1, 2048, 10, 50_000, 7], 256)).expect("a header");
        assert_eq!(rows.file_len(), 256 + 4 * 2048 * 10);
        let stream = parse(&head(&[STREAM_MAGIC, 1, 1000], 1024)).expect("a header");
        assert_eq!(stream.file_len(), 1024 + 2 * 1000);
        let largest = [ROWS_MAGIC, 1, i32::MAX, i32::MAX, 65_535, -1];
        let largest = parse(&head(&largest, 256)).expect("a header");
        assert_eq!(largest.file_len(), 256 + 4 * (i32::MAX as u64).pow(2));
    }

    #[test]
    fn impossible_numbers_of_a_header_are_refused_with_their_names() {
        for (numbers, name) in [
            ([ROWS_MAGIC, 2, 4, 1, 10], "version is 2"),
            ([ROWS_MAGIC, 1, 0, 1, 10], "row_len is 0"),
            ([ROWS_MAGIC, 1, 4, -1, 10], "num_rows is -1"),
            ([ROWS_MAGIC, 1, 4, 1, 65_536], "vocab_size is 65536"),
            ([STREAM_MAGIC, 1, -5, 0, 0], "num_tokens is -5"),
        ] {
            let error = parse(&head(&numbers, 1024)).expect_err(name);
            assert!(error.contains(name), "{error}");
        }
    }
}
