//! Byte-pair merges of one piece of text, as tiktoken does them: always the pair whose token has the lowest rank.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Length, in bytes, from which a heap is faster than a scan of all pairs.
const LONG: usize = 64;

/// Returns the ends of the tokens of a piece. `rank` is the rank of the token with these bytes, if there is one.
pub(super) fn ends(piece: &[u8], rank: impl Fn(&[u8]) -> Option<u32>) -> Vec<usize> {
    if piece.len() < LONG {
        ends_by_scan(piece, rank)
    } else {
        ends_by_heap(piece, rank)
    }
}

/// Merges by a scan of all pairs for each merge.
fn ends_by_scan(piece: &[u8], rank: impl Fn(&[u8]) -> Option<u32>) -> Vec<usize> {
    let mut ends: Vec<usize> = (1..=piece.len()).collect();
    // Rank of the pair of each token with the next one; the last token has none.
    let mut ranks: Vec<Option<u32>> = Vec::with_capacity(ends.len());
    for index in 0..ends.len() {
        ranks.push(pair_rank(piece, &ends, index, &rank));
    }
    while let Some(index) = lowest(&ranks) {
        ends.remove(index);
        ranks.remove(index + 1);
        ranks[index] = pair_rank(piece, &ends, index, &rank);
        if index > 0 {
            ranks[index - 1] = pair_rank(piece, &ends, index - 1, &rank);
        }
    }
    ends
}

/// Returns the place of the lowest rank, the first of several.
fn lowest(ranks: &[Option<u32>]) -> Option<usize> {
    let mut best: Option<(u32, usize)> = None;
    for (index, rank) in ranks.iter().enumerate() {
        if let Some(rank) = *rank
            && best.is_none_or(|(lowest, _)| rank < lowest)
        {
            best = Some((rank, index));
        }
    }
    best.map(|(_, index)| index)
}

/// Returns the rank of the pair of a token and the next one.
fn pair_rank(
    piece: &[u8],
    ends: &[usize],
    index: usize,
    rank: &impl Fn(&[u8]) -> Option<u32>,
) -> Option<u32> {
    let start = if index == 0 { 0 } else { ends[index - 1] };
    rank(&piece[start..*ends.get(index + 1)?])
}

/// Pair of tokens that may be merged: its rank, its start, its middle and its end.
type Pair = Reverse<(u32, usize, usize, usize)>;

/// Merges by a heap of pairs, in `n log n` for a piece of `n` bytes.
fn ends_by_heap(piece: &[u8], rank: impl Fn(&[u8]) -> Option<u32>) -> Vec<usize> {
    let len = piece.len();
    // By the start of a token: its end, and the start of the token before it.
    let mut end: Vec<usize> = (1..=len).collect();
    let mut before: Vec<usize> = (0..=len).map(|start| start.saturating_sub(1)).collect();
    let mut is_start = vec![true; len];
    let mut pairs = BinaryHeap::new();
    let pair = |start: usize, middle: usize, stop: usize| -> Option<Pair> {
        Some(Reverse((rank(&piece[start..stop])?, start, middle, stop)))
    };
    for start in 0..len.saturating_sub(1) {
        pairs.extend(pair(start, start + 1, start + 2));
    }
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
    (0..len).filter(|start| is_start[*start]).map(|start| end[start]).collect()
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

    #[test]
    fn lowest_rank_is_merged_first_from_the_left() {
        assert_eq!(ends_by_scan(b"abcab", rank), [2, 3, 5]);
        assert_eq!(ends_by_scan(b"aaa", rank), [2, 3]);
        assert_eq!(ends_by_scan(b"", rank), [0; 0]);
        assert_eq!(ends_by_heap(b"x", rank), [1]);
    }

    proptest! {
        #[test]
        fn heap_and_scan_give_the_same_tokens(piece in "[abc]{0,100}") {
            prop_assert_eq!(ends_by_scan(piece.as_bytes(), rank), ends_by_heap(piece.as_bytes(), rank));
        }
    }
}
