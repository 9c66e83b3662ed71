//! Random crops of one long text, the simplest training data.

use super::TokenBatch;
use crate::data::TrainData;
use crate::error::ConfigError;
use crate::failure::BoxError;
use crate::seed;
use crate::task::BatchSize;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;

/// Training data that cuts `rows` windows at random places out of a token stream.
///
/// The places depend only on the seed and the number of the micro-batch. A checkpoint therefore saves that number, with
/// the length and the fingerprint of the text to refuse another one. nanoGPT and BDH read their text like this.
///
/// # Examples
///
/// ```
/// use bdh::{data::TrainData, lm::RandomCrops};
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

/// Saved form of the state.
#[derive(Serialize, Deserialize)]
struct Position {
    batch: u64,
    /// Length of the text in tokens.
    tokens: usize,
    fingerprint: u64,
}

impl RandomCrops {
    /// Makes training data of batches of `rows` crops, each `seq_len` tokens and the tokens that follow them.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Invalid`] if there are fewer than `seq_len + 1` tokens, or `rows` or `seq_len` is 0.
    pub fn new(
        tokens: impl Into<Arc<[i32]>>,
        rows: usize,
        seq_len: usize,
        seed: u64,
    ) -> Result<Self, ConfigError> {
        let tokens = tokens.into();
        check_size(tokens.len(), rows, seq_len)?;
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

    /// Makes training data of crops of a text whose tokens are its bytes, 0 to 255.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Invalid`] if there are fewer than `seq_len + 1` bytes, or `rows` or `seq_len` is 0.
    pub fn of_bytes(
        text: &str,
        rows: usize,
        seq_len: usize,
        seed: u64,
    ) -> Result<Self, ConfigError> {
        Self::new(bytes(text), rows, seq_len, seed)
    }

    /// Checks that a saved position is one in this text.
    fn check_text(&self, saved: &Position) -> Result<(), BoxError> {
        let (had, have) = (saved.tokens, self.tokens.len());
        if had != have {
            let text =
                format!("the text had {had} tokens and has {have} now: resume with the same text");
            return Err(text.into());
        }
        if saved.fingerprint != self.fingerprint {
            let text =
                format!("the text was another one of {had} tokens: resume with the same text");
            return Err(text.into());
        }
        Ok(())
    }

    fn crop(&self, number: u64) -> &[i32] {
        let places = self.tokens.len() - self.seq_len; // the crop at the last place ends with the text
        let start = (seed::uniform(self.seed, number) * places as f64) as usize;
        &self.tokens[start..=start + self.seq_len]
    }
}

/// Checks that batches are not empty, and that a crop fits into a text of `len` tokens.
fn check_size(len: usize, rows: usize, seq_len: usize) -> Result<(), ConfigError> {
    if rows == 0 || seq_len == 0 {
        let problem = "a batch has at least one row of one token";
        let value = format!("{rows} x {seq_len}");
        return Err(ConfigError::invalid("rows x seq_len", value, problem));
    }
    if len <= seq_len {
        let problem =
            format!("the text has {len} tokens, and a crop takes one more than `seq_len`");
        return Err(ConfigError::invalid("seq_len", seq_len, problem));
    }
    Ok(())
}

impl TrainData for RandomCrops {
    type Batch = TokenBatch;

    fn next_batch(&mut self) -> Result<TokenBatch, BoxError> {
        let rows = self.rows as u64;
        let first = self.next * rows;
        let crops: Vec<_> = (first..first + rows).map(|row| self.crop(row)).collect();
        let batch = TokenBatch::from_rows(&crops);
        self.next += 1;
        Ok(batch)
    }

    fn batch_size(&self) -> Option<BatchSize> {
        Some(BatchSize {
            samples: self.rows,
            tokens: self.rows * self.seq_len,
        })
    }

    fn state(&self) -> Value {
        json!(Position {
            batch: self.next,
            tokens: self.tokens.len(),
            fingerprint: self.fingerprint,
        })
    }

    fn load_state(&mut self, state: &Value) -> Result<(), BoxError> {
        let saved = Position::deserialize(state)?;
        self.check_text(&saved)?;
        let batch = saved.batch;
        if batch >= u64::MAX / self.rows as u64 {
            // Crops are numbered by a u64; only a damaged or crafted checkpoint is beyond it.
            return Err(format!("the saved position, batch {batch}, is out of range").into());
        }
        self.next = batch;
        Ok(())
    }
}

/// Computes a fingerprint of a text, by which a resumed run recognizes it.
///
/// FNV-1a over the tokens and the lengths of the documents, about a nanosecond per token. It does not protect against
/// forgery.
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
    // Offset basis and prime of the 64-bit FNV-1a hash.
    let mut sum: u64 = 0xcbf2_9ce4_8422_2325;
    let mut add = |value: u64| sum = (sum ^ value).wrapping_mul(0x0100_0000_01b3);
    for tokens in documents {
        add(tokens.len() as u64);
        for token in tokens {
            add(u64::from(token.cast_unsigned()));
        }
    }
    sum
}

/// Returns the bytes of a text as token ids, 0 to 255.
#[must_use]
pub fn bytes(text: &str) -> Vec<i32> {
    text.bytes().map(i32::from).collect()
}

/// Cuts a text from front to back into batches of `rows` windows of `seq_len` tokens, for validation.
///
/// Tokens at the end that do not fill a window are left out. The last batch may have fewer rows.
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
    fn loaded_state_continues_after_the_batch() {
        let mut whole = crops();
        whole.next_batch().expect("a batch");
        let state = whole.state();
        let expected = whole.next_batch().expect("a batch");

        let mut resumed = crops();
        resumed.load_state(&state).expect("a state");
        assert_eq!(resumed.next_batch().expect("a batch"), expected);
    }

    #[test]
    fn state_of_another_text_is_refused() {
        let mut state = crops().state();
        let mut shorter = RandomCrops::new((0..90).collect::<Vec<_>>(), 3, 8, 1).expect("enough");
        let error = shorter
            .load_state(&state)
            .expect_err("another text")
            .to_string();
        assert_eq!(
            error,
            "the text had 100 tokens and has 90 now: resume with the same text"
        );
        let other = (1..101).collect::<Vec<_>>();
        let mut other = RandomCrops::new(other, 3, 8, 1).expect("enough");
        let error = other
            .load_state(&state)
            .expect_err("another text")
            .to_string();
        assert_eq!(
            error,
            "the text was another one of 100 tokens: resume with the same text"
        );
        state["batch"] = u64::MAX.into();
        let error = crops().load_state(&state).expect_err("too far").to_string();
        assert!(error.ends_with("is out of range"), "{error}");
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
    fn text_shorter_than_a_crop_is_refused_with_both_lengths() {
        let error = RandomCrops::of_bytes("short", 1, 8, 0)
            .expect_err("too short")
            .to_string();
        assert!(
            error.contains("`seq_len` is 8") && error.contains("5 tokens"),
            "{error}"
        );
    }
}
