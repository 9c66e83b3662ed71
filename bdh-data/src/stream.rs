//! Text as one long stream of bytes, the way BDH and nanoGPT read theirs.

use bdh::BoxError;
use bdh::lm::{RandomCrops, TokenBatch, Vocabulary};
use bdh::{ConfigError, Source};

/// The bytes themselves: 256 ids, none of which begins a document.
#[derive(Debug, Clone, Copy, Default)]
pub struct PlainBytes;

impl Vocabulary for PlainBytes {
    fn encode(&self, text: &str) -> Vec<i32> {
        bdh::lm::bytes(text)
    }

    fn decode(&self, ids: &[i32]) -> String {
        String::from_utf8_lossy(&self.decode_bytes(ids)).into_owned()
    }

    fn decode_bytes(&self, ids: &[i32]) -> Vec<u8> {
        ids.iter().filter_map(|&id| u8::try_from(id).ok()).collect()
    }

    fn bos(&self) -> Option<i32> {
        None
    }

    fn token_bytes(&self) -> Vec<u32> {
        vec![1; 256]
    }
}

/// Documents one after the other, with a line break between them.
#[must_use]
pub fn stream(vocabulary: &dyn Vocabulary, documents: &[String]) -> Vec<i32> {
    vocabulary.encode(&documents.join("\n"))
}

/// Where a validation split is cut, the same for every run.
const SEED: u64 = 1337;

/// Batches of random crops of a stream, the same ones every time: what a validation split is measured on.
///
/// # Errors
///
/// As [`RandomCrops::new`]; a split shorter than one window among them.
pub fn fixed_crops(
    tokens: Vec<i32>,
    rows: usize,
    seq_len: usize,
    batches: usize,
) -> Result<Vec<TokenBatch>, BoxError> {
    let have = tokens.len();
    if have <= seq_len {
        return Err(ConfigError::Invalid {
            field: "block_size",
            value: seq_len.to_string(),
            expected: format!(
                "and the validation split has {have} tokens, of which a window takes one more than that: \
                 give more text, or a smaller --block-size"
            ),
        }
        .into());
    }
    let mut crops = RandomCrops::new(tokens, rows, seq_len, SEED)?;
    (0..batches).map(|_| crops.next_batch()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_comes_back_and_documents_are_joined_by_lines() {
        let all: Vec<i32> = (0..256).collect();
        assert_eq!(
            PlainBytes.decode_bytes(&all),
            (0..=255).collect::<Vec<u8>>()
        );
        let documents = ["to".to_owned(), "bé".to_owned()];
        assert_eq!(
            stream(&PlainBytes, &documents),
            [116, 111, 10, 98, 195, 169]
        );
    }

    #[test]
    fn a_split_is_measured_on_the_same_crops_every_time() {
        let crops = |seq_len| fixed_crops((0..50).collect(), 2, seq_len, 3);
        let batches = crops(8).expect("long enough");
        assert_eq!(batches, crops(8).expect("long enough"));
        assert_eq!(
            (batches.len(), batches[0].rows(), batches[0].seq_len()),
            (3, 2, 8)
        );
        assert!(crops(49).is_ok());
        let error = crops(50).expect_err("too short").to_string();
        assert!(
            error.contains("50 tokens") && error.contains("smaller --block-size"),
            "{error}"
        );
    }
}
