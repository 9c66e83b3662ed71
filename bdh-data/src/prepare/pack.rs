//! Packing of one pass over tokenized documents into rows.

use super::Packing;
use crate::best_fit::{Shelf, add};
use crate::order::below;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Pieces of documents that are shuffled at once. A whole corpus does not fit into memory.
const WINDOW: usize = 8192;

/// Documents on their way into rows.
pub(super) struct Packer {
    packing: Packing,
    /// Ids of a row, one more than its inputs.
    width: usize,
    rng: ChaCha8Rng,
    /// Pieces that wait for a place on the shelf, to be drawn at random.
    window: Vec<Vec<i32>>,
    shelf: Shelf<Vec<i32>>,
    row: Vec<i32>,
    /// Tokens of documents that did not get into a row.
    pub(super) dropped: u64,
}

impl Packer {
    pub(super) fn new(packing: Packing, seq_len: usize, seed: u64) -> Self {
        Self {
            packing,
            width: seq_len + 1,
            rng: ChaCha8Rng::seed_from_u64(seed),
            window: Vec::new(),
            shelf: Shelf::default(),
            row: Vec::with_capacity(seq_len + 1),
            dropped: 0,
        }
    }

    /// Adds a document: its ids without BOS, and BOS.
    pub(super) fn add(&mut self, ids: &[i32], bos: i32) {
        match self.packing {
            Packing::Nanochat => self.put(with_bos(ids, bos)),
            Packing::BestFit => {
                // Like `passages`: each piece starts with BOS and fits a row. An empty document has none.
                for piece in ids.chunks((self.width - 1).max(1)) {
                    self.shuffle_in(with_bos(piece, bos));
                }
            }
        }
    }

    /// Adds a piece to the window. A full one gives another piece to the shelf, drawn at random.
    fn shuffle_in(&mut self, piece: Vec<i32>) {
        self.window.push(piece);
        if self.window.len() > WINDOW {
            let piece = self.draw();
            self.put(piece);
        }
    }

    fn draw(&mut self) -> Vec<i32> {
        let place = below(self.window.len(), &mut self.rng);
        self.window.swap_remove(place)
    }

    fn put(&mut self, document: Vec<i32>) {
        let length = document.len();
        self.shelf.push(document, length);
    }

    /// Returns a row, while there are enough documents to choose from.
    pub(super) fn row(&mut self) -> Option<&[i32]> {
        if self.row.len() == self.width {
            self.row.clear();
        }
        while self.row.len() < self.width {
            if !self.shelf.is_full() {
                return None;
            }
            self.extend_row();
        }
        Some(&self.row)
    }

    /// Returns a row of the remaining documents; `None` if they do not fill one.
    pub(super) fn last_row(&mut self) -> Option<&[i32]> {
        if self.row.len() == self.width {
            self.row.clear();
        }
        while self.row.len() < self.width {
            while !self.shelf.is_full() && !self.window.is_empty() {
                let piece = self.draw();
                self.put(piece);
            }
            if !self.extend_row() {
                self.dropped += self.row.len() as u64;
                return None;
            }
        }
        Some(&self.row)
    }

    /// Adds a document of the shelf to the row; false if there is none.
    fn extend_row(&mut self) -> bool {
        let Some(document) = self.shelf.take(self.width - self.row.len()) else {
            return false;
        };
        let before = self.row.len();
        add(&mut self.row, &document, self.width);
        self.dropped += (document.len() - (self.row.len() - before)) as u64;
        true
    }
}

fn with_bos(ids: &[i32], bos: i32) -> Vec<i32> {
    let mut document = Vec::with_capacity(ids.len() + 1);
    document.push(bos);
    document.extend_from_slice(ids);
    document
}
