//! Writer of shards of rows.

use super::error::ShardError;
use super::header::{MAX_VOCAB, ROWS_HEADER, ROWS_MAGIC, VERSION};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Settings of a shard of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowHeader {
    /// Number of inputs of a row, and of targets.
    pub row_len: usize,
    /// Number of token ids of the tokenizer, at most 65535.
    pub vocab_size: usize,
    /// Number of the tokenizer, by which a program recognizes it.
    pub tokenizer_id: i32,
}

impl RowHeader {
    /// Returns names and values, to compare two headers.
    pub(super) fn fields(self) -> [(&'static str, i64); 3] {
        [
            ("row_len", self.row_len as i64),
            ("vocab_size", self.vocab_size as i64),
            ("tokenizer_id", self.tokenizer_id.into()),
        ]
    }
}

/// Writer of one shard of rows, which nanochat's rewrite reads as well.
///
/// The file appears under its name when [`finish`](Self::finish) has written all of it. Until then, inputs and targets
/// are in two hidden files beside it, which are deleted if the writer is dropped. A killed process leaves them:
/// `.NAME.PROCESS-NUMBER.tmp` and `….targets.tmp`.
///
/// # Examples
///
/// ```
/// use bdh_data::{RowHeader, RowWriter};
///
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// let header = RowHeader { row_len: 2, vocab_size: 10, tokenizer_id: 0 };
/// let mut writer = RowWriter::create(&dir.join("train_00000.bin"), header)?;
/// writer.push(&[7, 8, 9])?; // inputs 7, 8; targets 8, 9
/// assert_eq!(writer.finish()?, 1);
/// # Ok::<(), bdh::BoxError>(())
/// ```
#[derive(Debug)]
pub struct RowWriter {
    path: PathBuf,
    header: RowHeader,
    rows: i32,
    inputs: Scratch,
    targets: Scratch,
    /// Bytes of the row that is written.
    bytes: Vec<u8>,
}

/// Temporary file, which is deleted when it is dropped.
#[derive(Debug)]
struct Scratch {
    path: PathBuf,
    file: BufWriter<File>,
}

impl RowWriter {
    /// Starts a shard.
    ///
    /// # Errors
    ///
    /// [`ShardError::Vocabulary`] if ids do not fit into two bytes, [`RowLen`](ShardError::RowLen) for a length that
    /// the header cannot hold, or [`Unwritable`](ShardError::Unwritable).
    pub fn create(path: &Path, header: RowHeader) -> Result<Self, ShardError> {
        let RowHeader {
            row_len,
            vocab_size,
            ..
        } = header;
        if !(1..=MAX_VOCAB).contains(&vocab_size) {
            return Err(ShardError::Vocabulary { size: vocab_size });
        }
        if !(1..=i32::MAX as usize).contains(&row_len) {
            return Err(ShardError::RowLen { row_len });
        }
        loop {
            match Self::start(path, header) {
                // Left by a process that was killed and had the same number, as in a container.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(unwritable(path, source)),
                Ok(writer) => return Ok(writer),
            }
        }
    }

    fn start(path: &Path, header: RowHeader) -> io::Result<Self> {
        let name = scratch_name(path);
        let mut inputs = Scratch::create(path.with_file_name(format!("{name}.tmp")))?;
        inputs.file.write_all(&[0; ROWS_HEADER])?; // no shard until `finish` knows the number of rows
        let targets = Scratch::create(path.with_file_name(format!("{name}.targets.tmp")))?;
        Ok(Self {
            path: path.to_owned(),
            header,
            rows: 0,
            inputs,
            targets,
            bytes: Vec::new(),
        })
    }

    /// Adds a row of `row_len + 1` ids: the inputs are all but the last one, and the targets all but the first.
    ///
    /// # Errors
    ///
    /// [`ShardError::RowWidth`] for another number of ids, [`RowId`](ShardError::RowId) for an id outside of the
    /// vocabulary, [`Full`](ShardError::Full), or [`Unwritable`](ShardError::Unwritable), as on a full disk.
    pub fn push(&mut self, row: &[i32]) -> Result<(), ShardError> {
        self.encode(row)?;
        if self.rows == i32::MAX {
            let path = self.path.clone();
            return Err(ShardError::Full { path });
        }
        self.write_row().map_err(|source| self.unwritable(source))?;
        self.rows += 1;
        Ok(())
    }

    /// Checks a row, and converts it to bytes.
    fn encode(&mut self, row: &[i32]) -> Result<(), ShardError> {
        let (found, expected) = (row.len(), self.header.row_len + 1);
        if found != expected {
            return Err(ShardError::RowWidth { found, expected });
        }
        let vocab_size = self.header.vocab_size;
        self.bytes.clear();
        for &id in row {
            if id < 0 || id as usize >= vocab_size {
                return Err(ShardError::RowId { id, vocab_size });
            }
            self.bytes.extend((id as u16).to_le_bytes());
        }
        Ok(())
    }

    fn write_row(&mut self) -> io::Result<()> {
        let end = self.bytes.len() - 2;
        self.inputs.file.write_all(&self.bytes[..end])?;
        self.targets.file.write_all(&self.bytes[2..])
    }

    /// Completes the shard under its name, and returns the number of its rows. An existing file is replaced.
    ///
    /// # Errors
    ///
    /// [`ShardError::Unwritable`], as on a full disk. A file that was there before is unchanged then.
    pub fn finish(mut self) -> Result<u64, ShardError> {
        match self.complete() {
            Ok(()) => Ok(self.rows as u64),
            Err(source) => Err(self.unwritable(source)),
        }
    }

    fn complete(&mut self) -> io::Result<()> {
        self.inputs.file.flush()?;
        self.targets.file.flush()?;
        let (inputs, targets) = (self.inputs.file.get_mut(), self.targets.file.get_mut());
        targets.seek(SeekFrom::Start(0))?;
        io::copy(targets, inputs)?;
        inputs.seek(SeekFrom::Start(0))?;
        inputs.write_all(&header_bytes(self.header, self.rows))?;
        inputs.sync_all()?; // before the rename, or a crash could leave an incomplete file under the name
        fs::rename(&self.inputs.path, &self.path)
    }

    fn unwritable(&self, source: io::Error) -> ShardError {
        unwritable(&self.path, source)
    }
}

impl Scratch {
    fn create(path: PathBuf) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)?;
        let file = BufWriter::new(file);
        Ok(Self { path, file })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path); // none if it was renamed
    }
}

/// Returns the beginning of the names of temporary files, different for each writer and process.
fn scratch_name(path: &Path) -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    // Relaxed: only the number itself has to differ.
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    format!(".{name}.{}-{number}", std::process::id())
}

fn header_bytes(header: RowHeader, rows: i32) -> [u8; ROWS_HEADER] {
    let mut bytes = [0; ROWS_HEADER];
    let (row_len, vocab_size) = (header.row_len as i32, header.vocab_size as i32);
    let id = header.tokenizer_id;
    let numbers = [ROWS_MAGIC, VERSION, row_len, rows, vocab_size, id];
    for (place, number) in bytes.chunks_exact_mut(4).zip(numbers) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    bytes
}

fn unwritable(path: &Path, source: io::Error) -> ShardError {
    ShardError::Unwritable {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_has_as_many_rows_as_its_header_can_count() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let header = RowHeader {
            row_len: 1,
            vocab_size: 2,
            tokenizer_id: 0,
        };
        let path = dir.path().join("train_0.bin");
        let mut writer = RowWriter::create(&path, header).expect("a writer");
        writer.rows = i32::MAX;
        let error = writer.push(&[0, 1]).expect_err("full").to_string();
        assert!(error.contains("has 2147483647 rows"), "{error}");
    }
}
