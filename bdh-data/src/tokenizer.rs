//! Text as ids, and back.

use crate::error::DataError;
use std::path::Path;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{
    DecoderWrapper, Model, NormalizerWrapper, PostProcessorWrapper, SplitDelimiterBehavior,
    TokenizerImpl,
};

/// How nanochat splits text before it merges: GPT-4's pattern, with numbers in pairs of digits.
const SPLIT: &str = concat!(
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}",
    r"| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
);

/// The longest piece in which merges are counted, in characters: the rest of it is a piece of its own.
///
/// A merge looks through the whole piece, so that text without spaces, of which a megabyte is one piece, would take the
/// square of its length. Words are shorter; GPT-2's merges, which are only applied, need no such cut.
const LONGEST: &str = r"[\s\S]{1,256}";

/// GPT-2's name for the id between two documents.
const END_OF_TEXT: &str = "<|endoftext|>";

/// Text that merges are counted on; more changes few of them and takes longer.
const TRAINING_BYTES: usize = 8 << 20;

/// Turns text into ids and ids into text.
///
/// One id is BOS, which starts a document and stands for no text: the last one, or GPT-2's `<|endoftext|>`.
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
    /// One id a byte: 257 ids, and bits per byte are bits per token.
    Bytes,
    /// Merges of bytes that are frequent in the text it was trained on.
    Bpe(Box<Bpe>),
}

impl Tokenizer {
    /// Trains byte-pair merges until there are `vocab_size` ids, BOS included, or nothing left to merge.
    ///
    /// Counts the first 8 MiB of the documents. The same text gives the same tokenizer.
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

    /// Reads GPT-2's own merges from a directory with its `vocab.json` and `merges.txt`.
    ///
    /// Its `<|endoftext|>`, the last id as a rule, is BOS.
    ///
    /// # Errors
    ///
    /// [`DataError::Words`] if a file is missing or not what its name says, or if there is no `<|endoftext|>`.
    pub fn gpt2(dir: &Path) -> Result<Self, DataError> {
        let bpe = Bpe::gpt2(dir);
        let bpe = bpe.map_err(|source| DataError::Words {
            path: dir.to_owned(),
            source,
        })?;
        Ok(Self::Bpe(Box::new(bpe)))
    }

    /// Encodes a text, without BOS.
    #[must_use]
    pub fn encode(&self, text: &str) -> Vec<i32> {
        match self {
            Self::Bytes => text.bytes().map(i32::from).collect(),
            Self::Bpe(bpe) => bpe.encode(text),
        }
    }

    /// Encodes documents, on all cores where that takes time.
    #[must_use]
    pub fn encode_all(&self, documents: &[String]) -> Vec<Vec<i32>> {
        match self {
            Self::Bytes => documents.iter().map(|text| self.encode(text)).collect(),
            Self::Bpe(bpe) => bpe.encode_all(documents),
        }
    }

    /// Decodes ids; those of no text are passed over, and broken UTF-8 becomes `�`.
    #[must_use]
    pub fn decode(&self, ids: &[i32]) -> String {
        String::from_utf8_lossy(&self.decode_bytes(ids)).into_owned()
    }

    /// The bytes of ids; those of no text are passed over.
    #[must_use]
    pub fn decode_bytes(&self, ids: &[i32]) -> Vec<u8> {
        match self {
            Self::Bytes => ids.iter().filter_map(|&id| u8::try_from(id).ok()).collect(),
            Self::Bpe(bpe) => ids.iter().flat_map(|&id| bpe.token(id)).copied().collect(),
        }
    }

    /// The id that starts a document.
    #[must_use]
    pub fn bos(&self) -> i32 {
        match self {
            Self::Bytes => 256,
            Self::Bpe(bpe) => bpe.bos,
        }
    }

    /// All ids there are, BOS included.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        match self {
            Self::Bytes => 257,
            Self::Bpe(bpe) => bpe.tokens.len(),
        }
    }

    /// The bytes each id stands for, 0 for BOS; what bits per byte divide by.
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

/// A byte-level BPE; made by [`Tokenizer::bpe`] or [`Tokenizer::gpt2`].
#[derive(Debug, Clone)]
pub struct Bpe {
    inner: Inner,
    /// The bytes of each id, none for BOS.
    tokens: Vec<Vec<u8>>,
    bos: i32,
}

type Inner = TokenizerImpl<BPE, NormalizerWrapper, Sequence, PostProcessorWrapper, DecoderWrapper>;

impl Bpe {
    fn train(documents: &[String], tokens: usize) -> Result<Self, bdh::BoxError> {
        let pieces = |pattern: &str| {
            let pattern = SplitPattern::Regex(pattern.to_owned());
            Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
        };
        let (split, cut) = (pieces(SPLIT)?, pieces(LONGEST)?);
        let bytes = ByteLevel::new(false, true, false); // no space before the text; we have split already
        let mut inner = Inner::new(BPE::default());
        inner.with_pre_tokenizer(Some(Sequence::new(vec![
            split.into(),
            cut.into(),
            bytes.into(),
        ])));
        let mut trainer = BpeTrainer::builder()
            .vocab_size(tokens)
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
        let [vocab, merges] =
            ["vocab.json", "merges.txt"].map(|name| dir.join(name).to_string_lossy().into_owned());
        let model = BPE::from_file(&vocab, &merges).build()?;
        let bytes = ByteLevel::new(false, true, true); // no space before the text, split by GPT-2's pattern
        let size = model.get_vocab_size() as u32;
        if let Some(id) = (0..size).find(|id| model.id_to_token(*id).is_none()) {
            return Err(
                format!("the vocabulary has {size} words and none with the id {id}").into(),
            );
        }
        let bos = model.token_to_id(END_OF_TEXT);
        let bos = bos.ok_or_else(|| format!("the vocabulary has no `{END_OF_TEXT}`"))?;
        let mut tokens = bytes_of_tokens(&model);
        tokens[bos as usize].clear(); // it is no text
        if (0..=u8::MAX).any(|byte| !tokens.contains(&vec![byte])) {
            return Err("the vocabulary lacks some bytes".into());
        }
        let mut inner = Inner::new(model);
        inner.with_pre_tokenizer(Some(Sequence::new(vec![bytes.into()])));
        Ok(Self {
            inner,
            tokens,
            bos: bos as i32,
        })
    }

    fn encode(&self, text: &str) -> Vec<i32> {
        let encoding = self.inner.encode_fast(text, false);
        let encoding = encoding.expect("a vocabulary with every byte encodes every text");
        encoding.get_ids().iter().map(|&id| id as i32).collect()
    }

    fn encode_all(&self, documents: &[String]) -> Vec<Vec<i32>> {
        let texts = documents.iter().map(String::as_str).collect();
        let encodings = self.inner.encode_batch_fast(texts, false);
        let encodings = encodings.expect("a vocabulary with every byte encodes every text");
        encodings
            .iter()
            .map(|e| e.get_ids().iter().map(|&id| id as i32).collect())
            .collect()
    }

    fn token(&self, id: i32) -> &[u8] {
        let token = usize::try_from(id).ok().and_then(|id| self.tokens.get(id));
        token.map_or(&[], Vec::as_slice)
    }
}

/// The beginning of the documents, so many bytes in all.
fn capped(documents: &[String], bytes: usize) -> impl Iterator<Item = &str> {
    let mut left = bytes;
    documents.iter().map_while(move |text| {
        if left == 0 {
            return None;
        }
        let start = &text[..text.floor_char_boundary(left)];
        // A document that was cut is the last one, also if the cut left a byte or two to spare.
        left = if start.len() < text.len() {
            0
        } else {
            left - start.len()
        };
        Some(start)
    })
}

/// Spells each token of a byte-level vocabulary in bytes, in the order of the ids.
fn bytes_of_tokens(model: &BPE) -> Vec<Vec<u8>> {
    let spelled = |id| {
        let token = model.id_to_token(id).unwrap_or_default();
        token.chars().map(byte_of).collect()
    };
    (0..model.get_vocab_size() as u32).map(spelled).collect()
}

/// Undoes GPT-2's spelling of bytes: printable ones are themselves, the others follow from U+0100 on.
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
    fn every_byte_has_a_letter_and_comes_back_from_it() {
        let mut bytes: Vec<_> = ByteLevel::alphabet().into_iter().map(byte_of).collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
    }

    /// What merging a text takes at worst: each merge of a piece looks through all of it.
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
    fn text_without_spaces_is_as_much_more_work_as_it_is_longer() {
        for text in ["letters", "文", "  ", "=-"] {
            let (short, long) = (text.repeat(200_000), text.repeat(400_000));
            assert!(work(&long) < 3 * work(&short), "{text}"); // the square would be 4
        }
    }

    #[test]
    fn training_text_is_capped_between_characters() {
        let documents = ["abc", "", "dé", "f"].map(str::to_owned);
        assert_eq!(capped(&documents, 5).collect::<Vec<_>>(), ["abc", "", "d"]);
        assert_eq!(capped(&documents, 6).collect::<Vec<_>>(), ["abc", "", "dé"]);
        assert_eq!(capped(&documents, 100).count(), 4);
    }
}
