//! How good a sample is, as far as counting its tokens can tell.
//!
//! All measures are over the tokens of the continuation alone. They depend on its length and, for a model
//! of bytes, on the alphabet: compare them over a run, not between tokenizers.

use std::collections::HashSet;

/// What is measured of one continuation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Quality {
    /// Different n-grams among all n-grams, 0 to 1, for n of 1, 2, 3; 1 where there is none.
    ///
    /// Source: Li et al., 2016, *A Diversity-Promoting Objective Function* (arXiv:1510.03055).
    pub(super) distinct: [f64; 3],
    /// The share of 4-grams that were there before, 0 to 1.
    ///
    /// Source: seq-rep-4 of Welleck et al., 2020, *Unlikelihood Training* (arXiv:1908.04319).
    pub(super) repetition: f64,
    /// Tokens of the longest span that occurs twice; the two may overlap.
    pub(super) longest_repeat: usize,
    /// Bits per token of the distribution of its tokens.
    pub(super) entropy: f64,
    /// Mean logarithm of the tokens' probabilities, in nats; NaN of an empty continuation.
    pub(super) log_prob: f64,
    /// How many tokens it has.
    pub(super) tokens: usize,
}

impl Quality {
    pub(super) fn of(tokens: &[i32], log_probs: &[f64]) -> Self {
        Self {
            distinct: [1, 2, 3].map(|n| distinct(tokens, n)),
            repetition: 1.0 - distinct(tokens, 4),
            longest_repeat: longest_repeat(tokens),
            entropy: entropy(tokens),
            log_prob: log_probs.iter().sum::<f64>() / log_probs.len() as f64,
            tokens: tokens.len(),
        }
    }

    /// Whether at least a share `alarm` of the continuation says again what it said before: a loop.
    ///
    /// One of `n` tokens that goes round in a circle of `p` repeats a span of `n − p`. Of fewer than 16
    /// tokens nothing can be said.
    pub(super) fn is_degenerate(&self, alarm: f64) -> bool {
        self.tokens >= 16 && self.longest_repeat as f64 >= alarm * self.tokens as f64
    }
}

/// Different n-grams among all of them; 1 where there is none.
fn distinct(tokens: &[i32], n: usize) -> f64 {
    let grams: HashSet<&[i32]> = tokens.windows(n).collect();
    if grams.is_empty() {
        1.0
    } else {
        grams.len() as f64 / tokens.windows(n).len() as f64
    }
}

/// The length of the longest span that begins at two places. Takes the square of the length in time.
fn longest_repeat(tokens: &[i32]) -> usize {
    let mut longest = 0;
    // For each earlier place, how long the span that ends there agrees with the one that ends here.
    let mut agree = vec![0; tokens.len()];
    for here in 1..tokens.len() {
        for earlier in (0..here).rev() {
            let before = earlier.checked_sub(1).map_or(0, |before| agree[before]);
            agree[earlier] = if tokens[earlier] == tokens[here] {
                before + 1
            } else {
                0
            };
            longest = longest.max(agree[earlier]);
        }
    }
    longest
}

/// Shannon's entropy of the tokens' frequencies, in bits; 0 of nothing.
fn entropy(tokens: &[i32]) -> f64 {
    let mut sorted = tokens.to_vec();
    sorted.sort_unstable();
    let mut counts: Vec<_> = sorted.chunk_by(|a, b| a == b).map(<[i32]>::len).collect();
    counts.sort_unstable(); // sums of floats depend on their order, which shall not depend on the ids
    let share = |count: &usize| *count as f64 / tokens.len() as f64;
    counts
        .iter()
        .map(share)
        .map(|share| share * -share.log2())
        .sum::<f64>()
        + 0.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(text: &str) -> Quality {
        let tokens: Vec<i32> = text.bytes().map(i32::from).collect();
        Quality::of(&tokens, &vec![-0.5; tokens.len()])
    }

    #[test]
    fn measures_are_those_worked_out_by_hand() {
        let quality = of("abcabcab"); // 4-grams: abca bcab cabc abca bcab
        assert_eq!(quality.distinct, [3.0 / 8.0, 3.0 / 7.0, 3.0 / 6.0]);
        assert!((quality.repetition - 2.0 / 5.0).abs() < 1e-15);
        assert_eq!(quality.longest_repeat, 5); // abcab, at 0 and at 3
        let thirds = 2.0 * 3.0 / 8.0 * (8.0_f64 / 3.0).log2() + 2.0 / 8.0 * 2.0;
        assert!((quality.entropy - thirds).abs() < 1e-15);
        assert_eq!((quality.log_prob, quality.tokens), (-0.5, 8));
    }

    #[test]
    fn a_text_without_repeats_has_the_best_of_everything() {
        let quality = of("abcdefgh");
        assert_eq!((quality.distinct, quality.repetition), ([1.0; 3], 0.0));
        assert_eq!((quality.longest_repeat, quality.entropy), (0, 3.0));
    }

    #[test]
    fn nothing_is_neither_repetitive_nor_degenerate() {
        let quality = of("");
        assert_eq!(
            (quality.distinct, quality.repetition, quality.entropy),
            ([1.0; 3], 0.0, 0.0)
        );
        assert!(quality.log_prob.is_nan() && !quality.is_degenerate(0.0));
    }

    #[test]
    fn loops_are_degenerate_and_sentences_are_not() {
        for text in [
            "aaaaaaaaaaaaaaaaaaaa",
            "the the the the the the ",
            "and so on, and so on, and so on",
        ] {
            assert!(of(text).is_degenerate(0.5), "{text}");
        }
        for text in [
            "aaaaaaaaaa",
            "It was the best of times, it was the worst of times",
        ] {
            assert!(!of(text).is_degenerate(0.5), "{text}");
        }
    }

    /// The same by the definition, in the fourth power of the length.
    fn longest_by_definition(tokens: &[i32]) -> usize {
        let occurs_twice = |span: &[i32]| {
            tokens
                .windows(span.len())
                .filter(|other| *other == span)
                .count()
                > 1
        };
        (1..tokens.len())
            .rev()
            .find(|n| tokens.windows(*n).any(occurs_twice))
            .unwrap_or(0)
    }

    proptest! {
        #[test]
        fn the_longest_repeat_is_that_of_the_definition(tokens in prop::collection::vec(0..4, 0..24)) {
            prop_assert_eq!(longest_repeat(&tokens), longest_by_definition(&tokens));
        }

        #[test]
        fn measures_stay_in_their_ranges(tokens in prop::collection::vec(0..6, 0..64)) {
            let quality = Quality::of(&tokens, &[]);
            for share in quality.distinct.into_iter().chain([quality.repetition]) {
                prop_assert!((0.0..=1.0).contains(&share));
            }
            prop_assert!(quality.distinct.is_sorted()); // a repeated trigram holds a repeated bigram
            prop_assert!(quality.longest_repeat < tokens.len().max(1));
            prop_assert!((0.0..=6.0_f64.log2() + 1e-12).contains(&quality.entropy));
        }

        #[test]
        fn names_of_tokens_do_not_matter(tokens in prop::collection::vec(0..6, 0..40)) {
            let renamed: Vec<i32> = tokens.iter().map(|token| 7 * (5 - token)).collect();
            prop_assert_eq!(Quality::of(&tokens, &[0.0]), Quality::of(&renamed, &[0.0]));
        }

        #[test]
        fn a_loop_repeats_all_but_its_period(period in 1_usize..10, length in 20_usize..60) {
            let tokens: Vec<i32> = (0..length).map(|index| (index % period) as i32).collect();
            prop_assert_eq!(longest_repeat(&tokens), length - period);
        }
    }
}
