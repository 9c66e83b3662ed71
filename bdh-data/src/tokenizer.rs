//! Tokenizers: text to token ids, and back.
//!
//! | file                  | contents                                       |
//! |-----------------------|------------------------------------------------|
//! | `bpe.rs`              | byte-pair encoding by ranks, with tiktoken's ids |
//! | `split.rs`            | patterns that split text into pieces           |
//! | `merge.rs`            | merges inside a piece                          |
//! | `train.rs`            | training of merges                             |
//! | `files.rs`            | names of files, and files that are complete    |
//! | `saved.rs`            | `tokenizer.json` of a run                      |
//! | `nanochat.rs`         | `tokenizer.pkl` and `token_bytes.pt`           |
//! | `pickle.rs`           | pickles of plain data                          |
//! | `hugging_face.rs`     | `tokenizer.json` of Hugging Face               |
//! | `gpt2.rs`             | `vocab.json` and `merges.txt`                  |
//! | `byte_level.rs`       | letters for bytes in files of the last two     |

mod bpe;
mod byte_level;
mod error;
mod files;
mod gpt2;
mod hugging_face;
mod merge;
mod nanochat;
mod pickle;
mod saved;
mod split;
mod train;

pub use bpe::Bpe;
pub use error::TokenizerError;
pub use hugging_face::HuggingFace;
pub use nanochat::read_token_bytes;
pub use train::Training;

use bdh::files::hex;
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};

/// Tokenizer of bytes, of byte pairs, or of Hugging Face.
///
/// One id is BOS, which starts a document and has no text. It is found by its name, such as `<|bos|>`.
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
#[non_exhaustive]
pub enum Tokenizer {
    /// One id for each byte, 257 ids with BOS. Bits per byte are bits per token.
    Bytes,
    /// Byte-pair encoding.
    Bpe(Box<Bpe>),
    /// Tokenizer of Hugging Face that is no such encoding, run by their library.
    HuggingFace(Box<HuggingFace>),
}

impl Tokenizer {
    /// Name of the file that [`save`](Self::save) writes.
    pub const FILE: &str = "tokenizer.json";

    /// Trains byte-pair merges until there are `vocab_size` ids, including BOS, or no more pairs to merge.
    ///
    /// The first 8 MiB of the documents are used. The same text gives the same tokenizer.
    ///
    /// # Errors
    ///
    /// [`TokenizerError::Vocabulary`] below 257; [`TokenizerError::Training`] if the trainer fails.
    pub fn bpe(documents: &[String], vocab_size: usize) -> Result<Self, TokenizerError> {
        Self::train(documents.iter().cloned(), vocab_size, |_| {})
    }

    /// Trains byte-pair merges like [`bpe`](Self::bpe), on texts that are read as they are needed.
    ///
    /// `progress` is called for each text. The merges follow after the last text, and take about as long again.
    ///
    /// # Errors
    ///
    /// [`TokenizerError::Vocabulary`] below 257; [`TokenizerError::Training`] if the trainer fails.
    pub fn train(
        texts: impl Iterator<Item = String> + Send,
        vocab_size: usize,
        progress: impl FnMut(Training) + Send,
    ) -> Result<Self, TokenizerError> {
        if vocab_size < 257 {
            return Err(TokenizerError::Vocabulary { size: vocab_size });
        }
        let bpe = train::train(texts, vocab_size, progress).map_err(TokenizerError::Training)?;
        Ok(Self::Bpe(Box::new(bpe)))
    }

    /// Reads GPT-2's tokenizer from a directory with `vocab.json` and `merges.txt`.
    ///
    /// Tokens that no merge makes are special. BOS is `<|endoftext|>`.
    ///
    /// # Errors
    ///
    /// [`TokenizerError::Damaged`] if a file is missing or damaged, or if no token starts a document.
    pub fn gpt2(dir: &Path) -> Result<Self, TokenizerError> {
        gpt2::read(dir).map_err(|error| {
            let why = format!("{error}; it needs GPT-2's `vocab.json` and `merges.txt`");
            TokenizerError::damaged(dir, why)
        })
    }

    /// Reads a tokenizer from a file, or from the file of a directory.
    ///
    /// Known files are nanochat's `tokenizer.pkl`, the `tokenizer.json` of a run or of Hugging Face, and GPT-2's
    /// `vocab.json` with `merges.txt`. The first of them in a directory, or in its directory `tokenizer`, is read. Nothing
    /// in a pickle is run. If `token_bytes.pt` lies beside `tokenizer.pkl`, it must belong to the same tokenizer.
    ///
    /// # Errors
    ///
    /// [`TokenizerError::NotFound`] if there is no such file, [`TokenizerError::Unreadable`] if it cannot be read, and
    /// [`TokenizerError::Damaged`] if its content is not that of a tokenizer with a token that starts a document.
    pub fn load(path: &Path) -> Result<Self, TokenizerError> {
        let file = files::find(path)?;
        if file.extension().is_some_and(|end| end == "pkl") {
            return Ok(Self::Bpe(Box::new(nanochat::read(&file)?)));
        }
        if file.ends_with("vocab.json") || file.ends_with("merges.txt") {
            return Self::gpt2(file.parent().unwrap_or(Path::new("")));
        }
        let json = fs::read_to_string(&file);
        let json = json.map_err(|source| TokenizerError::unreadable(&file, source))?;
        let parsed = match saved::from_json(&json) {
            Some(parsed) => parsed,
            None => HuggingFace::parse(json).map(|inner| Self::HuggingFace(Box::new(inner))),
        };
        parsed.map_err(|why| TokenizerError::damaged(&file, why))
    }

    /// Saves the tokenizer as `tokenizer.json` in a directory, for [`load`](Self::load). Returns the path.
    ///
    /// # Errors
    ///
    /// [`TokenizerError::Unwritable`] if the file system fails; no incomplete file is left under the name.
    pub fn save(&self, dir: &Path) -> Result<PathBuf, TokenizerError> {
        let path = dir.join(Self::FILE);
        match files::publish(&path, saved::to_json(self).as_bytes()) {
            Ok(()) => Ok(path),
            Err(source) => Err(TokenizerError::Unwritable { path, source }),
        }
    }

    /// Saves the tokenizer as nanochat's `tokenizer.pkl` and `token_bytes.pt` in a directory, which is created.
    ///
    /// # Errors
    ///
    /// [`TokenizerError::NotForNanochat`] if nanochat's special tokens are missing, or if tiktoken would not give the
    /// same ids; [`TokenizerError::Unwritable`] if the file system fails.
    pub fn save_nanochat(&self, dir: &Path) -> Result<(), TokenizerError> {
        let Self::Bpe(bpe) = self else {
            let why = "its tokens are not those of a byte-pair encoding of tiktoken's".to_owned();
            return Err(TokenizerError::NotForNanochat { why });
        };
        nanochat::write(bpe, dir)
    }

    /// Returns the SHA-256 of what decides the ids, in hexadecimal: equal for a tokenizer that was saved and loaded.
    #[must_use]
    pub fn id(&self) -> String {
        hex(Sha256::digest(saved::to_json(self)))
    }

    /// Returns the id of a special token, such as `<|bos|>`. `None` if there is none of this name.
    #[must_use]
    pub fn special(&self, name: &str) -> Option<i32> {
        match self {
            Self::Bytes => (name == "<|bos|>").then_some(self.bos()),
            Self::Bpe(bpe) => bpe.special().get(name).copied(),
            Self::HuggingFace(inner) => inner.special().get(name).copied(),
        }
    }

    /// Encodes a text, without BOS. Special tokens in the text are plain text.
    #[must_use]
    pub fn encode(&self, text: &str) -> Vec<i32> {
        match self {
            Self::Bytes => text.bytes().map(i32::from).collect(),
            Self::Bpe(bpe) => bpe.encode(text),
            Self::HuggingFace(inner) => inner.encode(text),
        }
    }

    /// Encodes a document: BOS, then its text.
    #[must_use]
    pub fn encode_document(&self, text: &str) -> Vec<i32> {
        let mut ids = vec![self.bos()];
        ids.extend(self.encode(text));
        ids
    }

    /// Encodes documents, on all cores unless the tokens are bytes.
    #[must_use]
    pub fn encode_all(&self, documents: &[String]) -> Vec<Vec<i32>> {
        match self {
            Self::Bytes => documents.iter().map(|text| self.encode(text)).collect(),
            Self::Bpe(bpe) => bpe.encode_all(documents),
            Self::HuggingFace(inner) => inner.encode_all(documents),
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
        let Some(tokens) = self.tokens() else {
            return ids.iter().filter_map(|&id| u8::try_from(id).ok()).collect();
        };
        let mut bytes = Vec::new();
        for id in ids {
            let token = usize::try_from(*id).ok().and_then(|id| tokens.get(id));
            bytes.extend(token.into_iter().flatten());
        }
        bytes
    }

    /// Returns the id that starts a document.
    #[must_use]
    pub fn bos(&self) -> i32 {
        match self {
            Self::Bytes => 256,
            Self::Bpe(bpe) => bpe.bos(),
            Self::HuggingFace(inner) => inner.bos(),
        }
    }

    /// Returns the number of ids, including special tokens.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.tokens().map_or(257, <[_]>::len)
    }

    /// Returns the number of bytes of each id, 0 for special tokens. Bits per byte are computed from it.
    #[must_use]
    pub fn token_bytes(&self) -> Vec<u32> {
        match self.tokens() {
            Some(tokens) => tokens.iter().map(|token| token.len() as u32).collect(),
            None => [vec![1; 256], vec![0]].concat(),
        }
    }

    /// Returns the bytes of each id, empty for special tokens. `None` if the ids are bytes.
    fn tokens(&self) -> Option<&[Vec<u8>]> {
        match self {
            Self::Bytes => None,
            Self::Bpe(bpe) => Some(bpe.tokens()),
            Self::HuggingFace(inner) => Some(inner.tokens()),
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
