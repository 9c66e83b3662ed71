//! Training of byte-pair merges.

use super::bpe::{Bpe, Parts};
use super::byte_level::bytes_of_tokens;
use super::split::NANOCHAT;
use std::collections::BTreeMap;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{
    DecoderWrapper, NormalizerWrapper, PostProcessorWrapper, SplitDelimiterBehavior, TokenizerImpl,
};

/// Characters after which long pieces are cut.
///
/// The trainer reads a whole piece for each merge. So the time for text without spaces, which is one piece, would grow
/// with the square of its length. Words are shorter than 256 characters.
const LONGEST: usize = 256;

/// Name of the token that starts a document. Source: nanochat.
const BOS: &str = "<|bos|>";

/// Progress of training a tokenizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Training {
    /// Bytes of text that were read, of at most [`MOST_BYTES`](Self::MOST_BYTES).
    pub bytes: u64,
}

impl Training {
    /// Bytes of text that are used. More text changes few merges and takes longer.
    pub const MOST_BYTES: u64 = 8 << 20;
}

type Trainer =
    TokenizerImpl<BPE, NormalizerWrapper, Sequence, PostProcessorWrapper, DecoderWrapper>;

/// Trains merges until there are `vocab_size` ids, including BOS, or no more pairs to merge.
pub(super) fn train(
    texts: impl Iterator<Item = String> + Send,
    vocab_size: usize,
    mut progress: impl FnMut(Training) + Send,
) -> Result<Bpe, bdh::BoxError> {
    let mut inner = Trainer::new(BPE::default());
    inner.with_pre_tokenizer(Some(pre_tokenizer()?));
    let mut trainer = BpeTrainer::builder()
        .vocab_size(vocab_size - 1)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .show_progress(false)
        .build();
    let mut bytes = 0;
    let texts = capped(texts, Training::MOST_BYTES as usize).inspect(|text| {
        bytes += text.len() as u64;
        progress(Training { bytes });
    });
    inner.train(&mut trainer, texts)?;
    Ok(Bpe::new(parts(bytes_of_tokens(inner.get_model())))?)
}

/// Adds BOS to trained tokens.
fn parts(mut tokens: Vec<Vec<u8>>) -> Parts {
    let special = BTreeMap::from([(BOS.to_owned(), tokens.len() as i32)]);
    tokens.push(Vec::new());
    Parts {
        pattern: NANOCHAT.to_owned(),
        longest: Some(LONGEST),
        tokens,
        special,
    }
}

/// Returns the steps that split training text into pieces; merges stay inside a piece.
fn pre_tokenizer() -> Result<Sequence, bdh::BoxError> {
    let split = split_by(NANOCHAT)?;
    let cut = split_by(&format!(r"[\s\S]{{1,{LONGEST}}}"))?;
    let bytes = ByteLevel::new(false, true, false); // adds no leading space, does not split again
    Ok(Sequence::new(vec![split.into(), cut.into(), bytes.into()]))
}

/// Returns a step that splits text into the matches of a pattern and the parts between them.
fn split_by(pattern: &str) -> Result<Split, bdh::BoxError> {
    let pattern = SplitPattern::Regex(pattern.to_owned());
    Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
}

/// Returns the beginning of the texts, at most `bytes` bytes together.
fn capped(texts: impl Iterator<Item = String>, bytes: usize) -> impl Iterator<Item = String> {
    let mut left = bytes;
    texts.map_while(move |mut text| {
        if left == 0 {
            return None;
        }
        let end = text.floor_char_boundary(left);
        // A cut document is the last one, even if the cut at a character left a few bytes.
        left = if end < text.len() { 0 } else { left - end };
        text.truncate(end);
        Some(text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

    /// Returns the largest possible cost of training on a text: each merge reads a whole piece.
    fn work(text: &str) -> usize {
        let splitter = pre_tokenizer().expect("the patterns are regular expressions");
        let mut pieces = PreTokenizedString::from(text);
        splitter
            .pre_tokenize(&mut pieces)
            .expect("every text is split");
        let pieces = pieces.get_splits(OffsetReferential::Original, OffsetType::Byte);
        pieces.iter().map(|(piece, ..)| piece.len().pow(2)).sum()
    }

    #[test]
    fn work_on_text_without_spaces_is_linear_in_its_length() {
        for text in ["letters", "文", "  ", "=-"] {
            let (short, long) = (text.repeat(200_000), text.repeat(400_000));
            assert!(work(&long) < 3 * work(&short), "{text}"); // the square would be 4
        }
    }

    #[test]
    fn training_text_is_cut_between_characters() {
        let texts = || ["abc", "", "dé", "f"].map(str::to_owned).into_iter();
        assert_eq!(capped(texts(), 5).collect::<Vec<_>>(), ["abc", "", "d"]);
        assert_eq!(capped(texts(), 6).collect::<Vec<_>>(), ["abc", "", "dé"]);
        assert_eq!(capped(texts(), 100).count(), 4);
    }
}
