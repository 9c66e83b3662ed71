//! Tokenizers: text to token ids, and back.
//!
//! | file              | contents                                                        |
//! |-------------------|-----------------------------------------------------------------|
//! | `bpe.rs`          | byte-pair encoding by ranks, with tiktoken's ids                 |
//! | `merge.rs`        | the merges of one piece of text                                 |
//! | `train.rs`        | training of merges                                              |
//! | `nanochat.rs`     | `tokenizer.pkl`, `token_bytes.pt`                               |
//! | `pickle.rs`       | pickles of plain data                                           |
//! | `gpt2.rs`         | `vocab.json`, `merges.txt`                                      |
//! | `hugging_face.rs` | `tokenizer.json` of Hugging Face                                |
//! | `byte_level.rs`   | letters for bytes in the files of the last two                  |
//! | `saved.rs`        | the file that each run has                                      |

mod bpe;
mod byte_level;
mod error;
mod gpt2;
mod hugging_face;
mod merge;
mod nanochat;
mod pickle;
mod saved;
mod train;

pub use bpe::Bpe;
pub use error::TokenizerError;
pub use nanochat::read_token_bytes;
pub use train::Training;

use hugging_face::HuggingFace;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Tokenizer of bytes or of byte pairs.
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
    /// Tokenizer of Hugging Face.
    HuggingFace(HuggingFaceTokenizer),
}

/// Tokenizer that [`Tokenizer::load`] has read from Hugging Face's `tokenizer.json`.
#[derive(Debug, Clone)]
pub struct HuggingFaceTokenizer(Box<HuggingFace>);

impl From<HuggingFace> for Tokenizer {
    fn from(inner: HuggingFace) -> Self {
        Self::HuggingFace(HuggingFaceTokenizer(Box::new(inner)))
    }
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
    /// BOS is `<|endoftext|>`.
    ///
    /// # Errors
    ///
    /// [`TokenizerError::Damaged`] if a file is missing or damaged, or if no token starts a document.
    pub fn gpt2(dir: &Path) -> Result<Self, TokenizerError> {
        match gpt2::read(dir) {
            Ok(bpe) => Ok(Self::Bpe(Box::new(bpe))),
            Err(error) => Err(TokenizerError::Damaged {
                path: dir.to_owned(),
                why: format!("{error}; the directory needs GPT-2's `vocab.json` and `merges.txt`"),
            }),
        }
    }

    /// Reads a tokenizer from a file, or from the file of a directory.
    ///
    /// Known files are nanochat's `tokenizer.pkl`, the `tokenizer.json` of a run or of Hugging Face, and GPT-2's
    /// `vocab.json` with `merges.txt`. A directory with several is read in this order. Nothing in a pickle is run.
    ///
    /// # Errors
    ///
    /// [`TokenizerError::NotFound`] if there is no such file, [`TokenizerError::Unreadable`] if it cannot be read, and
    /// [`TokenizerError::Damaged`] if its content is not that of a tokenizer with a token that starts a document.
    pub fn load(path: &Path) -> Result<Self, TokenizerError> {
        let file = find(path)?;
        let name = file.file_name().unwrap_or_default();
        if file.extension().is_some_and(|end| end == "pkl") {
            return Ok(Self::Bpe(Box::new(nanochat::read(&file)?)));
        }
        if name == "vocab.json" || name == "merges.txt" {
            return Self::gpt2(file.parent().unwrap_or(Path::new("")));
        }
        let json = fs::read_to_string(&file).map_err(|source| TokenizerError::Unreadable {
            path: file.clone(),
            source,
        })?;
        let parsed = match saved::from_json(&json) {
            Some(parsed) => parsed,
            None => HuggingFace::parse(json).map(Self::from),
        };
        parsed.map_err(|why| TokenizerError::Damaged { path: file, why })
    }

    /// Saves the tokenizer as `tokenizer.json` in a directory, for [`load`](Self::load). Returns the path.
    ///
    /// # Errors
    ///
    /// [`TokenizerError::Unwritable`] if the file system fails; no incomplete file is left under the name.
    pub fn save(&self, dir: &Path) -> Result<PathBuf, TokenizerError> {
        let path = dir.join(Self::FILE);
        match write(dir, saved::to_json(self).as_bytes()) {
            Ok(()) => Ok(path),
            Err(source) => Err(TokenizerError::Unwritable { path, source }),
        }
    }

    /// Saves the tokenizer as nanochat's `tokenizer.pkl` and `token_bytes.pt` in a directory, which is created.
    ///
    /// # Errors
    ///
    /// [`TokenizerError::NotForNanochat`] if nanochat's special tokens are missing, or the tokenizer is not one of
    /// tiktoken's kind; [`TokenizerError::Unwritable`] if the file system fails.
    pub fn save_nanochat(&self, dir: &Path) -> Result<(), TokenizerError> {
        let Self::Bpe(bpe) = self else {
            let why = "its tokens are no byte pairs in the order of their ranks".to_owned();
            return Err(TokenizerError::NotForNanochat { why });
        };
        nanochat::write(bpe, dir)
    }

    /// Returns the SHA-256 of what decides the ids, in hexadecimal: equal for a tokenizer that was saved and loaded.
    #[must_use]
    pub fn id(&self) -> String {
        bdh::files::hex(Sha256::digest(saved::to_json(self)))
    }

    /// Returns the id of a special token, such as `<|bos|>`; `None` if there is none of this name.
    #[must_use]
    pub fn special(&self, name: &str) -> Option<i32> {
        match self {
            Self::Bytes => None,
            Self::Bpe(bpe) => bpe.special().get(name).copied(),
            Self::HuggingFace(inner) => inner.0.special().get(name).copied(),
        }
    }

    /// Encodes a text, without BOS. Special tokens in the text are plain text.
    #[must_use]
    pub fn encode(&self, text: &str) -> Vec<i32> {
        match self {
            Self::Bytes => text.bytes().map(i32::from).collect(),
            Self::Bpe(bpe) => bpe.encode(text),
            Self::HuggingFace(inner) => inner.0.encode(text),
        }
    }

    /// Encodes a document: BOS, then its text.
    #[must_use]
    pub fn encode_document(&self, text: &str) -> Vec<i32> {
        let mut ids = vec![self.bos()];
        ids.extend(self.encode(text));
        ids
    }

    /// Encodes documents, on all cores for byte pairs.
    #[must_use]
    pub fn encode_all(&self, documents: &[String]) -> Vec<Vec<i32>> {
        match self {
            Self::Bpe(bpe) => bpe.encode_all(documents),
            _ => documents.iter().map(|text| self.encode(text)).collect(),
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
            Self::HuggingFace(inner) => {
                let tokens = inner.0.tokens();
                let known = ids.iter().filter_map(|&id| tokens.get(usize::try_from(id).ok()?));
                known.flatten().copied().collect()
            }
        }
    }

    /// Returns the id that starts a document.
    #[must_use]
    pub fn bos(&self) -> i32 {
        match self {
            Self::Bytes => 256,
            Self::Bpe(bpe) => bpe.bos(),
            Self::HuggingFace(inner) => inner.0.bos(),
        }
    }

    /// Returns the number of ids, including special tokens.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        match self {
            Self::Bytes => 257,
            Self::Bpe(bpe) => bpe.tokens().len(),
            Self::HuggingFace(inner) => inner.0.tokens().len(),
        }
    }

    /// Returns the number of bytes of each id, 0 for special tokens. Bits per byte are computed from it.
    #[must_use]
    pub fn token_bytes(&self) -> Vec<u32> {
        let tokens = match self {
            Self::Bytes => return [vec![1; 256], vec![0]].concat(),
            Self::Bpe(bpe) => bpe.tokens(),
            Self::HuggingFace(inner) => inner.0.tokens(),
        };
        tokens.iter().map(|token| token.len() as u32).collect()
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

/// Returns the file of a tokenizer: the path itself, or a known file in the directory.
fn find(path: &Path) -> Result<PathBuf, TokenizerError> {
    if path.is_file() {
        return Ok(path.to_owned());
    }
    for name in ["tokenizer.pkl", Tokenizer::FILE, "vocab.json"] {
        let file = path.join(name);
        if file.is_file() {
            return Ok(file);
        }
    }
    Err(TokenizerError::NotFound {
        path: path.to_owned(),
    })
}

/// Writes the file of a tokenizer under a temporary name, and renames it when it is complete.
fn write(dir: &Path, content: &[u8]) -> io::Result<()> {
    // The name has the process: trials of a sweep may save to one directory at once.
    let scratch = dir.join(format!(".{}.{}.tmp", Tokenizer::FILE, std::process::id()));
    let mut file = File::create(&scratch)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(scratch, dir.join(Tokenizer::FILE))
}
