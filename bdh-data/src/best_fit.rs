//! Best-fit packing of documents into rows.
//!
//! Rows have no padding. A document that does not fit is cut off at the end of the row. Taking the largest document
//! that fits keeps these cuts rare.
//!
//! Source: nanochat's `dataloader.py`.

/// Number of documents to choose from. Source: nanochat.
pub(super) const SHELF: usize = 1000;

/// Documents that wait for a row, in their order.
#[derive(Debug, Clone, Default)]
pub(super) struct Shelf {
    /// Indices into the list of documents.
    ids: Vec<u32>,
    /// Lengths of the documents, in an array of their own because each choice reads all of them.
    lengths: Vec<u32>,
}

impl Shelf {
    /// Adds a document by its index.
    pub(super) fn push(&mut self, id: u32, documents: &[Vec<i32>]) {
        self.ids.push(id);
        self.lengths.push(documents[id as usize].len() as u32);
    }

    pub(super) fn is_full(&self) -> bool {
        self.ids.len() >= SHELF
    }

    pub(super) fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Fills a row of `width` ids; `restock` is called before each choice.
    ///
    /// Each choice takes the largest document that fits. If none fits, it takes the beginning of the shortest one. Ties
    /// go to the first document on the shelf. Returns `None` if the shelf becomes empty.
    pub(super) fn row(
        &mut self,
        width: usize,
        documents: &[Vec<i32>],
        mut restock: impl FnMut(&mut Self),
    ) -> Option<Vec<i32>> {
        let mut row = Vec::with_capacity(width);
        while row.len() < width {
            restock(self);
            let room = width - row.len();
            let place = self.largest_within(room).or_else(|| self.shortest())?;
            let document = &documents[self.take(place)];
            row.extend_from_slice(&document[..document.len().min(room)]);
        }
        Some(row)
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

    fn take(&mut self, place: usize) -> usize {
        self.lengths.remove(place);
        self.ids.remove(place) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(lengths: &[usize], width: usize) -> Vec<Vec<i32>> {
        let documents: Vec<_> = (0..)
            .zip(lengths)
            .map(|(i, &length)| vec![i; length])
            .collect();
        let mut shelf = Shelf::default();
        (0..documents.len() as u32).for_each(|id| shelf.push(id, &documents));
        std::iter::from_fn(|| shelf.row(width, &documents, |_| {})).collect()
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
