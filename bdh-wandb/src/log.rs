//! The `.wandb` log: protobuf records in the framing of a LevelDB log, as W&B's own client reads it.
//!
//! A file is a header of 7 bytes, which counts as part of the first block, and blocks of 32 KiB. A record is one chunk,
//! or several if it crosses the end of a block. A chunk is a CRC-32, a length, a type and its bytes, and never spans
//! two blocks.

use crate::folder;
use bdh::files::{Faults, check_not_deleted};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Header of a file: `:W&B`, a magic number, and the version of the format.
const MAGIC: [u8; 7] = [b':', b'W', b'&', b'B', 0xe1, 0xbe, 0];

/// Size of a block, in bytes.
const BLOCK: u64 = 32 << 10;

/// Longest record that is read, in bytes; the trainer closes a sink that is this far behind.
const MAX_RECORD: usize = 256 << 20;

/// Size of the head of a chunk, in bytes.
const CHUNK_HEAD: u64 = 7;

const FULL: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;

/// Writer that appends each record with one `write(2)`, so that a killed process leaves whole records.
#[derive(Debug)]
pub(crate) struct LogWriter {
    file: File,
    path: PathBuf,
    len: u64,
    /// Chunks that have not been written yet.
    waiting: Vec<u8>,
    pub(super) faults: Faults,
}

impl LogWriter {
    /// Creates a log at `path`, where no file must exist.
    ///
    /// # Errors
    ///
    /// If the file system fails.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        file.write_all(&MAGIC)?;
        Ok(Self::new(file, path, MAGIC.len() as u64))
    }

    /// Continues the log at `path` after its first `len` bytes, which end a record; the rest is cut off.
    ///
    /// # Errors
    ///
    /// If the file system fails.
    pub(crate) fn resume(path: &Path, len: u64) -> io::Result<Self> {
        folder::open(path)?; // refuses a link: the file will be cut
        let mut file = OpenOptions::new().write(true).open(path)?;
        file.set_len(len)?;
        file.seek(SeekFrom::Start(len))?;
        Ok(Self::new(file, path, len))
    }

    fn new(file: File, path: &Path, len: u64) -> Self {
        Self {
            file,
            path: path.to_owned(),
            len,
            waiting: Vec::new(),
            faults: Faults::default(),
        }
    }

    /// Appends one record.
    ///
    /// A record that could not be written is kept for the next call, up to 16 MiB in all.
    ///
    /// # Errors
    ///
    /// If the file system fails and more than 16 MiB are pending; [`io::ErrorKind::InvalidData`] for a record that is
    /// too long for readers.
    pub(crate) fn append(&mut self, record: &[u8]) -> io::Result<()> {
        if record.len() > MAX_RECORD {
            let text = format!(
                "the entry has {} bytes; at most {MAX_RECORD} are allowed",
                record.len()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        frame(record, self.len, &mut self.waiting);
        let written = self.catch_up();
        self.faults.tolerate(written, self.waiting.len())
    }

    /// Writes all pending records, or none of them: a part that was written is cut off again.
    fn catch_up(&mut self) -> io::Result<()> {
        if let Err(error) = self.file.write_all(&self.waiting) {
            let _ = self.file.set_len(self.len); // the first error is the one to report
            let _ = self.file.seek(SeekFrom::Start(self.len));
            return Err(error);
        }
        self.len += self.waiting.len() as u64;
        self.waiting.clear();
        Ok(())
    }

    /// Syncs like [`sync`](Self::sync), but tolerates a disk fault while the pending records fit in memory.
    ///
    /// # Errors
    ///
    /// If the file system fails and more than 16 MiB are pending, or the log has been deleted.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let synced = self.sync();
        self.faults.tolerate(synced, self.waiting.len())
    }

    /// Returns the length of the log, in bytes.
    #[must_use]
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Waits until all records are on the disk.
    ///
    /// # Errors
    ///
    /// If the file system fails, or the log has been deleted: an open file still accepts writes then, and they are
    /// lost.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.catch_up()?;
        check_not_deleted(&self.file, &self.path)?;
        self.file.sync_data()
    }
}

/// Appends a record to `frames` as chunks that follow a log of `len` bytes.
fn frame(record: &[u8], len: u64, frames: &mut Vec<u8>) {
    let mut rest = record;
    let mut is_first = true;
    loop {
        let at = len + frames.len() as u64;
        let mut space = BLOCK - at % BLOCK;
        if space < CHUNK_HEAD {
            frames.resize(frames.len() + space as usize, 0); // too little for a head: readers expect zeros
            space = BLOCK;
        }
        let (content, after) = rest.split_at(rest.len().min((space - CHUNK_HEAD) as usize));
        push_chunk(chunk_kind(is_first, after.is_empty()), content, frames);
        if after.is_empty() {
            return;
        }
        (rest, is_first) = (after, false);
    }
}

fn chunk_kind(is_first: bool, is_last: bool) -> u8 {
    match (is_first, is_last) {
        (true, true) => FULL,
        (true, false) => FIRST,
        (false, false) => MIDDLE,
        (false, true) => LAST,
    }
}

fn push_chunk(kind: u8, content: &[u8], frames: &mut Vec<u8>) {
    frames.extend(checksum(kind, content).to_le_bytes());
    frames.extend((content.len() as u16).to_le_bytes()); // fits: the content is smaller than a block
    frames.push(kind);
    frames.extend(content);
}

fn checksum(kind: u8, content: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&[kind]);
    crc.update(content);
    crc.finalize()
}

/// Reader of a log, which may still be growing.
#[derive(Debug)]
pub(crate) struct LogReader {
    file: File,
    /// Offset of the next record, in bytes.
    offset: u64,
    /// Bytes of the current block that have been read.
    block: Vec<u8>,
    /// Offset of the current block.
    block_at: u64,
}

/// Error of reading a log.
#[derive(Debug)]
#[non_exhaustive]
pub enum LogError {
    /// The file system failed.
    Io(io::Error),
    /// The file is not a `.wandb` log.
    NotALog,
    /// A record is damaged; [`repair`](super::repair) keeps all others.
    Damaged {
        /// Offset of the damage, in bytes.
        at: u64,
    },
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::NotALog => f.write_str("the file is not a W&B log"),
            Self::Damaged { at } => write!(
                f,
                "the log is damaged at byte {at}; `bdh wandb repair` keeps all other records"
            ),
        }
    }
}

impl std::error::Error for LogError {}

impl From<io::Error> for LogError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Head of a chunk of the current block.
struct ChunkHead {
    checksum: u32,
    kind: u8,
    /// Place in the block.
    content: std::ops::Range<usize>,
}

/// Chunk of the current block.
struct Chunk {
    kind: u8,
    /// Place in the block.
    content: std::ops::Range<usize>,
    /// Offset in the file of the byte after the chunk.
    end: u64,
}

impl LogReader {
    /// Opens a log before its first record.
    ///
    /// # Errors
    ///
    /// [`LogError::NotALog`] for another kind of file; [`LogError::Io`] if the file system fails.
    pub(crate) fn open(path: &Path) -> Result<Self, LogError> {
        let mut file = folder::open(path)?;
        let mut magic = [0; MAGIC.len()];
        match file.read_exact(&mut magic) {
            Ok(()) if magic == MAGIC => {}
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error.into()),
            _ => return Err(LogError::NotALog),
        }
        Ok(Self {
            file,
            offset: MAGIC.len() as u64,
            block: Vec::new(),
            block_at: 0,
        })
    }

    /// Returns the offset of the next record, in bytes; everything before it has been read.
    #[must_use]
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Reads the next record; `None` at the end of the file, even within a record.
    ///
    /// A file that grows may have more later. In a complete file, bytes that are left over are damaged too.
    ///
    /// # Errors
    ///
    /// [`LogError::Damaged`] on every call until [`resync`](Self::resync); [`LogError::Io`] if the file system fails.
    pub(crate) fn next_record(&mut self) -> Result<Option<Vec<u8>>, LogError> {
        let read = self.read_record();
        if matches!(read, Err(LogError::Damaged { .. })) {
            self.block.clear(); // it may have been read while it was written: the next call reads the file again
        }
        read
    }

    /// Whether the file has been read up to its current end.
    pub(crate) fn is_at_end(&self) -> io::Result<bool> {
        Ok(self.offset >= self.file.metadata()?.len())
    }

    fn read_record(&mut self) -> Result<Option<Vec<u8>>, LogError> {
        let mut record = Vec::new();
        let mut at = self.offset;
        let mut is_first = true;
        loop {
            let Some(chunk) = self.chunk(at)? else {
                return Ok(None);
            };
            if is_first != matches!(chunk.kind, FULL | FIRST) {
                return Err(LogError::Damaged { at });
            }
            record.extend_from_slice(&self.block[chunk.content]);
            if record.len() > MAX_RECORD {
                return Err(LogError::Damaged { at });
            }
            at = chunk.end;
            if matches!(chunk.kind, FULL | LAST) {
                self.offset = at;
                return Ok(Some(record));
            }
            is_first = false;
        }
    }

    /// Moves from a damaged record to the next valid one, and returns the number of skipped bytes.
    ///
    /// # Errors
    ///
    /// If the file system fails.
    pub(crate) fn resync(&mut self) -> Result<u64, LogError> {
        let from = self.offset;
        let end = self.file.metadata()?.len();
        for at in from + 1..end {
            match self.chunk(at) {
                Ok(Some(chunk)) if matches!(chunk.kind, FULL | FIRST) => {
                    self.offset = at;
                    return Ok(at - from);
                }
                Err(LogError::Io(error)) => return Err(error.into()),
                _ => {}
            }
        }
        self.offset = end;
        Ok(end.saturating_sub(from))
    }

    /// Reads the chunk at `at` into `self.block`; `None` if the file ends before the chunk does.
    fn chunk(&mut self, mut at: u64) -> Result<Option<Chunk>, LogError> {
        let left = BLOCK - at % BLOCK;
        if left < CHUNK_HEAD {
            at += left;
        }
        let Some(head) = self.chunk_head(at)? else {
            return Ok(None);
        };
        let ChunkHead { kind, content, .. } = head;
        if !self.load(self.block_at, content.end)? {
            return Ok(None);
        }
        if checksum(kind, &self.block[content.clone()]) != head.checksum {
            return Err(LogError::Damaged { at });
        }
        let end = self.block_at + content.end as u64;
        Ok(Some(Chunk { kind, content, end }))
    }

    /// Reads the head of the chunk at `at`; `None` if the file ends before the head does.
    fn chunk_head(&mut self, at: u64) -> Result<Option<ChunkHead>, LogError> {
        let within = (at % BLOCK) as usize;
        let begin = within + CHUNK_HEAD as usize;
        if !self.load(at - at % BLOCK, begin)? {
            return Ok(None);
        }
        let &[c0, c1, c2, c3, l0, l1, kind] = &self.block[within..begin] else {
            return Err(LogError::Damaged { at });
        };
        let content = begin..begin + usize::from(u16::from_le_bytes([l0, l1]));
        if content.end as u64 > BLOCK || !(FULL..=LAST).contains(&kind) {
            return Err(LogError::Damaged { at });
        }
        Ok(Some(ChunkHead {
            checksum: u32::from_le_bytes([c0, c1, c2, c3]),
            kind,
            content,
        }))
    }

    /// Loads the block at `at`; `false` if the file has fewer than `len` bytes of it.
    fn load(&mut self, at: u64, len: usize) -> Result<bool, LogError> {
        if self.block_at != at || self.block.len() < len {
            self.block.clear();
            self.block_at = at;
            self.file.seek(SeekFrom::Start(at))?;
            (&mut self.file).take(BLOCK).read_to_end(&mut self.block)?;
        }
        Ok(self.block.len() >= len)
    }
}

#[cfg(test)]
mod edges;

#[cfg(test)]
mod tests {
    use super::*;

    fn log_of(records: &[Vec<u8>]) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("run-x.wandb");
        let mut writer = LogWriter::create(&path).expect("a new log");
        for record in records {
            writer.append(record).expect("an appended record");
        }
        (dir, path)
    }

    fn read(path: &Path) -> Vec<Vec<u8>> {
        let mut reader = LogReader::open(path).expect("a log");
        std::iter::from_fn(|| reader.next_record().expect("an undamaged log")).collect()
    }

    fn record(len: usize, salt: usize) -> Vec<u8> {
        (0..len).map(|byte| (byte * 7 + salt) as u8).collect()
    }

    #[test]
    fn records_of_any_size_are_read_back_across_blocks() {
        for before in 0..24 {
            let fill = BLOCK as usize - 7 - 7 - before;
            let sizes = [fill, 0, 1, 6, 7, 8, 100, 40_000, 1_000_000, 0, 5];
            let records: Vec<_> = sizes
                .iter()
                .enumerate()
                .map(|(salt, len)| record(*len, salt))
                .collect();
            let (_dir, path) = log_of(&records);
            assert_eq!(
                read(&path),
                records,
                "{before} bytes left in the first block"
            );
        }
    }

    #[test]
    fn file_cut_anywhere_keeps_earlier_records_and_can_grow() {
        let records: Vec<_> = (0..14).map(|salt| record(3_000, salt)).collect();
        let (_dir, path) = log_of(&records);
        let bytes = std::fs::read(&path).expect("the log");
        let mut reader = LogReader::open(&path).expect("a log");
        let mut ends = Vec::new();
        while reader.next_record().expect("an undamaged log").is_some() {
            ends.push(reader.offset());
        }
        for cut in BLOCK as usize..bytes.len() {
            std::fs::write(&path, &bytes[..cut]).expect("a cut log");
            let whole = ends.iter().filter(|end| **end <= cut as u64).count();
            let mut reader = LogReader::open(&path).expect("a log");
            let mut read = 0;
            while reader
                .next_record()
                .expect("no damage, only an end")
                .is_some()
            {
                read += 1;
            }
            assert_eq!(read, whole, "cut at {cut}");
            std::fs::write(&path, &bytes).expect("a log that grew");
            while reader.next_record().expect("an undamaged log").is_some() {
                read += 1;
            }
            assert_eq!(read, records.len(), "grown again from {cut}");
        }
    }

    #[test]
    fn record_too_long_for_readers_is_refused() {
        let (_dir, path) = log_of(&[record(50, 1)]);
        let len = std::fs::metadata(&path).expect("the log").len();
        let mut writer = LogWriter::resume(&path, len).expect("a log");
        let error = writer
            .append(&vec![0; MAX_RECORD + 1])
            .expect_err("too long");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        writer.append(&record(50, 2)).expect("an appended record");
        assert_eq!(read(&path), [record(50, 1), record(50, 2)]);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn flush_tolerates_a_full_disk_and_sync_does_not() {
        let (_dir, path) = log_of(&[record(50, 1)]);
        let len = std::fs::metadata(&path).expect("the log").len();
        let mut writer = LogWriter::resume(&path, len).expect("a log");
        let full = OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .expect("Linux has one");
        let disk = std::mem::replace(&mut writer.file, full);
        writer.append(&record(50, 2)).expect("room in memory");
        writer.flush().expect("room in memory");
        assert!(
            writer.faults.unreported().is_some() && writer.faults.unreported().is_none(),
            "reported once"
        );
        writer.sync().expect_err("it is full");
        writer.file = disk;
        writer.flush().expect("space");
        assert_eq!(read(&path), [record(50, 1), record(50, 2)]);
    }

    #[test]
    fn damaged_place_is_read_again_after_a_write() {
        let (_dir, path) = log_of(&[record(50, 1), record(50, 2)]);
        let good = std::fs::read(&path).expect("the log");
        let mut bytes = good.clone();
        bytes[20] ^= 1;
        std::fs::write(&path, &bytes).expect("a log that is half written");
        let mut reader = LogReader::open(&path).expect("a log");
        assert!(matches!(
            reader.next_record(),
            Err(LogError::Damaged { at: 7 })
        ));
        std::fs::write(&path, &good).expect("the other half");
        assert_eq!(reader.next_record().expect("a record"), Some(record(50, 1)));
    }

    #[test]
    fn only_the_damaged_record_is_skipped() {
        let records: Vec<_> = (0..60).map(|salt| record(1_500, salt)).collect();
        let (_dir, path) = log_of(&records);
        let good = std::fs::read(&path).expect("the log");
        for at in (7..good.len()).step_by(499) {
            let mut bytes = good.clone();
            bytes[at] ^= 0x10;
            std::fs::write(&path, &bytes).expect("a damaged log");
            let mut reader = LogReader::open(&path).expect("a log");
            let (mut kept, mut damaged) = (Vec::new(), 0);
            loop {
                match reader.next_record() {
                    Ok(Some(record)) => kept.push(record),
                    Ok(None) if reader.offset() >= good.len() as u64 => break,
                    Ok(None) | Err(LogError::Damaged { .. }) => {
                        damaged += 1;
                        reader.resync().expect("a next record");
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            let of_padding = damaged == 0 && good[at] == 0;
            assert_eq!(
                kept.len(),
                records.len() - usize::from(!of_padding),
                "byte {at}"
            );
            assert!(
                kept.iter().all(|record| records.contains(record)),
                "byte {at}"
            );
        }
    }
}
