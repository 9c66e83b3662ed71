//! Fills rows with the documents that fit best.
//!
//! Source: nanochat's `dataloader.py`. Rows have no padding: what does not fit a row is cut off, and taking
//! the largest document that fits keeps the cuts few.

/// Documents a choice is made from; nanochat's number.
pub(super) const SHELF: usize = 1000;

/// Documents waiting for a row, in the order they came.
#[derive(Debug, Clone, Default)]
pub(super) struct Shelf {
    /// Places in the list of documents.
    ids: Vec<u32>,
    /// Their lengths: a choice reads all of them, so they lie together.
    lengths: Vec<u32>,
}

impl Shelf {
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
    /// Takes the largest document that fits, again and again; when none does, the shortest one, of which
    /// the row keeps the beginning. The first on the shelf wins a tie. Returns `None` if the shelf runs out.
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
    fn the_largest_that_fits_comes_first_and_ties_go_to_the_first() {
        assert_eq!(rows(&[2, 3, 3, 2], 5), [[1, 1, 1, 0, 0], [2, 2, 2, 3, 3]]);
    }

    #[test]
    fn when_none_fits_the_shortest_is_cropped_and_its_tail_is_gone() {
        assert_eq!(rows(&[3, 9, 4], 5), [[2, 2, 2, 2, 0], [1, 1, 1, 1, 1]]);
    }
}
