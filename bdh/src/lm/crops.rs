//! Random crops of one long text: the simplest training data there is.

use super::TokenBatch;
use crate::error::ConfigError;
use crate::failure::BoxError;
use crate::seed;
use crate::source::Source;
use crate::task::BatchSize;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;

/// Cuts `rows` windows at random places out of a token stream, for every micro-batch anew.
///
/// The places depend on the seed and the number of the micro-batch alone, so the position that a
/// checkpoint saves is one number, beside the length of the text: another text is refused. This is how nanoGPT and BDH read their text.
///
/// # Examples
///
/// ```
/// use bdh::{Source, lm::RandomCrops};
///
/// let text = "to be, or not to be, that is the question";
/// let mut crops = RandomCrops::of_bytes(text, 4, 16, 1337)?;
/// let batch = crops.next_batch()?;
/// assert_eq!((batch.rows(), batch.seq_len()), (4, 16));
/// # Ok::<(), bdh::BoxError>(())
/// ```
#[derive(Debug, Clone)]
pub struct RandomCrops {
    tokens: Arc<[i32]>,
    fingerprint: u64,
    rows: usize,
    seq_len: usize,
    seed: u64,
    next: u64,
}

/// What [`RandomCrops::position`] saves.
#[derive(Serialize, Deserialize)]
struct Position {
    batch: u64,
    /// Of the text, to recognize it by.
    tokens: usize,
    fingerprint: u64,
}

impl RandomCrops {
    /// Crops of `seq_len` tokens, each with the token that follows it.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Invalid`] if there are fewer than `seq_len + 1` tokens, or a batch would be empty.
    pub fn new(
        tokens: impl Into<Arc<[i32]>>,
        rows: usize,
        seq_len: usize,
        seed: u64,
    ) -> Result<Self, ConfigError> {
        let tokens = tokens.into();
        let invalid = |field, value: String, expected: &str| {
            Err(ConfigError::Invalid {
                field,
                value,
                expected: expected.to_owned(),
            })
        };
        if rows == 0 || seq_len == 0 {
            let expected = "a batch has one row of one token or more";
            return invalid("rows x seq_len", format!("{rows} x {seq_len}"), expected);
        }
        if tokens.len() <= seq_len {
            let expected = format!(
                "the text has {} tokens, and a crop takes one more than this",
                tokens.len()
            );
            return invalid("seq_len", seq_len.to_string(), &expected);
        }
        let fingerprint = fingerprint([&*tokens]);
        Ok(Self {
            tokens,
            fingerprint,
            rows,
            seq_len,
            seed,
            next: 0,
        })
    }

    /// Crops of a text whose tokens are its bytes.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn of_bytes(
        text: &str,
        rows: usize,
        seq_len: usize,
        seed: u64,
    ) -> Result<Self, ConfigError> {
        Self::new(bytes(text), rows, seq_len, seed)
    }

    fn crop(&self, number: u64) -> &[i32] {
        let places = self.tokens.len() - self.seq_len; // the last one ends with the text
        let start = (seed::uniform(self.seed, number) * places as f64) as usize;
        &self.tokens[start..=start + self.seq_len]
    }
}

impl Source for RandomCrops {
    type Batch = TokenBatch;

    fn next_batch(&mut self) -> Result<TokenBatch, BoxError> {
        let first = self.next * self.rows as u64;
        let rows: Vec<_> = (first..first + self.rows as u64)
            .map(|row| self.crop(row))
            .collect();
        let batch = TokenBatch::from_rows(&rows);
        self.next += 1;
        Ok(batch)
    }

    fn batch_size(&self) -> Option<BatchSize> {
        Some(BatchSize {
            samples: self.rows,
            tokens: self.rows * self.seq_len,
        })
    }

    fn position(&self) -> Value {
        let Self {
            next, fingerprint, ..
        } = *self;
        json!(Position {
            batch: next,
            tokens: self.tokens.len(),
            fingerprint
        })
    }

    fn seek(&mut self, position: &Value) -> Result<(), BoxError> {
        let Position {
            batch,
            tokens,
            fingerprint,
        } = Position::deserialize(position)?;
        let have = self.tokens.len();
        if tokens != have {
            return Err(format!("the text had {tokens} tokens and has {have} now").into());
        }
        if fingerprint != self.fingerprint {
            return Err(format!("it was another text of {tokens} tokens").into());
        }
        if batch >= u64::MAX / self.rows as u64 {
            return Err(format!("nobody has trained on {batch} batches").into()); // their crops have no numbers
        }
        self.next = batch;
        Ok(())
    }
}

/// A number by which texts are told apart when a run goes on: FNV-1a over the tokens and the lengths of the documents. Not
/// for checking that nobody has forged one. About a nanosecond a token.
///
/// # Examples
///
/// ```
/// use bdh::lm::fingerprint;
///
/// assert_eq!(fingerprint([&[1, 2, 3][..]]), fingerprint([&[1, 2, 3][..]]));
/// assert_ne!(fingerprint([&[1, 2, 3][..]]), fingerprint([&[1, 2][..], &[3]]));
/// ```
#[must_use]
pub fn fingerprint<'a>(documents: impl IntoIterator<Item = &'a [i32]>) -> u64 {
    let add = |sum: u64, value: u64| (sum ^ value).wrapping_mul(0x0100_0000_01b3);
    documents
        .into_iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, tokens| {
            let sum = add(sum, tokens.len() as u64);
            tokens
                .iter()
                .fold(sum, |sum, token| add(sum, u64::from(token.cast_unsigned())))
        })
}

/// The bytes of a text as token ids, 0 to 255.
#[must_use]
pub fn bytes(text: &str) -> Vec<i32> {
    text.bytes().map(i32::from).collect()
}

/// The text from front to back in batches of `rows` windows, for validation; what does not fill a window
/// is left out.
#[must_use]
pub fn windows(tokens: &[i32], rows: usize, seq_len: usize) -> Vec<TokenBatch> {
    // Windows overlap by one token: the target of one window's last input begins the next.
    let starts = (0..tokens.len().saturating_sub(seq_len)).step_by(seq_len.max(1));
    let windows: Vec<_> = starts
        .map(|start| &tokens[start..=start + seq_len])
        .collect();
    windows
        .chunks(rows.max(1))
        .map(TokenBatch::from_rows)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crops() -> RandomCrops {
        let tokens: Vec<i32> = (0..100).collect();
        RandomCrops::new(tokens, 3, 8, 1).expect("enough tokens")
    }

    #[test]
    fn a_sought_position_yields_what_would_have_come() {
        let mut whole = crops();
        whole.next_batch().expect("a batch");
        let position = whole.position();
        let expected = whole.next_batch().expect("a batch");

        let mut resumed = crops();
        resumed.seek(&position).expect("a position");
        assert_eq!(resumed.next_batch().expect("a batch"), expected);
    }

    #[test]
    fn a_position_in_another_text_is_refused() {
        let mut position = crops().position();
        let mut shorter = RandomCrops::new((0..90).collect::<Vec<_>>(), 3, 8, 1).expect("enough");
        let error = shorter
            .seek(&position)
            .expect_err("another text")
            .to_string();
        assert_eq!(error, "the text had 100 tokens and has 90 now");
        let other = (1..101).collect::<Vec<_>>();
        let mut other = RandomCrops::new(other, 3, 8, 1).expect("enough");
        let error = other.seek(&position).expect_err("another text").to_string();
        assert_eq!(error, "it was another text of 100 tokens");
        position["batch"] = u64::MAX.into();
        let error = crops().seek(&position).expect_err("too far").to_string();
        assert!(error.starts_with("nobody has trained on"), "{error}");
    }

    #[test]
    fn crops_reach_both_ends_of_the_text() {
        let crops = crops();
        let starts: Vec<_> = (0..2_000).map(|number| crops.crop(number)[0]).collect();
        assert_eq!(
            (starts.iter().min(), starts.iter().max()),
            (Some(&0), Some(&91))
        );
    }

    #[test]
    fn windows_cover_every_target_once() {
        let tokens: Vec<i32> = (0..20).collect();
        let batches = windows(&tokens, 2, 4);
        let targets: Vec<_> = batches.iter().flat_map(|b| b.targets().to_vec()).collect();
        assert_eq!(targets, (1..17).collect::<Vec<_>>());
    }

    #[test]
    fn a_text_shorter_than_one_crop_is_refused_with_both_lengths() {
        let error = RandomCrops::of_bytes("short", 1, 8, 0)
            .expect_err("too short")
            .to_string();
        assert!(
            error.contains("`seq_len` is 8") && error.contains("5 tokens"),
            "{error}"
        );
    }
}
