//! Tokenizers: text to token ids, and back.

use crate::error::DataError;
use std::path::Path;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{
    DecoderWrapper, Encoding, Model, NormalizerWrapper, PostProcessorWrapper,
    SplitDelimiterBehavior, TokenizerImpl,
};

/// Pattern that splits text before merging. Source: nanochat; it is GPT-4's, with at most two digits per number.
const SPLIT: &str = concat!(
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}",
    r"| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
);

/// Pattern that cuts long pieces after 256 characters.
///
/// Each merge reads a whole piece. So the time for text without spaces, which is one piece, would grow with the square
/// of its length. Words are shorter than 256 characters. GPT-2's merges are only applied, not trained, and need no cut.
const LONGEST: &str = r"[\s\S]{1,256}";

/// GPT-2's name of the id between two documents.
const END_OF_TEXT: &str = "<|endoftext|>";

/// Bytes of text for training a tokenizer. More text changes few merges and takes longer.
const TRAINING_BYTES: usize = 8 << 20;

/// Tokenizer of bytes or of byte pairs.
///
/// One id is BOS, which starts a document and has no text: the last id, or GPT-2's `<|endoftext|>`.
///
/// # Examples
///
/// ```
/// use bdh_data::Tokenizer;
///
/// let ids = Tokenizer::Bytes.encode("hé");
/// assert_eq!(ids, [104, 195, 169]);
/// assert_eq!(Tokenizer::Bytes.decode(&ids), "hé");
/// ```
#[derive(Debug, Clone)]
pub enum Tokenizer {
    /// One id for each byte, 257 ids with BOS. Bits per byte are bits per token.
    Bytes,
    /// Byte-pair encoding.
    Bpe(Box<Bpe>),
}

impl Tokenizer {
    /// Trains byte-pair merges until there are `vocab_size` ids, including BOS, or no more pairs to merge.
    ///
    /// The first 8 MiB of the documents are used. The same text gives the same tokenizer.
    ///
    /// # Errors
    ///
    /// [`DataError::Vocabulary`] below 257; [`DataError::Training`] if the trainer fails.
    pub fn bpe(documents: &[String], vocab_size: usize) -> Result<Self, DataError> {
        if vocab_size < 257 {
            return Err(DataError::Vocabulary { size: vocab_size });
        }
        Ok(Self::Bpe(Box::new(
            Bpe::train(documents, vocab_size - 1).map_err(DataError::Training)?,
        )))
    }

    /// Reads GPT-2's tokenizer from a directory with `vocab.json` and `merges.txt`.
    ///
    /// BOS is `<|endoftext|>`, usually the last id.
    ///
    /// # Errors
    ///
    /// [`DataError::Tokenizer`] if a file is missing or damaged, or if there is no `<|endoftext|>`.
    pub fn gpt2(dir: &Path) -> Result<Self, DataError> {
        match Bpe::gpt2(dir) {
            Ok(bpe) => Ok(Self::Bpe(Box::new(bpe))),
            Err(source) => Err(DataError::Tokenizer {
                path: dir.to_owned(),
                source,
            }),
        }
    }

    /// Encodes a text, without BOS.
    #[must_use]
    pub fn encode(&self, text: &str) -> Vec<i32> {
        match self {
            Self::Bytes => text.bytes().map(i32::from).collect(),
            Self::Bpe(bpe) => bpe.encode(text),
        }
    }

    /// Encodes documents, on all cores for byte pairs.
    #[must_use]
    pub fn encode_all(&self, documents: &[String]) -> Vec<Vec<i32>> {
        match self {
            Self::Bytes => documents.iter().map(|text| self.encode(text)).collect(),
            Self::Bpe(bpe) => bpe.encode_all(documents),
        }
    }

    /// Decodes ids. Ids without text are skipped, and invalid UTF-8 becomes `�`.
    #[must_use]
    pub fn decode(&self, ids: &[i32]) -> String {
        String::from_utf8_lossy(&self.decode_bytes(ids)).into_owned()
    }

    /// Decodes ids to bytes. Ids without text are skipped.
    #[must_use]
    pub fn decode_bytes(&self, ids: &[i32]) -> Vec<u8> {
        match self {
            Self::Bytes => ids.iter().filter_map(|&id| u8::try_from(id).ok()).collect(),
            Self::Bpe(bpe) => ids.iter().flat_map(|&id| bpe.token(id)).copied().collect(),
        }
    }

    /// Returns the id that starts a document.
    #[must_use]
    pub fn bos(&self) -> i32 {
        match self {
            Self::Bytes => 256,
            Self::Bpe(bpe) => bpe.bos,
        }
    }

    /// Returns the number of ids, including BOS.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        match self {
            Self::Bytes => 257,
            Self::Bpe(bpe) => bpe.tokens.len(),
        }
    }

    /// Returns the number of bytes of each id, 0 for BOS. Bits per byte are computed from it.
    #[must_use]
    pub fn token_bytes(&self) -> Vec<u32> {
        match self {
            Self::Bytes => [vec![1; 256], vec![0]].concat(),
            Self::Bpe(bpe) => bpe.tokens.iter().map(|token| token.len() as u32).collect(),
        }
    }
}

impl bdh::lm::Vocabulary for Tokenizer {
    fn encode(&self, text: &str) -> Vec<i32> {
        self.encode(text)
    }

    fn decode(&self, ids: &[i32]) -> String {
        self.decode(ids)
    }

    fn decode_bytes(&self, ids: &[i32]) -> Vec<u8> {
        self.decode_bytes(ids)
    }

    fn bos(&self) -> Option<i32> {
        Some(self.bos())
    }

    fn token_bytes(&self) -> Vec<u32> {
        self.token_bytes()
    }
}

/// Byte-pair encoding, created by [`Tokenizer::bpe`] or [`Tokenizer::gpt2`].
#[derive(Debug, Clone)]
pub struct Bpe {
    inner: Inner,
    /// Bytes of each id, empty for BOS.
    tokens: Vec<Vec<u8>>,
    bos: i32,
}

type Inner = TokenizerImpl<BPE, NormalizerWrapper, Sequence, PostProcessorWrapper, DecoderWrapper>;

impl Bpe {
    fn train(documents: &[String], num_tokens: usize) -> Result<Self, bdh::BoxError> {
        let mut inner = tokenizer(BPE::default(), pre_tokenizer()?);
        let mut trainer = BpeTrainer::builder()
            .vocab_size(num_tokens)
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .show_progress(false)
            .build();
        inner.train(&mut trainer, capped(documents, TRAINING_BYTES))?;
        let mut tokens = bytes_of_tokens(inner.get_model());
        let bos = tokens.len() as i32;
        tokens.push(Vec::new());
        Ok(Self { inner, tokens, bos })
    }

    fn gpt2(dir: &Path) -> Result<Self, bdh::BoxError> {
        let model = read_model(dir)?;
        check_ids(&model)?;
        let Some(bos) = model.token_to_id(END_OF_TEXT) else {
            return Err(format!("the vocabulary has no `{END_OF_TEXT}`").into());
        };
        let mut tokens = bytes_of_tokens(&model);
        tokens[bos as usize].clear(); // BOS has no text
        check_bytes(&tokens)?;
        let bytes = ByteLevel::new(false, true, true); // adds no leading space, splits by GPT-2's pattern
        Ok(Self {
            inner: tokenizer(model, Sequence::new(vec![bytes.into()])),
            tokens,
            bos: bos as i32,
        })
    }

    fn encode(&self, text: &str) -> Vec<i32> {
        let encoding = self.inner.encode_fast(text, false);
        ids(&encoding.expect("a vocabulary with every byte encodes every text"))
    }

    fn encode_all(&self, documents: &[String]) -> Vec<Vec<i32>> {
        let texts = documents.iter().map(String::as_str).collect();
        let encodings = self.inner.encode_batch_fast(texts, false);
        let encodings = encodings.expect("a vocabulary with every byte encodes every text");
        encodings.iter().map(ids).collect()
    }

    /// Returns the bytes of an id, none for an unknown one.
    fn token(&self, id: i32) -> &[u8] {
        match usize::try_from(id) {
            Ok(id) if id < self.tokens.len() => &self.tokens[id],
            _ => &[],
        }
    }
}

/// Returns a tokenizer that splits text by these steps and merges inside each piece.
fn tokenizer(model: BPE, steps: Sequence) -> Inner {
    let mut inner = Inner::new(model);
    inner.with_pre_tokenizer(Some(steps));
    inner
}

/// Returns the steps that split training text into pieces; merges stay inside a piece.
fn pre_tokenizer() -> Result<Sequence, bdh::BoxError> {
    let split = split_by(SPLIT)?;
    let cut = split_by(LONGEST)?;
    let bytes = ByteLevel::new(false, true, false); // adds no leading space, does not split again
    let steps = vec![split.into(), cut.into(), bytes.into()];
    Ok(Sequence::new(steps))
}

/// Returns a step that splits text into the matches of a pattern and the parts between them.
fn split_by(pattern: &str) -> Result<Split, bdh::BoxError> {
    let pattern = SplitPattern::Regex(pattern.to_owned());
    Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
}

/// Reads GPT-2's `vocab.json` and `merges.txt`.
fn read_model(dir: &Path) -> Result<BPE, bdh::BoxError> {
    let vocab = dir.join("vocab.json").to_string_lossy().into_owned();
    let merges = dir.join("merges.txt").to_string_lossy().into_owned();
    BPE::from_file(&vocab, &merges).build()
}

/// Checks that a vocabulary has every id below its size.
fn check_ids(model: &BPE) -> Result<(), bdh::BoxError> {
    let size = model.get_vocab_size() as u32;
    match (0..size).find(|id| model.id_to_token(*id).is_none()) {
        Some(id) => Err(format!("the vocabulary has {size} tokens, but not the id {id}").into()),
        None => Ok(()),
    }
}

/// Checks that each byte is a token, so that every text can be encoded.
fn check_bytes(tokens: &[Vec<u8>]) -> Result<(), bdh::BoxError> {
    if (0..=u8::MAX).any(|byte| !tokens.contains(&vec![byte])) {
        return Err("the vocabulary lacks some bytes".into());
    }
    Ok(())
}

fn ids(encoding: &Encoding) -> Vec<i32> {
    encoding.get_ids().iter().map(|&id| id as i32).collect()
}

/// Returns the beginning of the documents, at most `bytes` bytes together.
fn capped(documents: &[String], bytes: usize) -> impl Iterator<Item = &str> {
    let mut left = bytes;
    documents.iter().map_while(move |text| {
        if left == 0 {
            return None;
        }
        let start = &text[..text.floor_char_boundary(left)];
        // A cut document is the last one, even if the cut at a character left a few bytes.
        left = if start.len() < text.len() {
            0
        } else {
            left - start.len()
        };
        Some(start)
    })
}

/// Returns the bytes of each token of a byte-level vocabulary, in the order of the ids.
fn bytes_of_tokens(model: &BPE) -> Vec<Vec<u8>> {
    let size = model.get_vocab_size() as u32;
    let mut tokens = Vec::with_capacity(size as usize);
    for id in 0..size {
        let token = model.id_to_token(id).unwrap_or_default();
        tokens.push(token.chars().map(byte_of).collect());
    }
    tokens
}

/// Decodes GPT-2's letter of a byte: printable bytes are themselves, the others are letters from U+0100 on.
///
/// Source: `bytes_to_unicode` in GPT-2's `encoder.py`.
fn byte_of(letter: char) -> u8 {
    match letter as u32 {
        code @ 0..=0xFF => code as u8,
        code @ 0x100..=0x120 => (code - 0x100) as u8, // control characters and space
        code @ 0x121..=0x142 => (code - 0x121 + 0x7F) as u8, // DEL to no-break space
        _ => 0xAD,                                    // soft hyphen, the last one
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

    #[test]
    fn letter_of_every_byte_decodes_to_the_byte() {
        let mut bytes: Vec<_> = ByteLevel::alphabet().into_iter().map(byte_of).collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
    }

    /// Returns the largest possible cost of merging a text: each merge reads a whole piece.
    fn work(text: &str) -> usize {
        let bpe = Bpe::train(&[], 256).expect("the bytes need no text");
        let mut pieces = PreTokenizedString::from(text);
        let splitter = bpe.inner.get_pre_tokenizer().expect("a splitter");
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
        let documents = ["abc", "", "dé", "f"].map(str::to_owned);
        assert_eq!(capped(&documents, 5).collect::<Vec<_>>(), ["abc", "", "d"]);
        assert_eq!(capped(&documents, 6).collect::<Vec<_>>(), ["abc", "", "dé"]);
        assert_eq!(capped(&documents, 100).count(), 4);
    }
}
