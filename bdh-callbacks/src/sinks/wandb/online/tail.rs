//! The log, read while it grows.

use crate::sinks::wandb::log::{LogError, LogReader};
use crate::sinks::wandb::proto::{Kind, Record};
use prost::Message;
use std::path::Path;

/// A reader that stands behind the last entry that it gave.
#[derive(Debug)]
pub(super) struct Tail {
    reader: LogReader,
    /// Where the log looked damaged the last time.
    doubt: Option<u64>,
}

/// What a log has next.
#[derive(Debug)]
pub(super) enum Next {
    Entry(Box<Kind>),
    /// Nothing yet.
    End,
    /// So many bytes that cannot be read, which have been passed over.
    Damage(u64),
}

impl Tail {
    pub(super) fn open(log: &Path) -> Result<Self, LogError> {
        Ok(Self { reader: LogReader::open(log)?, doubt: None })
    }

    /// Where the last entry ends, in bytes.
    pub(super) fn offset(&self) -> u64 {
        self.reader.offset()
    }

    /// The next entry. What looks damaged in a log that `may_grow` is looked at again before it is passed over:
    /// it may have been read in the middle of being written.
    pub(super) fn next(&mut self, may_grow: bool) -> Result<Next, LogError> {
        loop {
            let at = self.reader.offset();
            match self.reader.next_record() {
                Ok(None) => return Ok(Next::End),
                Ok(Some(bytes)) => {
                    if let Some(kind) =
                        Record::decode(bytes.as_slice()).ok().and_then(|record| record.kind)
                    {
                        return Ok(Next::Entry(Box::new(kind)));
                    }
                }
                Err(LogError::Damaged { .. }) if may_grow && self.doubt != Some(at) => {
                    self.doubt = Some(at);
                    return Ok(Next::End);
                }
                Err(LogError::Damaged { .. }) => return Ok(Next::Damage(self.reader.resync()?)),
                Err(error) => return Err(error),
            }
        }
    }
}
