//! Text whose entropy is known exactly.
//!
//! A model's loss on real text has no known floor; here it has one, so a curve can be held against the
//! truth: no model gets below `Markov::ENTROPY_RATE` except by chance.

use crate::corpus::Corpus;
use crate::order::{below, shuffle, unit};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const SYMBOLS: &[u8; 16] = b" etaoinshrdlucm\n";

/// Each symbol is this much as likely as the one ranked before it.
const RATIO: f64 = 0.6;

/// Seed of the corpus that `--data synthetic` gives.
const SEED: u64 = 20_240_229;

const DOCUMENTS: usize = 512;

/// A seeded source of text: the last two bytes decide how likely each next byte is.
///
/// Every context ranks the same 16 symbols, from likeliest to rarest, in an order of its own, and the
/// probabilities of the ranks are the same everywhere. So each byte costs the same number of bits on
/// average, from the first byte of a document on, and the entropy rate is that of one distribution.
/// Orders resemble each other, those that share the last byte most: a unigram model learns a little, a
/// bigram model more, and only what looks two bytes back learns all there is.
#[derive(Debug, Clone)]
struct Markov {
    /// For each context, the symbols (as places in [`SYMBOLS`]) by rank.
    ranked: Vec<[u8; 16]>,
}

impl Markov {
    /// Bits per byte of the best possible model: the entropy of 16 probabilities, each 0.6 of the last.
    const ENTROPY_RATE: f64 = 2.423_641_992_379_963;

    /// Makes the source that `seed` names.
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

    /// Draws a text of so many bytes, all of them ASCII.
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
            // Rounding may leave a sliver past the last rank.
            let symbol = self.ranked[context][rank.unwrap_or(15)];
            text.push(char::from(SYMBOLS[usize::from(symbol)]));
            context = next_context(context, symbol);
        }
        text
    }

    /// The bits that the true source needs for a text; infinite for one it cannot draw.
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

/// About a megabyte in documents of 64 to 4,031 bytes.
pub(super) fn corpus() -> Corpus {
    let source = Markov::new(SEED);
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    rng.set_stream(1); // stream 0 made the source
    let mut document = || {
        let bytes = 64 + below(3_968, &mut rng);
        source.sample(bytes, &mut rng)
    };
    let documents: Vec<_> = (0..DOCUMENTS).map(|_| document()).collect();
    let (val, train) = documents.split_at(DOCUMENTS / 10);
    Corpus {
        name: "synthetic".to_owned(),
        origin: "a seeded Markov source".to_owned(),
        train: train.to_vec(),
        val: val.to_vec(),
        entropy: Some(Markov::ENTROPY_RATE),
    }
}

/// The probability of each rank.
fn probabilities() -> [f64; 16] {
    let mut weights = [1.0; 16];
    for rank in 1..16 {
        weights[rank] = weights[rank - 1] * RATIO;
    }
    let sum: f64 = weights.iter().sum();
    weights.map(|weight| weight / sum)
}

fn swapped(mut order: [u8; 16], times: usize, rng: &mut impl Rng) -> [u8; 16] {
    for _ in 0..times {
        order.swap(below(16, rng), below(16, rng));
    }
    order
}

/// The last two symbols, the older one first.
fn next_context(context: usize, symbol: u8) -> usize {
    context % 16 * 16 + usize::from(symbol)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stated_rate_is_the_entropy_of_the_ranks() {
        let entropy: f64 = probabilities().iter().map(|p| -p * p.log2()).sum();
        assert!((entropy - Markov::ENTROPY_RATE).abs() < 1e-12, "{entropy}");
    }

    #[test]
    fn the_code_length_of_a_long_sample_converges_to_the_stated_rate() {
        let source = Markov::new(3);
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        for bytes in [10_000, 1_000_000] {
            let rate = source.code_length(&source.sample(bytes, &mut rng)) / bytes as f64;
            // One byte's cost has a standard deviation of 1.41 bits, and costs are independent.
            let tolerance = 4.0 * 1.42 / (bytes as f64).sqrt();
            assert!(
                (rate - Markov::ENTROPY_RATE).abs() < tolerance,
                "{bytes} bytes: {rate}"
            );
        }
        assert!(source.code_length("Z").is_infinite());
    }

    #[test]
    fn only_a_model_that_looks_two_bytes_back_comes_near_the_entropy() {
        let corpus = corpus();
        assert_eq!(corpus, super::corpus());
        let levels = corpus.levels();
        assert!(levels.unigram > levels.bigram + 0.1, "{levels}");
        assert!(levels.bigram > levels.four_gram + 0.1, "{levels}");
        assert!(
            (0.0..0.1).contains(&(levels.four_gram - Markov::ENTROPY_RATE)),
            "{levels}"
        );
    }
}
