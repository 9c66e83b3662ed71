//! Best-fit packing of documents into rows.
//!
//! Rows have no padding. A document that does not fit is cut off at the end of the row. Taking the largest document
//! that fits keeps these cuts rare.
//!
//! Source: nanochat's `dataloader.py`.

/// Number of documents to choose from. Source: nanochat.
pub(super) const SHELF: usize = 1000;

/// Documents that wait for a row, in their order.
#[derive(Debug, Clone)]
pub(super) struct Shelf<D> {
    documents: Vec<D>,
    /// Lengths of the documents, in an array of their own because each choice reads all of them.
    lengths: Vec<u32>,
}

impl<D> Default for Shelf<D> {
    fn default() -> Self {
        Self {
            documents: Vec::new(),
            lengths: Vec::new(),
        }
    }
}

impl<D> Shelf<D> {
    /// Adds a document, or what identifies it, with its number of ids.
    pub(super) fn push(&mut self, document: D, length: usize) {
        self.documents.push(document);
        self.lengths.push(u32::try_from(length).unwrap_or(u32::MAX));
    }

    pub(super) fn is_full(&self) -> bool {
        self.documents.len() >= SHELF
    }

    pub(super) fn documents(&self) -> &[D] {
        &self.documents
    }

    /// Takes the largest document of at most `room` ids, or else the shortest one. Ties go to the first document.
    ///
    /// Returns `None` if the shelf is empty.
    pub(super) fn take(&mut self, room: usize) -> Option<D> {
        let place = self.largest_within(room).or_else(|| self.shortest())?;
        self.lengths.remove(place);
        Some(self.documents.remove(place))
    }

    fn largest_within(&self, room: usize) -> Option<usize> {
        let (mut place, mut largest) = (None, 0);
        for (i, &length) in self.lengths.iter().enumerate() {
            if length > largest && length as usize <= room {
                (place, largest) = (Some(i), length);
            }
        }
        place
    }

    fn shortest(&self) -> Option<usize> {
        (0..self.lengths.len()).min_by_key(|&i| self.lengths[i]) // the first of several
    }
}

/// Adds the beginning of a document to a row of `width` ids, as far as there is room.
pub(super) fn add(row: &mut Vec<i32>, document: &[i32], width: usize) {
    let room = width - row.len();
    row.extend_from_slice(&document[..document.len().min(room)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(lengths: &[usize], width: usize) -> Vec<Vec<i32>> {
        let mut shelf = Shelf::default();
        for (id, &length) in (0..).zip(lengths) {
            shelf.push(vec![id; length], length);
        }
        let mut rows = Vec::new();
        loop {
            let mut row = Vec::new();
            while row.len() < width {
                let Some(document) = shelf.take(width - row.len()) else {
                    return rows;
                };
                add(&mut row, &document, width);
            }
            rows.push(row);
        }
    }

    #[test]
    fn largest_fitting_document_comes_first_and_ties_keep_order() {
        assert_eq!(rows(&[2, 3, 3, 2], 5), [[1, 1, 1, 0, 0], [2, 2, 2, 3, 3]]);
    }

    #[test]
    fn shortest_document_is_cropped_if_none_fits() {
        assert_eq!(rows(&[3, 9, 4], 5), [[2, 2, 2, 2, 0], [1, 1, 1, 1, 1]]);
    }
}
