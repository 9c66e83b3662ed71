//! Byte-pair merges of one piece of text, as tiktoken does them: always the pair whose token has the lowest rank.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Length, in bytes, from which a heap is faster than a scan of all pairs.
const LONG: usize = 128;

/// Rank of a pair that is no token.
const NONE: u32 = u32::MAX;

/// Merges of one piece after the other, in the same memory.
#[derive(Debug, Default)]
pub(super) struct Merger {
    /// End of each token.
    ends: Vec<usize>,
    /// Rank of the pair of each token with the next one, or [`NONE`].
    ranks: Vec<u32>,
}

impl Merger {
    /// Returns the ends of the tokens of a piece. `rank` is the rank of the token with these bytes, if there is one.
    pub(super) fn ends(&mut self, piece: &[u8], rank: impl Fn(&[u8]) -> Option<u32>) -> &[usize] {
        if piece.len() < LONG {
            self.scan(piece, rank);
        } else {
            self.ends = ends_by_heap(piece, rank);
        }
        &self.ends
    }

    /// Merges by a scan of all pairs for each merge.
    fn scan(&mut self, piece: &[u8], rank: impl Fn(&[u8]) -> Option<u32>) {
        self.ends.clear();
        self.ends.extend(1..=piece.len());
        self.ranks.clear();
        for pair in piece.windows(2) {
            self.ranks.push(rank(pair).unwrap_or(NONE));
        }
        self.ranks.push(NONE); // the last token has no next one
        while let Some(index) = self.lowest() {
            self.ends.remove(index);
            self.ranks.remove(index + 1);
            self.ranks[index] = self.rank_at(piece, index, &rank);
            if index > 0 {
                self.ranks[index - 1] = self.rank_at(piece, index - 1, &rank);
            }
        }
    }

    /// Returns the place of the lowest rank, the first of several.
    fn lowest(&self) -> Option<usize> {
        let (mut best, mut place) = (NONE, None);
        for (index, rank) in self.ranks.iter().enumerate() {
            if *rank < best {
                (best, place) = (*rank, Some(index));
            }
        }
        place
    }

    /// Returns the rank of the pair of a token and the next one.
    fn rank_at(&self, piece: &[u8], index: usize, rank: &impl Fn(&[u8]) -> Option<u32>) -> u32 {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        match self.ends.get(index + 1) {
            Some(end) => rank(&piece[start..*end]).unwrap_or(NONE),
            None => NONE,
        }
    }
}

/// Pair of tokens that may be merged: its rank, its start, its middle and its end. The lowest rank is the largest pair.
type Pair = Reverse<(u32, usize, usize, usize)>;

/// Merges by a heap of pairs, in `n log n` for a piece of `n` bytes. Returns the ends of the tokens.
fn ends_by_heap(piece: &[u8], rank: impl Fn(&[u8]) -> Option<u32>) -> Vec<usize> {
    let len = piece.len();
    // By the start of a token: its end, and the start of the token before it.
    let mut end: Vec<usize> = (1..=len).collect();
    let mut before: Vec<usize> = (0..=len).map(|start| start.saturating_sub(1)).collect();
    let mut is_start = vec![true; len];
    let pair = |start: usize, middle: usize, stop: usize| -> Option<Pair> {
        Some(Reverse((rank(&piece[start..stop])?, start, middle, stop)))
    };
    let mut pairs: BinaryHeap<_> = (1..len)
        .filter_map(|middle| pair(middle - 1, middle, middle + 1))
        .collect();
    while let Some(Reverse((_, start, middle, stop))) = pairs.pop() {
        // A pair is out of date once one of its tokens has been merged.
        if !is_start[start] || end[start] != middle || end[middle] != stop {
            continue;
        }
        end[start] = stop;
        is_start[middle] = false;
        before[stop] = start;
        if stop < len {
            pairs.extend(pair(start, stop, end[stop]));
        }
        if start > 0 {
            pairs.extend(pair(before[start], start, stop));
        }
    }
    let starts = (0..len).filter(|start| is_start[*start]);
    starts.map(|start| end[start]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Ranks of pairs and triples of three letters.
    fn rank(bytes: &[u8]) -> Option<u32> {
        let known = ["ab", "bc", "aa", "aba", "abab", "ca", "bcca", "aab"];
        let found = known.iter().position(|known| known.as_bytes() == bytes);
        found.map(|place| place as u32)
    }

    fn ends_by_scan(piece: &[u8]) -> Vec<usize> {
        let mut merger = Merger::default();
        merger.scan(b"abababab", rank); // a longer piece before it leaves nothing behind
        merger.scan(piece, rank);
        merger.ends
    }

    #[test]
    fn lowest_rank_is_merged_first_from_the_left() {
        assert_eq!(ends_by_scan(b"abcab"), [2, 3, 5]);
        assert_eq!(ends_by_scan(b"aaa"), [2, 3]);
        assert_eq!(ends_by_scan(b""), [0; 0]);
        assert_eq!(ends_by_heap(b"x", rank), [1]);
        assert_eq!(ends_by_heap(b"", rank), [0; 0]);
    }

    #[test]
    fn time_of_a_long_piece_is_not_its_square() {
        let piece = b"abc".repeat(700_000);
        let mut merger = Merger::default();
        assert_eq!(merger.ends(&piece, rank).len(), 700_000 * 2);
    }

    proptest! {
        #[test]
        fn heap_and_scan_give_the_same_tokens(piece in "[abc]{0,100}") {
            prop_assert_eq!(ends_by_scan(piece.as_bytes()), ends_by_heap(piece.as_bytes(), rank));
        }
    }
}
