//! The `.wandb` log: protobuf records in the framing of a LevelDB log, as W&B's own programs read it.
//!
//! A file begins with 7 bytes of its own. From there on, and counted with them, it is blocks of 32 KiB. A record
//! is one chunk, or several where it meets the end of a block; a chunk is a CRC-32, a length, a type, and its
//! bytes, and never spans two blocks.

use crate::folder;
use bdh::files::{Faults, check_not_deleted};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// `:W&B`, a magic number, and the version of the format.
const MAGIC: [u8; 7] = [b':', b'W', b'&', b'B', 0xe1, 0xbe, 0];

const BLOCK: u64 = 32 << 10;

/// Bytes of the longest record that is read; the trainer gives up a sink that is so far behind.
const MAX_RECORD: usize = 256 << 20;

/// Bytes of a chunk before its content.
const CHUNK_HEAD: u64 = 7;

const FULL: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;

/// Appends records to a log, each with one `write(2)`: a killed process leaves whole records.
#[derive(Debug)]
pub(crate) struct LogWriter {
    file: File,
    path: PathBuf,
    len: u64,
    /// Chunks that are not in the file yet.
    waiting: Vec<u8>,
    pub(super) faults: Faults,
}

impl LogWriter {
    /// Begins a log at `path`, where there must be no file yet.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        file.write_all(&MAGIC)?;
        Ok(Self::new(file, path, MAGIC.len() as u64))
    }

    /// Goes on with the log at `path` after its first `len` bytes, which end a record; the rest is cut off.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub(crate) fn go_on(path: &Path, len: u64) -> io::Result<Self> {
        folder::open(path)?; // it will be cut, so it must be no link to another file
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

    /// Appends one record. If it has no room, it waits for the next call, up to 16 MiB of them.
    ///
    /// # Errors
    ///
    /// Errors of the file system, when too much waits; [`io::ErrorKind::InvalidData`] for a record that is too long for
    /// a reader.
    pub(crate) fn append(&mut self, record: &[u8]) -> io::Result<()> {
        if record.len() > MAX_RECORD {
            let what = format!(
                "an entry of {} bytes; {MAX_RECORD} are the most",
                record.len()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        frame(record, self.len, &mut self.waiting);
        let written = self.catch_up();
        self.faults.bear(written, self.waiting.len())
    }

    /// Writes the records that wait, or none: what got there of them is taken back, so that the log stays whole.
    fn catch_up(&mut self) -> io::Result<()> {
        if let Err(error) = self.file.write_all(&self.waiting) {
            let _ = self.file.set_len(self.len); // the first error is the one to tell
            let _ = self.file.seek(SeekFrom::Start(self.len));
            return Err(error);
        }
        self.len += self.waiting.len() as u64;
        self.waiting.clear();
        Ok(())
    }

    /// Does the same as [`sync`](Self::sync), but bears a fault of the disk while there is room for what waits.
    ///
    /// # Errors
    ///
    /// Errors of [`append`](Self::append), and a log that has been deleted.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let synced = self.sync();
        self.faults.bear(synced, self.waiting.len())
    }

    /// The length of the log, in bytes.
    #[must_use]
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Makes what was appended survive the machine, not only the process.
    ///
    /// # Errors
    ///
    /// Those of the file system; and a log that has been deleted, which takes records still and keeps none.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.catch_up()?;
        check_not_deleted(&self.file, &self.path)?;
        self.file.sync_data()
    }
}

/// Puts a record into chunks, for a log of `len` bytes.
fn frame(record: &[u8], len: u64, frame: &mut Vec<u8>) {
    let mut rest = record;
    let mut is_first = true;
    loop {
        let at = len + frame.len() as u64;
        let mut space = BLOCK - at % BLOCK;
        if space < CHUNK_HEAD {
            frame.resize(frame.len() + space as usize, 0);
            space = BLOCK;
        }
        let (content, after) = rest.split_at(rest.len().min((space - CHUNK_HEAD) as usize));
        let kind = match (is_first, after.is_empty()) {
            (true, true) => FULL,
            (true, false) => FIRST,
            (false, false) => MIDDLE,
            (false, true) => LAST,
        };
        frame.extend(checksum(kind, content).to_le_bytes());
        frame.extend((content.len() as u16).to_le_bytes()); // less than a block
        frame.push(kind);
        frame.extend(content);
        if after.is_empty() {
            return;
        }
        (rest, is_first) = (after, false);
    }
}

fn checksum(kind: u8, content: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&[kind]);
    crc.update(content);
    crc.finalize()
}

/// Reads the records of a log, also of one that is being written.
#[derive(Debug)]
pub(crate) struct LogReader {
    file: File,
    /// Where the next record begins.
    offset: u64,
    block: Vec<u8>,
    block_at: u64,
}

/// Why a log cannot be read any further.
#[derive(Debug)]
#[non_exhaustive]
pub enum LogError {
    /// The file system failed.
    Io(io::Error),
    /// The file is no `.wandb` log at all.
    NotALog,
    /// What stands there is no chunk, or not the one that belongs there. [`repair`](super::repair) keeps the rest.
    Damaged {
        /// Where, in bytes.
        at: u64,
    },
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::NotALog => f.write_str("it does not begin as a W&B log does"),
            Self::Damaged { at } => {
                write!(
                    f,
                    "it is damaged at byte {at}; a repair keeps all records but that one"
                )
            }
        }
    }
}

impl std::error::Error for LogError {}

impl From<io::Error> for LogError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// One chunk of a block.
struct Chunk {
    kind: u8,
    content: std::ops::Range<usize>,
    end: u64,
}

impl LogReader {
    /// Opens a log and stands before its first record.
    ///
    /// # Errors
    ///
    /// [`LogError::NotALog`] if it is something else, or those of the file system.
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

    /// Where the next record begins, in bytes; everything before it has been read.
    #[must_use]
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next record, or `None` where the file ends, be it within a record. A file that grows may be asked
    /// again; in one that does not, a rest of which nothing can be read is damaged too.
    ///
    /// # Errors
    ///
    /// [`LogError::Damaged`], again and again until [`resync`](Self::resync), or those of the file system.
    pub(crate) fn next_record(&mut self) -> Result<Option<Vec<u8>>, LogError> {
        let read = self.read_record();
        if matches!(read, Err(LogError::Damaged { .. })) {
            self.block.clear(); // it may have been read while it was written: the next look is at the file
        }
        read
    }

    /// Whether all of the file has been read, as long as it is now.
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

    /// Goes to the next place where a record begins, after a damaged one. Returns the bytes it passed over.
    ///
    /// # Errors
    ///
    /// Those of the file system.
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

    /// The chunk at `at`, which is then in `self.block`; `None` if the file ends before it does.
    fn chunk(&mut self, mut at: u64) -> Result<Option<Chunk>, LogError> {
        let left = BLOCK - at % BLOCK;
        if left < CHUNK_HEAD {
            at += left;
        }
        let within = (at % BLOCK) as usize;
        if !self.load(at - at % BLOCK, within + CHUNK_HEAD as usize)? {
            return Ok(None);
        }
        let &[c0, c1, c2, c3, l0, l1, kind] = &self.block[within..within + CHUNK_HEAD as usize]
        else {
            return Err(LogError::Damaged { at });
        };
        let begin = within + CHUNK_HEAD as usize;
        let content = begin..begin + usize::from(u16::from_le_bytes([l0, l1]));
        if content.end as u64 > BLOCK || !(FULL..=LAST).contains(&kind) {
            return Err(LogError::Damaged { at });
        }
        if !self.load(self.block_at, content.end)? {
            return Ok(None);
        }
        if checksum(kind, &self.block[content.clone()]) != u32::from_le_bytes([c0, c1, c2, c3]) {
            return Err(LogError::Damaged { at });
        }
        let end = self.block_at + content.end as u64;
        Ok(Some(Chunk { kind, content, end }))
    }

    /// Has the first `len` bytes of the block at `at` in memory; tells whether there are as many.
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
    fn records_of_any_size_come_back_around_the_edges_of_blocks() {
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
    fn a_file_cut_at_every_byte_of_its_last_block_loses_no_earlier_record_and_goes_on_when_it_grows()
     {
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
    fn a_record_that_no_reader_takes_is_refused_and_the_log_goes_on() {
        let (_dir, path) = log_of(&[record(50, 1)]);
        let len = std::fs::metadata(&path).expect("the log").len();
        let mut writer = LogWriter::go_on(&path, len).expect("a log");
        let error = writer
            .append(&vec![0; MAX_RECORD + 1])
            .expect_err("too long");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        writer.append(&record(50, 2)).expect("an appended record");
        assert_eq!(read(&path), [record(50, 1), record(50, 2)]);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_flush_bears_a_disk_that_is_full_and_a_sync_does_not() {
        let (_dir, path) = log_of(&[record(50, 1)]);
        let len = std::fs::metadata(&path).expect("the log").len();
        let mut writer = LogWriter::go_on(&path, len).expect("a log");
        let full = OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .expect("Linux has one");
        let disk = std::mem::replace(&mut writer.file, full);
        writer.append(&record(50, 2)).expect("room in memory");
        writer.flush().expect("hope");
        assert!(
            writer.faults.untold().is_some() && writer.faults.untold().is_none(),
            "told once"
        );
        writer.sync().expect_err("it is full");
        writer.file = disk;
        writer.flush().expect("space");
        assert_eq!(read(&path), [record(50, 1), record(50, 2)]);
    }

    #[test]
    fn a_damaged_place_that_was_written_since_is_read_as_it_is_now() {
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
    fn a_damaged_record_is_told_of_and_passed_over_alone() {
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
                        reader.resync().expect("a place to go on from");
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
