//! Synthetic text with a known entropy.
//!
//! The lowest possible loss on real text is unknown. On this text it is `Markov::ENTROPY_RATE`, so a loss curve can be
//! compared with it.

use crate::corpus::Corpus;
use crate::order::{below, shuffle, unit};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const SYMBOLS: &[u8; 16] = b" etaoinshrdlucm\n";

/// Ratio of the probabilities of two successive ranks.
const RATIO: f64 = 0.6;

/// Seed of the corpus of `--data synthetic`.
const SEED: u64 = 20_240_229;

const DOCUMENTS: usize = 512;

/// Markov source of text, where the last two bytes decide the probabilities of the next byte.
///
/// Every context ranks the same 16 symbols in its own order. The probabilities of the ranks are the same in all
/// contexts, so the entropy rate is the entropy of one distribution, from the first byte of a document on. The orders
/// are similar, most of all those with the same last byte. So a unigram model learns a little, a bigram model more, and
/// only a model with two bytes of context can reach the entropy rate.
#[derive(Debug, Clone)]
struct Markov {
    /// Symbols of each context by rank, as indices into [`SYMBOLS`].
    ranked: Vec<[u8; 16]>,
}

impl Markov {
    /// Entropy in bits per byte: that of 16 probabilities, each 0.6 of the previous one.
    const ENTROPY_RATE: f64 = 2.423_641_992_379_963;

    /// Creates the source of a seed.
    fn new(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut common: [u8; 16] = std::array::from_fn(|symbol| symbol as u8);
        shuffle(&mut common, &mut rng);
        let mut ranked = vec![common; 256];
        for last in 0..16 {
            let similar = swapped(common, 6, &mut rng);
            for before in 0..16 {
                ranked[before * 16 + last] = swapped(similar, 3, &mut rng);
            }
        }
        Self { ranked }
    }

    /// Draws an ASCII text of `bytes` bytes.
    fn sample(&self, bytes: usize, rng: &mut impl Rng) -> String {
        let likely = probabilities();
        let mut context = 0;
        let mut text = String::with_capacity(bytes);
        for _ in 0..bytes {
            let mut left = unit(rng);
            let rank = likely.iter().position(|p| {
                left -= p;
                left < 0.0
            });
            // By rounding, the probabilities may sum to slightly less than 1.
            let symbol = self.ranked[context][rank.unwrap_or(15)];
            text.push(char::from(SYMBOLS[usize::from(symbol)]));
            context = next_context(context, symbol);
        }
        text
    }

    /// Returns the bits that this source needs for a text; infinite for a text that it cannot draw.
    #[cfg(test)]
    fn code_length(&self, text: &str) -> f64 {
        let bits = probabilities().map(|p| -p.log2());
        let mut context = 0;
        let mut total = 0.0;
        for byte in text.bytes() {
            let Some(symbol) = SYMBOLS.iter().position(|symbol| *symbol == byte) else {
                return f64::INFINITY;
            };
            let rank = self.ranked[context]
                .iter()
                .position(|s| usize::from(*s) == symbol);
            total += rank.map_or(f64::INFINITY, |rank| bits[rank]);
            context = next_context(context, symbol as u8);
        }
        total
    }
}

/// Creates about a megabyte of text, in documents of 64 to 4,031 bytes.
pub(super) fn corpus() -> Corpus {
    let documents = draw_documents();
    let (val, train) = documents.split_at(DOCUMENTS / 10);
    Corpus {
        name: "synthetic".to_owned(),
        origin: "a seeded Markov source".to_owned(),
        train: train.to_vec(),
        val: val.to_vec(),
        entropy: Some(Markov::ENTROPY_RATE),
    }
}

fn draw_documents() -> Vec<String> {
    let source = Markov::new(SEED);
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    rng.set_stream(1); // the source was drawn from stream 0
    let mut documents = Vec::with_capacity(DOCUMENTS);
    for _ in 0..DOCUMENTS {
        let bytes = 64 + below(3_968, &mut rng);
        documents.push(source.sample(bytes, &mut rng));
    }
    documents
}

/// Returns the probability of each rank.
fn probabilities() -> [f64; 16] {
    let mut weights = [1.0; 16];
    for rank in 1..16 {
        weights[rank] = weights[rank - 1] * RATIO;
    }
    let sum: f64 = weights.iter().sum();
    weights.map(|weight| weight / sum)
}

/// Returns the order after a number of random swaps.
fn swapped(mut order: [u8; 16], times: usize, rng: &mut impl Rng) -> [u8; 16] {
    for _ in 0..times {
        order.swap(below(16, rng), below(16, rng));
    }
    order
}

/// Returns the context after a symbol: the last two symbols, with the older one first.
fn next_context(context: usize, symbol: u8) -> usize {
    context % 16 * 16 + usize::from(symbol)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropy_rate_is_the_entropy_of_the_ranks() {
        let entropy: f64 = probabilities().iter().map(|p| -p * p.log2()).sum();
        assert!((entropy - Markov::ENTROPY_RATE).abs() < 1e-12, "{entropy}");
    }

    #[test]
    fn code_length_of_a_long_sample_approaches_the_entropy_rate() {
        let source = Markov::new(3);
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        for bytes in [10_000, 1_000_000] {
            let rate = source.code_length(&source.sample(bytes, &mut rng)) / bytes as f64;
            // The cost of a byte has a standard deviation of 1.41 bits, and costs are independent.
            let tolerance = 4.0 * 1.42 / (bytes as f64).sqrt();
            assert!(
                (rate - Markov::ENTROPY_RATE).abs() < tolerance,
                "{bytes} bytes: {rate}"
            );
        }
        assert!(source.code_length("Z").is_infinite());
    }

    #[test]
    fn only_a_model_with_two_bytes_of_context_reaches_the_entropy() {
        let corpus = corpus();
        assert_eq!(corpus, super::corpus());
        let baselines = corpus.ngram_baselines();
        assert!(baselines.unigram > baselines.bigram + 0.1, "{baselines}");
        assert!(baselines.bigram > baselines.four_gram + 0.1, "{baselines}");
        assert!(
            (0.0..0.1).contains(&(baselines.four_gram - Markov::ENTROPY_RATE)),
            "{baselines}"
        );
    }
}
