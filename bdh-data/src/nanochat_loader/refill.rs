//! Stream of tokenized documents, one epoch after another.

use super::state::NanochatPosition;
use crate::documents::{Documents, GroupPosition, Groups};
use crate::error::DataError;
use crate::tokenizer::Tokenizer;
use serde::{Deserialize, Serialize};

/// Documents that are tokenized at once. Source: nanochat.
const AT_ONCE: usize = 128;

/// Place of a document: its group, and its index in the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) at: GroupPosition,
    pub(super) index: usize,
}

/// Tokenized document that waits for a row.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) place: Place,
    /// Ids of the document, including BOS.
    pub(super) ids: Vec<i32>,
}

/// Place of the next document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Next {
    pub(super) epoch: u64,
    #[serde(flatten)]
    pub(super) at: GroupPosition,
    /// Index of the document in its group.
    pub(super) index: usize,
}

/// Endless stream of documents.
#[derive(Debug)]
pub(super) struct Refill {
    documents: Documents,
    groups: Groups,
    next: Next,
    /// Texts of the group of the next document, if they are read.
    texts: Option<Vec<String>>,
    /// Position of the documents that were tokenized last.
    last: NanochatPosition,
    /// Whether this epoch has had a document.
    has_documents: bool,
}

impl Refill {
    pub(super) fn new(documents: Documents) -> Self {
        let next = Next {
            epoch: 1,
            at: GroupPosition::default(),
            index: 0,
        };
        Self::at(documents, next, NanochatPosition::default())
    }

    /// Continues before a document; `last` is the position of the documents that were tokenized last.
    pub(super) fn at(documents: Documents, next: Next, last: NanochatPosition) -> Self {
        Self {
            groups: documents.groups_from(next.at),
            documents,
            next,
            texts: None,
            last,
            has_documents: true, // of an epoch that is resumed, documents may have been used already
        }
    }

    pub(super) fn position(&self) -> NanochatPosition {
        self.last
    }

    pub(super) fn next_place(&self) -> Next {
        self.next
    }

    /// Tokenizes the next documents, all of one group.
    pub(super) fn next(&mut self, tokenizer: &Tokenizer) -> Result<Vec<Waiting>, DataError> {
        self.read_group()?;
        let texts = self.texts.as_deref().unwrap_or_default();
        let from = self.next.index;
        let until = (from + AT_ONCE).min(texts.len());
        let all = encode(tokenizer, &texts[from..until]);
        let at = self.next.at;
        let mut waiting = Vec::with_capacity(all.len());
        for (index, ids) in (from..).zip(all) {
            let place = Place { at, index };
            waiting.push(Waiting { place, ids });
        }
        self.last = NanochatPosition {
            pq_idx: at.file,
            rg_idx: at.group,
            epoch: self.next.epoch,
        };
        self.next.index = until;
        self.has_documents = true;
        Ok(waiting)
    }

    /// Reads groups until one has a document that is not used yet.
    fn read_group(&mut self) -> Result<(), DataError> {
        while self
            .texts
            .as_ref()
            .is_none_or(|texts| self.next.index >= texts.len())
        {
            if self.texts.take().is_some() {
                self.next.index = 0;
            }
            match self.groups.next().transpose()? {
                Some(group) => {
                    if group.at != self.next.at {
                        self.next.index = 0;
                    }
                    self.next.at = group.at;
                    self.texts = Some(group.texts);
                }
                None => self.begin_epoch()?,
            }
        }
        Ok(())
    }

    fn begin_epoch(&mut self) -> Result<(), DataError> {
        if !self.has_documents {
            return Err(DataError::NoDocuments);
        }
        self.has_documents = false;
        self.next = Next {
            epoch: self.next.epoch + 1,
            at: GroupPosition::default(),
            index: 0,
        };
        self.groups = self.documents.groups_from(self.next.at);
        Ok(())
    }
}

/// Tokenizes documents on all cores, each with BOS.
pub(super) fn encode(tokenizer: &Tokenizer, texts: &[String]) -> Vec<Vec<i32>> {
    let mut all = tokenizer.encode_all(texts);
    for ids in &mut all {
        ids.insert(0, tokenizer.bos());
    }
    all
}
