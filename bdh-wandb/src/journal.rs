//! The log of one run, entry by entry.

use crate::log::{LogError, LogReader, LogWriter};
use crate::note;
use crate::proto::{Header, Info, Kind, Record, Version};
use crate::repair::repair;
use crate::rows::{Rows, step_of};
use prost::Message;
use std::io;
use std::path::Path;

/// The oldest W&B program that reads what is written here.
const MIN_CONSUMER: &str = "0.70.0";

/// Numbers the entries and writes them.
#[derive(Debug)]
pub(super) struct Journal {
    writer: LogWriter,
    entries: i64,
    run_id: String,
    bytes: Vec<u8>,
}

impl Journal {
    /// Begins the log of a run.
    pub(super) fn create(path: &Path, run_id: &str) -> io::Result<Self> {
        let writer = LogWriter::create(path)?;
        let run_id = run_id.to_owned();
        let mut journal = Self {
            writer,
            entries: 0,
            run_id,
            bytes: Vec::new(),
        };
        let producer = concat!("bdh-", env!("CARGO_PKG_VERSION")).to_owned();
        let version = Version {
            producer,
            min_consumer: MIN_CONSUMER.to_owned(),
        };
        journal.put(Kind::Header(Header {
            version: Some(version),
        }))?;
        Ok(journal)
    }

    /// Goes on with the log of a run after its row of `step`; whatever came later is cut off. Gives back what its
    /// rows have been, too.
    pub(super) fn go_on(path: &Path, run_id: &str, step: u64) -> Result<(Self, Rows), LogError> {
        let len = match end_of(path, step) {
            Err(LogError::Damaged { .. }) => {
                repair(path)?;
                end_of(path, step)?
            }
            len => len?,
        };
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
        note::lower(path, len)?; // first: a note that is too low sends a file twice, one too high never
        let writer = LogWriter::go_on(path, len)?;
        let run_id = run_id.to_owned();
        Ok((
            Self {
                writer,
                entries,
                run_id,
                bytes: Vec::new(),
            },
            rows,
        ))
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

    /// Does the same as [`sync`](Self::sync), but bears a fault of the disk while there is room for what waits.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }

    /// The first fault of the disk that ended nothing, once.
    pub(super) fn untold_fault(&mut self) -> Option<String> {
        self.writer.faults.untold()
    }

    /// Makes all entries survive the machine.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.writer.sync()
    }
}

/// Where the last row that is no later than `step` ends; without one, where the first row begins.
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

/// An entry, if it is of a kind that is written here.
fn decode(bytes: &[u8]) -> Option<Kind> {
    Record::decode(bytes).ok()?.kind
}
