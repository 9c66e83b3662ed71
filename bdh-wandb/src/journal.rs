//! Log of one run, entry by entry.

use crate::log::{LogError, LogReader, LogWriter};
use crate::note;
use crate::proto::{Header, Info, Kind, Record, Version};
use crate::repair::repair;
use crate::rows::{Rows, step_of};
use prost::Message;
use std::io;
use std::path::Path;

/// Oldest reader that W&B's format allows for these entries.
const MIN_CONSUMER: &str = "0.70.0";

/// Writer that numbers the entries of a run's log.
#[derive(Debug)]
pub(super) struct Journal {
    writer: LogWriter,
    entries: i64,
    run_id: String,
    bytes: Vec<u8>,
}

impl Journal {
    /// Creates the log of a new run.
    pub(super) fn create(path: &Path, run_id: &str) -> io::Result<Self> {
        let mut journal = Self::new(LogWriter::create(path)?, 0, run_id);
        let version = Version {
            producer: concat!("bdh-", env!("CARGO_PKG_VERSION")).to_owned(),
            min_consumer: MIN_CONSUMER.to_owned(),
        };
        journal.put(Kind::Header(Header {
            version: Some(version),
        }))?;
        Ok(journal)
    }

    fn new(writer: LogWriter, entries: i64, run_id: &str) -> Self {
        Self {
            writer,
            entries,
            run_id: run_id.to_owned(),
            bytes: Vec::new(),
        }
    }

    /// Continues the log of a run after its row of `step`, and returns the state of its rows up to there.
    ///
    /// Later entries are cut off. A damaged log is repaired first.
    pub(super) fn resume(path: &Path, run_id: &str, step: u64) -> Result<(Self, Rows), LogError> {
        let len = match end_of(path, step) {
            Err(LogError::Damaged { .. }) => {
                repair(path)?;
                end_of(path, step)?
            }
            len => len?,
        };
        let (entries, rows) = replay(path, len)?;
        // Before the cut: if this is interrupted, a low note sends a file twice, and a high note would send it never.
        note::lower(path, len)?;
        let writer = LogWriter::resume(path, len)?;
        Ok((Self::new(writer, entries, run_id), rows))
    }

    /// Writes one entry.
    pub(super) fn put(&mut self, kind: Kind) -> io::Result<()> {
        let info = Some(Info {
            stream_id: self.run_id.clone(),
        });
        let num = self.entries + 1;
        let record = Record {
            num,
            kind: Some(kind),
            info,
        };
        self.bytes.clear();
        record.encode(&mut self.bytes).map_err(io::Error::other)?;
        self.writer.append(&self.bytes)?;
        self.entries = num;
        Ok(())
    }

    /// Syncs like [`sync`](Self::sync), but tolerates a disk fault while the pending entries fit in memory.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }

    /// Returns the first tolerated disk fault, on the first call only.
    pub(super) fn unreported_fault(&mut self) -> Option<String> {
        self.writer.faults.unreported()
    }

    /// Waits until all entries are on the disk.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.writer.sync()
    }
}

/// Returns the offset after the last row that is not later than `step`; without such a row, that of the first row.
fn end_of(path: &Path, step: u64) -> Result<u64, LogError> {
    let mut reader = LogReader::open(path)?;
    let mut end = None;
    loop {
        let before = reader.offset();
        let Some(bytes) = reader.next_record()? else {
            return Ok(end.unwrap_or(before));
        };
        if let Some(Kind::History(row)) = decode(&bytes) {
            if step_of(&row) > Some(step) {
                return Ok(end.unwrap_or(before));
            }
            end = Some(reader.offset());
        }
    }
}

/// Returns the number of entries in the first `len` bytes of a log, and the state of the rows among them.
fn replay(path: &Path, len: u64) -> Result<(i64, Rows), LogError> {
    let mut rows = Rows::default();
    let mut reader = LogReader::open(path)?;
    let mut entries = 0;
    while reader.offset() < len
        && let Some(bytes) = reader.next_record()?
    {
        entries += 1;
        if let Some(kind) = decode(&bytes) {
            rows.replay(&kind);
        }
    }
    Ok((entries, rows))
}

/// Decodes an entry; `None` for a kind that is not written here.
pub(super) fn decode(bytes: &[u8]) -> Option<Kind> {
    Record::decode(bytes).ok()?.kind
}
