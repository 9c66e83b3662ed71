//! Split of a single file.

use serde::Serialize;

/// One document in this number is for validation.
const EVERY: u64 = 10;

/// Documents of a file that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Part {
    /// All documents.
    All,
    /// Nine of ten documents.
    Train,
    /// Every tenth document, starting with the tenth.
    Val,
}

impl Part {
    /// Returns whether a document is read; `index` counts the file's documents from 0.
    pub(super) fn has(self, index: u64) -> bool {
        let is_val = index % EVERY == EVERY - 1;
        match self {
            Self::All => true,
            Self::Train => !is_val,
            Self::Val => is_val,
        }
    }

    /// Returns the part of a text that is a single document: the last tenth is for validation.
    pub(super) fn of_text(self, text: &str) -> &str {
        let cut = text.floor_char_boundary(text.len() / 10 * 9 + text.len() % 10 * 9 / 10);
        match self {
            Self::All => text,
            Self::Train => &text[..cut],
            Self::Val => &text[cut..],
        }
    }
}
