//! A sink in memory, for tests and for programs that use the records of their own run.

use super::Sink;
use crate::failure::BoxError;
use crate::record::Record;
use crate::run::RunInfo;
use std::sync::{Arc, Mutex, PoisonError};

/// A sink that keeps all records in memory. Clones share them.
///
/// # Examples
///
/// ```
/// let memory = bdh::MemorySink::default();
/// // … `.sink(memory.clone())`, then `fit` …
/// assert!(memory.records().is_empty());
/// ```
#[derive(Debug, Clone, Default)]
pub struct MemorySink(
    /// Locked by the sink's thread for each record. A poisoned lock is used all the same: each change is one `push`.
    Arc<Mutex<Vec<Record>>>,
);

impl MemorySink {
    /// Returns the records so far, in order.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Returns the steps and values of one scalar key.
    #[must_use]
    pub fn series(&self, key: &str) -> Vec<(u64, f64)> {
        let mut series = Vec::new();
        for record in self.records() {
            if let Some(value) = record.scalar(key) {
                series.push((record.clock.step, value));
            }
        }
        series
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
