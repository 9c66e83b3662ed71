//! Text as one long stream of tokens, like in BDH and nanoGPT.

use bdh::data::TrainData;
use bdh::lm::{RandomCrops, TokenBatch, Vocabulary};
use bdh::{BoxError, ConfigError};

/// Vocabulary of the 256 bytes, without an id that begins a document.
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

/// Encodes documents as one stream, with a line break between them.
#[must_use]
pub fn stream(vocabulary: &dyn Vocabulary, documents: &[String]) -> Vec<i32> {
    vocabulary.encode(&documents.join("\n"))
}

/// Seed of the validation crops, the same for every run.
const SEED: u64 = 1337;

/// Returns validation batches: random crops of a stream, the same ones in every run.
///
/// # Errors
///
/// [`ConfigError::Invalid`] if the stream is shorter than one window, or an error of [`RandomCrops::new`].
pub fn fixed_crops(
    tokens: Vec<i32>,
    rows: usize,
    seq_len: usize,
    batches: usize,
) -> Result<Vec<TokenBatch>, BoxError> {
    let have = tokens.len();
    if have <= seq_len {
        let problem = format!(
            "the validation split has {have} tokens, and a window takes one more than a block; \
             give more text, or a smaller --block-size"
        );
        return Err(ConfigError::invalid("block_size", seq_len, problem).into());
    }
    let mut crops = RandomCrops::new(tokens, rows, seq_len, SEED)?;
    (0..batches).map(|_| crops.next_batch()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_decode_to_themselves_and_documents_are_joined_by_lines() {
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
    fn validation_crops_are_the_same_every_time() {
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
