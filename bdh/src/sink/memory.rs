//! A sink that keeps everything, for tests and for looking at a run from the same program.

use super::Sink;
use crate::failure::BoxError;
use crate::record::Record;
use crate::run::RunInfo;
use std::sync::{Arc, Mutex, PoisonError};

/// Keeps all records in memory. Clones share them.
///
/// # Examples
///
/// ```
/// let memory = bdh::MemorySink::default();
/// // … `.sink(memory.clone())`, then `fit` …
/// assert!(memory.records().is_empty());
/// ```
#[derive(Debug, Clone, Default)]
pub struct MemorySink(Arc<Mutex<Vec<Record>>>);

impl MemorySink {
    /// The records so far, in order.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The steps and values of one scalar key.
    #[must_use]
    pub fn series(&self, key: &str) -> Vec<(u64, f64)> {
        let records = self.records();
        records
            .iter()
            .filter_map(|r| Some((r.clock.step, r.scalar(key)?)))
            .collect()
    }
}

impl Sink for MemorySink {
    fn name(&self) -> String {
        "memory".to_owned()
    }

    fn open(&mut self, _run: &RunInfo) -> Result<(), BoxError> {
        Ok(())
    }

    fn write(&mut self, record: &Record) -> Result<(), BoxError> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(record.clone());
        Ok(())
    }
}
