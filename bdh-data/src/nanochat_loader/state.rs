//! Saved positions of the loader, and nanochat's own.

use super::refill::{Next, Place, Refill, Waiting, encode};
use crate::documents::{Documents, GroupPosition};
use crate::error::DataError;
use crate::tokenizer::Tokenizer;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Position of nanochat's loader, under the names of its checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NanochatPosition {
    /// Index of the parquet file.
    pub pq_idx: usize,
    /// Index of the row group in the file.
    pub rg_idx: usize,
    /// Pass over the data, from 1.
    #[serde(default = "first_epoch")]
    pub epoch: u64,
}

impl Default for NanochatPosition {
    fn default() -> Self {
        Self {
            pq_idx: 0,
            rg_idx: 0,
            epoch: 1,
        }
    }
}

fn first_epoch() -> u64 {
    1
}

/// Saved position. One of nanochat has only the first field.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct State {
    #[serde(flatten)]
    last: NanochatPosition,
    #[serde(flatten)]
    exact: Option<Exact>,
}

/// Rest of an exact position.
#[derive(Debug, Serialize, Deserialize)]
struct Exact {
    next: Next,
    /// Waiting documents in their order: runs of indices of one group.
    waiting: Vec<Run>,
    /// Digest of the identity of the documents.
    data: String,
}

/// Waiting documents of one group: its file, its number, and the indices of the documents.
#[derive(Debug, Serialize, Deserialize)]
struct Run(usize, usize, Vec<usize>);

impl State {
    pub(super) fn of(documents: &Documents, refill: &Refill, waiting: &[Waiting]) -> Self {
        let mut runs: Vec<Run> = Vec::new();
        for Waiting { place, .. } in waiting {
            let Place { at, index } = *place;
            match runs.last_mut() {
                // An index that does not rise belongs to the next epoch.
                Some(Run(file, group, indices))
                    if (*file, *group) == (at.file, at.group)
                        && indices.last().is_some_and(|last| *last < index) =>
                {
                    indices.push(index);
                }
                _ => runs.push(Run(at.file, at.group, vec![index])),
            }
        }
        Self {
            last: refill.position(),
            exact: Some(Exact {
                next: refill.next_place(),
                waiting: runs,
                data: digest(documents),
            }),
        }
    }

    pub(super) fn to_json(&self) -> Value {
        serde_json::to_value(self).expect("numbers and lists of them are JSON")
    }

    /// Parses a position, and checks that it belongs to these documents.
    pub(super) fn parse(state: &Value, documents: &Documents) -> Result<Self, DataError> {
        let parsed = Self::deserialize(state).map_err(|_| DataError::Position)?;
        match &parsed.exact {
            Some(exact) if exact.data != digest(documents) => Err(DataError::Position),
            _ => Ok(parsed),
        }
    }

    /// Reads and tokenizes the waiting documents again.
    pub(super) fn waiting(
        &self,
        documents: &Documents,
        tokenizer: &Tokenizer,
    ) -> Result<Vec<Waiting>, DataError> {
        let Some(exact) = &self.exact else {
            return Ok(Vec::new());
        };
        let mut waiting = Vec::new();
        for Run(file, group, indices) in &exact.waiting {
            let at = GroupPosition {
                file: *file,
                group: *group,
            };
            let mut group = documents.group(at)?.ok_or(DataError::Position)?;
            let mut texts = Vec::with_capacity(indices.len());
            for index in indices {
                let text = group.get_mut(*index).ok_or(DataError::Position)?;
                texts.push(std::mem::take(text));
            }
            for (index, ids) in indices.iter().zip(encode(tokenizer, &texts)) {
                let place = Place { at, index: *index };
                waiting.push(Waiting { place, ids });
            }
        }
        Ok(waiting)
    }

    /// Returns the stream of documents after the waiting ones.
    pub(super) fn refill(&self, documents: Documents) -> Refill {
        let next = match &self.exact {
            Some(exact) => exact.next,
            None => Next {
                epoch: self.last.epoch,
                at: GroupPosition {
                    file: self.last.pq_idx,
                    group: self.last.rg_idx + 1, // nanochat repeats no row group
                },
                index: 0,
            },
        };
        Refill::at(documents, next, self.last)
    }
}

fn digest(documents: &Documents) -> String {
    bdh::files::hex(Sha256::digest(documents.identity().to_string()))
}
