//! One shard: a file whose length agrees with its header.

use super::error::ShardError;
use super::header::{HEAD, Header};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// File with token ids, whose length agrees with its header.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) path: PathBuf,
    pub(super) header: Header,
    /// Number of rows, or of tokens of a stream, in the shards before this one.
    pub(super) start: u64,
}

impl Shard {
    /// Reads the head of a file, and compares the length with the header.
    pub(super) fn open(path: PathBuf, start: u64, digest: &mut Sha256) -> Result<Self, ShardError> {
        let (len, head) = match read_head(&path) {
            Ok(read) => read,
            Err(source) => return Err(ShardError::Unreadable { path, source }),
        };
        digest.update(len.to_le_bytes());
        digest.update(&head);
        let header = Header::parse(&path, &head)?;
        let expected = header.file_len();
        if len != expected {
            let found = len;
            return Err(ShardError::Length {
                path,
                found,
                expected,
            });
        }
        Ok(Self {
            path,
            header,
            start,
        })
    }

    /// Returns the number of rows, or of tokens of a stream.
    pub(super) fn len(&self) -> u64 {
        self.header.len
    }

    /// Checks that two shards belong together.
    pub(super) fn check_fits(&self, other: &Self) -> Result<(), ShardError> {
        let (one, two) = (&self.header, &other.header);
        if one.format != two.format {
            return Err(ShardError::Mixed {
                first: self.path.clone(),
                first_format: one.format,
                second: other.path.clone(),
                second_format: two.format,
            });
        }
        let (Some(one), Some(two)) = (one.rows, two.rows) else {
            return Ok(()); // headers of streams have no settings
        };
        for ((what, one), (_, two)) in one.fields().into_iter().zip(two.fields()) {
            if one != two {
                return Err(self.differs(other, what, one, two));
            }
        }
        Ok(())
    }

    fn differs(&self, other: &Self, what: &'static str, one: i64, two: i64) -> ShardError {
        ShardError::Differs {
            what,
            first: self.path.clone(),
            first_value: one,
            second: other.path.clone(),
            second_value: two,
        }
    }
}

/// Returns the length of a regular file, and its first bytes.
pub(super) fn read_head(path: &Path) -> io::Result<(u64, Vec<u8>)> {
    let file = open_file(path)?;
    let len = file.metadata()?.len();
    let mut head = Vec::with_capacity(HEAD);
    file.take(HEAD as u64).read_to_end(&mut head)?;
    Ok((len, head))
}

/// Opens a regular file; opening a FIFO would wait for a writer.
pub(super) fn open_file(path: &Path) -> io::Result<File> {
    if !fs::metadata(path)?.is_file() {
        let what = "it is not a regular file";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    File::open(path)
}
