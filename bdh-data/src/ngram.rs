//! What counting achieves: levels to hold a model against.
//!
//! A loss says little alone. A model above the bigram level has learned less than a table of byte pairs;
//! many a toy model stays above a 4-gram.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};

/// The longest run of bytes that is counted.
const LONGEST: usize = 4;

/// Bits per byte of validation text under counts of the training text.
#[derive(serde::Serialize, Debug, Clone, Copy, PartialEq)]
pub struct Levels {
    /// From how frequent each byte is.
    pub unigram: f64,
    /// From the byte before.
    pub bigram: f64,
    /// From the three bytes before.
    pub four_gram: f64,
}

impl Levels {
    /// Counts `train` and measures `val`; each item is a document, and no context reaches across.
    ///
    /// Smoothed by interpolation with shorter contexts, down to one chance in 256 for every byte, so no
    /// level is infinite. NaN if `val` holds no byte. Source: Witten and Bell, 1991, method C.
    #[must_use]
    pub fn of<T: AsRef<[u8]>>(train: &[T], val: &[T]) -> Self {
        let counts = Counts::of(train);
        let mut bits = [0.0; LONGEST];
        let mut bytes = 0_u64;
        for document in val {
            let mut recent = 0;
            for (i, &byte) in document.as_ref().iter().enumerate() {
                recent = recent << 8 | u32::from(byte);
                let probabilities = counts.probabilities(recent, i + 1);
                bits.iter_mut()
                    .zip(probabilities)
                    .for_each(|(bits, p)| *bits -= p.log2());
                bytes += 1;
            }
        }
        let [unigram, bigram, _, four_gram] = bits.map(|bits| bits / bytes as f64);
        Self {
            unigram,
            bigram,
            four_gram,
        }
    }
}

impl fmt::Display for Levels {
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

/// How often runs of 1 to 4 bytes occur. A run is a number, its last byte lowest.
#[derive(Default)]
struct Counts {
    runs: [Table<u64>; LONGEST],
    /// Keyed by the bytes before the last one.
    contexts: [Table<Context>; LONGEST],
}

#[derive(Default)]
struct Context {
    /// Bytes that followed it.
    total: u64,
    /// Different ones among them.
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
                *counts.runs[length - 1]
                    .entry(last(recent, length))
                    .or_default() += 1;
            }
        }
        // A byte was counted in its longest run only, which ends in the shorter ones.
        for length in (2..=LONGEST).rev() {
            let [shorter, longer] = &mut counts.runs[length - 2..length] else {
                continue;
            };
            for (&run, count) in &*longer {
                *shorter.entry(last(run, length - 1)).or_default() += count;
            }
        }
        for (runs, contexts) in counts.runs.iter().zip(&mut counts.contexts) {
            for (run, count) in runs {
                let context = contexts.entry(run >> 8).or_default();
                context.total += count;
                context.distinct += 1;
            }
        }
        counts
    }

    /// The probability of the last byte of `recent` from 0 to 3 bytes before it, `known` at most.
    fn probabilities(&self, recent: u32, known: usize) -> [f64; LONGEST] {
        let mut p = 1.0 / 256.0;
        std::array::from_fn(|i| {
            let run = last(recent, i + 1);
            // At the start of a document, and after what never occurred, the shorter context must do.
            if i < known
                && let Some(context) = self.contexts[i].get(&(run >> 8))
            {
                let count = self.runs[i].get(&run).copied().unwrap_or_default() as f64;
                let (total, distinct) = (context.total as f64, context.distinct as f64);
                p = (count + distinct * p) / (total + distinct);
            }
            p
        })
    }
}

/// The last `length` bytes of a run.
fn last(run: u32, length: usize) -> u32 {
    run & (u32::MAX >> (8 * (LONGEST - length)))
}

type Table<V> = HashMap<u32, V, BuildHasherDefault<Spread>>;

/// Hashes one `u32` by a multiplication: several times faster than the default, and nobody attacks here.
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u32(u32::from(byte));
        }
    }

    fn write_u32(&mut self, key: u32) {
        self.0 = (self.0 ^ u64::from(key)).wrapping_mul(0x9E37_79B9_7F4A_7C15); // 2^64 / golden ratio
    }

    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32 // the upper bits are the mixed ones, and tables use the lower
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::below;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn all_levels_of_independent_bytes_approach_their_entropy() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let mut text = |n: usize| {
            (0..n)
                .map(|_| b"abbccccc"[below(8, &mut rng)])
                .collect::<Vec<_>>()
        };
        let (train, val) = ([text(400_000)], [text(400_000)]);
        let entropy = 1.298_794_940_695_398; // of 1/8, 2/8, 5/8
        let levels = Levels::of(&train, &val);
        for level in [levels.unigram, levels.bigram, levels.four_gram] {
            assert!((level - entropy).abs() < 0.005, "{levels:?}");
        }
    }

    #[test]
    fn a_deterministic_text_costs_nothing_once_the_context_tells_the_rest() {
        let text = ["abcd".repeat(10_000)];
        let levels = Levels::of(&text, &text);
        assert!((levels.unigram - 2.0).abs() < 0.01, "{levels:?}");
        assert!(
            levels.bigram < 0.01 && levels.four_gram < 0.01,
            "{levels:?}"
        );
    }

    #[test]
    fn contexts_do_not_reach_across_documents() {
        let apart = Levels::of(&["a", "b"].repeat(1000), &["ab"]);
        assert!(apart.bigram > 1.0 - 0.01 && (apart.bigram - apart.four_gram).abs() < 1e-12);
    }

    #[test]
    fn what_never_occurred_costs_something_finite_and_no_text_is_nan() {
        let none: [&str; 0] = [];
        assert!((Levels::of(&none, &["x"]).four_gram - 8.0).abs() < 1e-12);
        assert!(Levels::of(&["aaaa"], &["z"]).unigram.is_finite());
        assert!(Levels::of(&["aaaa"], &none).unigram.is_nan());
    }

    #[test]
    fn probabilities_of_all_bytes_sum_to_one() {
        let counts = Counts::of(&["to be or not to be"]);
        for context in [*b"to ", *b" be", *b"xyz"] {
            let sums = (0..=255).fold([0.0; LONGEST], |mut sums, byte| {
                let run = u32::from_be_bytes([context[0], context[1], context[2], byte]);
                let p = counts.probabilities(run, 4);
                sums.iter_mut().zip(p).for_each(|(sum, p)| *sum += p);
                sums
            });
            assert!(sums.iter().all(|sum| (sum - 1.0).abs() < 1e-12), "{sums:?}");
        }
    }

    #[test]
    fn levels_read_as_one_line() {
        let levels = Levels {
            unigram: 4.871,
            bigram: 3.508,
            four_gram: 2.3,
        };
        let line = "unigram 4.87 · bigram 3.51 · 4-gram 2.30 bits per byte";
        assert_eq!(levels.to_string(), line);
    }
}
