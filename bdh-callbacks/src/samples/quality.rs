//! Quality of a sample, by counting its tokens.
//!
//! All measures cover the tokens of the continuation alone. They depend on its length and on the tokenizer: compare them
//! over a run, not between tokenizers.

use std::collections::HashSet;

/// Measures of one continuation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Quality {
    /// Share of distinct n-grams among all n-grams, 0 to 1, for n of 1, 2, 3; 1 without any.
    ///
    /// Source: Li et al., 2016, *A Diversity-Promoting Objective Function* (arXiv:1510.03055).
    pub(super) distinct: [f64; 3],
    /// Share of 4-grams that occurred before, 0 to 1.
    ///
    /// Source: seq-rep-4 of Welleck et al., 2020, *Unlikelihood Training* (arXiv:1908.04319).
    pub(super) repetition: f64,
    /// Tokens of the longest span that occurs twice; the two occurrences may overlap.
    pub(super) longest_repeat: usize,
    /// Entropy of the distribution of tokens, in bits per token.
    pub(super) entropy: f64,
    /// Mean logarithm of the tokens' probabilities, in nats; NaN for an empty continuation.
    pub(super) log_prob: f64,
    /// Number of tokens.
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

    /// Whether the continuation loops: its longest repeated span has at least the share `alarm` of its tokens.
    ///
    /// A loop of period `p` in `n` tokens repeats a span of `n − p`. Fewer than 16 tokens are too few to decide.
    pub(super) fn is_degenerate(&self, alarm: f64) -> bool {
        self.tokens >= 16 && self.longest_repeat as f64 >= alarm * self.tokens as f64
    }
}

/// Returns the share of distinct n-grams among all n-grams; 1 without any.
fn distinct(tokens: &[i32], n: usize) -> f64 {
    let grams: HashSet<&[i32]> = tokens.windows(n).collect();
    if grams.is_empty() {
        1.0
    } else {
        grams.len() as f64 / tokens.windows(n).len() as f64
    }
}

/// Returns the length of the longest span that begins at two places, in quadratic time.
fn longest_repeat(tokens: &[i32]) -> usize {
    let mut longest = 0;
    // For each earlier place, the length of the common span that ends there and here. Shifted by one: entry 0 stands for
    // the empty span before the first token.
    let mut common = vec![0; tokens.len() + 1];
    for here in 1..tokens.len() {
        // Backwards, since each entry is made from its left neighbour of the previous row.
        for earlier in (0..here).rev() {
            let is_equal = tokens[earlier] == tokens[here];
            common[earlier + 1] = if is_equal { common[earlier] + 1 } else { 0 };
            longest = longest.max(common[earlier + 1]);
        }
    }
    longest
}

/// Returns the Shannon entropy of the tokens' frequencies, in bits; 0 without tokens.
fn entropy(tokens: &[i32]) -> f64 {
    let mut sorted = tokens.to_vec();
    sorted.sort_unstable();
    let mut counts: Vec<_> = sorted.chunk_by(|a, b| a == b).map(<[i32]>::len).collect();
    counts.sort_unstable(); // a sum of floats depends on the order, which must not depend on the ids
    let mut entropy = 0.0;
    for count in counts {
        let share = count as f64 / tokens.len() as f64;
        entropy += share * -share.log2();
    }
    entropy
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
    fn measures_agree_with_hand_calculation() {
        let quality = of("abcabcab"); // 4-grams: abca bcab cabc abca bcab
        assert_eq!(quality.distinct, [3.0 / 8.0, 3.0 / 7.0, 3.0 / 6.0]);
        assert!((quality.repetition - 2.0 / 5.0).abs() < 1e-15);
        assert_eq!(quality.longest_repeat, 5); // abcab, at 0 and at 3
        let thirds = 2.0 * 3.0 / 8.0 * (8.0_f64 / 3.0).log2() + 2.0 / 8.0 * 2.0;
        assert!((quality.entropy - thirds).abs() < 1e-15);
        assert_eq!((quality.log_prob, quality.tokens), (-0.5, 8));
    }

    #[test]
    fn text_without_repeats_has_the_best_measures() {
        let quality = of("abcdefgh");
        assert_eq!((quality.distinct, quality.repetition), ([1.0; 3], 0.0));
        assert_eq!((quality.longest_repeat, quality.entropy), (0, 3.0));
    }

    #[test]
    fn empty_text_is_neither_repetitive_nor_degenerate() {
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

    /// Returns the length of the longest repeat by its definition, in time of the fourth power of the length.
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
        fn longest_repeat_agrees_with_its_definition(tokens in prop::collection::vec(0..4, 0..24)) {
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
        fn measures_do_not_depend_on_token_ids(tokens in prop::collection::vec(0..6, 0..40)) {
            let renamed: Vec<i32> = tokens.iter().map(|token| 7 * (5 - token)).collect();
            prop_assert_eq!(Quality::of(&tokens, &[0.0]), Quality::of(&renamed, &[0.0]));
        }

        #[test]
        fn loop_repeats_all_but_its_period(period in 1_usize..10, length in 20_usize..60) {
            let tokens: Vec<i32> = (0..length).map(|index| (index % period) as i32).collect();
            prop_assert_eq!(longest_repeat(&tokens), length - period);
        }
    }
}
