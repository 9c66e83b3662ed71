//! Losses of n-gram models, as baselines for a language model.
//!
//! A model with a higher loss than the bigram baseline has learned less than a table of byte pairs. Many toy models
//! do not reach the 4-gram baseline.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};

/// Length of the longest n-gram, in bytes.
const LONGEST: usize = 4;

/// Losses of n-gram models of the training text on the validation text, in bits per byte.
#[derive(serde::Serialize, Debug, Clone, Copy, PartialEq)]
pub struct NgramBaselines {
    /// Loss without context, from the frequency of each byte.
    pub unigram: f64,
    /// Loss with the previous byte as context.
    pub bigram: f64,
    /// Loss with the previous three bytes as context.
    pub four_gram: f64,
}

impl NgramBaselines {
    /// Counts the n-grams of `train` and measures them on `val`. Contexts do not cross document borders.
    ///
    /// Probabilities are interpolated with those of shorter contexts, down to 1/256 for every byte, so no loss is
    /// infinite. The losses are NaN if `val` has no bytes. Source: Witten and Bell, 1991, method C.
    #[must_use]
    pub fn of<T: AsRef<[u8]>>(train: &[T], val: &[T]) -> Self {
        let counts = Counts::of(train);
        let mut bits = [0.0; LONGEST];
        let mut bytes = 0;
        for document in val {
            let document = document.as_ref();
            counts.add_bits(document, &mut bits);
            bytes += document.len();
        }
        let [unigram, bigram, _, four_gram] = bits.map(|bits| bits / bytes as f64);
        Self {
            unigram,
            bigram,
            four_gram,
        }
    }
}

impl fmt::Display for NgramBaselines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            unigram,
            bigram,
            four_gram,
        } = self;
        write!(
            f,
            "unigram {unigram:.2} · bigram {bigram:.2} · 4-gram {four_gram:.2} bits per byte"
        )
    }
}

/// Counts of n-grams of 1 to 4 bytes. An n-gram is a number with its last byte lowest.
#[derive(Default)]
struct Counts {
    ngrams: [Table<u64>; LONGEST],
    /// Counts by context: the bytes before the last one.
    contexts: [Table<Context>; LONGEST],
}

#[derive(Default)]
struct Context {
    /// Number of bytes that followed the context.
    total: u64,
    /// Number of different bytes that followed the context.
    distinct: u64,
}

impl Counts {
    fn of<T: AsRef<[u8]>>(documents: &[T]) -> Self {
        let mut counts = Self::default();
        for document in documents {
            let mut recent = 0;
            for (i, &byte) in document.as_ref().iter().enumerate() {
                recent = recent << 8 | u32::from(byte);
                let length = LONGEST.min(i + 1);
                let ngram = last(recent, length);
                *counts.ngrams[length - 1].entry(ngram).or_default() += 1;
            }
        }
        counts.add_shorter_ngrams();
        counts.count_contexts();
        counts
    }

    /// Adds the counts of shorter n-grams: each byte was counted only in its longest n-gram, which ends in the shorter.
    fn add_shorter_ngrams(&mut self) {
        for length in (2..=LONGEST).rev() {
            let [shorter, longer] = &mut self.ngrams[length - 2..length] else {
                continue;
            };
            for (&ngram, count) in &*longer {
                *shorter.entry(last(ngram, length - 1)).or_default() += count;
            }
        }
    }

    /// Counts the bytes that followed each context.
    fn count_contexts(&mut self) {
        for (ngrams, contexts) in self.ngrams.iter().zip(&mut self.contexts) {
            for (ngram, count) in ngrams {
                let context = contexts.entry(ngram >> 8).or_default();
                context.total += count;
                context.distinct += 1;
            }
        }
    }

    /// Adds the bits that each model needs for a document.
    fn add_bits(&self, document: &[u8], bits: &mut [f64; LONGEST]) {
        let mut recent = 0;
        for (i, &byte) in document.iter().enumerate() {
            recent = recent << 8 | u32::from(byte);
            let probabilities = self.probabilities(recent, i + 1);
            for (bits, probability) in bits.iter_mut().zip(probabilities) {
                *bits -= probability.log2();
            }
        }
    }

    /// Returns the probability of the last byte of `recent` given 0 to 3 bytes before it; only `known` bytes exist.
    fn probabilities(&self, recent: u32, known: usize) -> [f64; LONGEST] {
        let mut p = 1.0 / 256.0;
        std::array::from_fn(|i| {
            let ngram = last(recent, i + 1);
            // At the start of a document and after an unknown context, the shorter context decides.
            if i < known
                && let Some(context) = self.contexts[i].get(&(ngram >> 8))
            {
                let count = self.ngrams[i].get(&ngram).copied().unwrap_or_default() as f64;
                let (total, distinct) = (context.total as f64, context.distinct as f64);
                p = (count + distinct * p) / (total + distinct);
            }
            p
        })
    }
}

/// Returns the last `length` bytes of an n-gram.
fn last(ngram: u32, length: usize) -> u32 {
    ngram & (u32::MAX >> (8 * (LONGEST - length)))
}

type Table<V> = HashMap<u32, V, BuildHasherDefault<Multiplicative>>;

/// Hasher of one `u32` by a multiplication, several times faster than the default.
///
/// The default protects against chosen keys, which do not matter here.
#[derive(Default)]
struct Multiplicative(u64);

impl Hasher for Multiplicative {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u32(u32::from(byte));
        }
    }

    fn write_u32(&mut self, key: u32) {
        self.0 = (self.0 ^ u64::from(key)).wrapping_mul(0x9E37_79B9_7F4A_7C15); // 2^64 / golden ratio
    }

    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32 // multiplication mixes the upper bits, and tables use the lower ones
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::below;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn baselines_of_independent_bytes_approach_their_entropy() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let mut text = |n: usize| {
            (0..n)
                .map(|_| b"abbccccc"[below(8, &mut rng)])
                .collect::<Vec<_>>()
        };
        let (train, val) = ([text(400_000)], [text(400_000)]);
        let entropy = 1.298_794_940_695_398; // of 1/8, 2/8, 5/8
        let baselines = NgramBaselines::of(&train, &val);
        for loss in [baselines.unigram, baselines.bigram, baselines.four_gram] {
            assert!((loss - entropy).abs() < 0.005, "{baselines:?}");
        }
    }

    #[test]
    fn deterministic_text_costs_nothing_with_enough_context() {
        let text = ["abcd".repeat(10_000)];
        let baselines = NgramBaselines::of(&text, &text);
        assert!((baselines.unigram - 2.0).abs() < 0.01, "{baselines:?}");
        assert!(
            baselines.bigram < 0.01 && baselines.four_gram < 0.01,
            "{baselines:?}"
        );
    }

    #[test]
    fn contexts_do_not_reach_across_documents() {
        let apart = NgramBaselines::of(&["a", "b"].repeat(1000), &["ab"]);
        assert!(apart.bigram > 1.0 - 0.01 && (apart.bigram - apart.four_gram).abs() < 1e-12);
    }

    #[test]
    fn unknown_bytes_have_a_finite_loss_and_no_text_is_nan() {
        let none: [&str; 0] = [];
        assert!((NgramBaselines::of(&none, &["x"]).four_gram - 8.0).abs() < 1e-12);
        assert!(NgramBaselines::of(&["aaaa"], &["z"]).unigram.is_finite());
        assert!(NgramBaselines::of(&["aaaa"], &none).unigram.is_nan());
    }

    #[test]
    fn probabilities_of_all_bytes_sum_to_one() {
        let counts = Counts::of(&["to be or not to be"]);
        for context in [*b"to ", *b" be", *b"xyz"] {
            let sums = (0..=255).fold([0.0; LONGEST], |mut sums, byte| {
                let ngram = u32::from_be_bytes([context[0], context[1], context[2], byte]);
                let p = counts.probabilities(ngram, 4);
                sums.iter_mut().zip(p).for_each(|(sum, p)| *sum += p);
                sums
            });
            assert!(sums.iter().all(|sum| (sum - 1.0).abs() < 1e-12), "{sums:?}");
        }
    }

    #[test]
    fn baselines_print_on_one_line() {
        let baselines = NgramBaselines {
            unigram: 4.871,
            bigram: 3.508,
            four_gram: 2.3,
        };
        let line = "unigram 4.87 · bigram 3.51 · 4-gram 2.30 bits per byte";
        assert_eq!(baselines.to_string(), line);
    }
}
