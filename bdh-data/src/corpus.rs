//! Documents, split into training and validation text.

use crate::error::DataError;
use crate::left_out::{LeftOut, why_not_text};
use crate::ngram::NgramBaselines;
use sha2::{Digest, Sha256};
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Number of documents of 256 that go to `val`: about a tenth.
const VAL_OF_256: u8 = 26;

/// Text in two splits, with a description of its origin.
#[derive(Debug, Clone, PartialEq)]
pub struct Corpus {
    /// Short name: `rust`, `synthetic`, `shakespeare`, or the given path.
    pub name: String,
    /// Origin of the text, in words.
    pub origin: String,
    /// Documents for training.
    pub train: Vec<String>,
    /// Documents for validation.
    pub val: Vec<String>,
    /// Entropy in bits per byte, the lowest possible loss. Only known for synthetic text.
    pub entropy: Option<f64>,
}

impl Corpus {
    /// Reads one file as one document, whose last tenth is `val`.
    ///
    /// # Errors
    ///
    /// [`DataError::Unreadable`], [`Empty`](DataError::Empty), [`Binary`](DataError::Binary), or
    /// [`NoSplit`](DataError::NoSplit) if the text is too short to split.
    pub fn from_file(path: &Path) -> Result<Self, DataError> {
        let name = path.display().to_string();
        Self::from_text(name.clone(), format!("the file {name}"), &read_text(path)?)
    }

    /// Reads every text file below a directory as a document. A hash of the name decides which files are `val`.
    ///
    /// Files are in the order of their paths. Hidden files are skipped. Empty files, files that are not UTF-8 text,
    /// links to directories and broken links are left out; `origin` names the first of them with the reason. A file
    /// stays in its split when other files are added or removed, except where a split would be empty. A single file is
    /// split like by [`from_file`](Self::from_file).
    ///
    /// # Errors
    ///
    /// [`DataError::Unreadable`], or [`DataError::NoText`] if no file is text.
    pub fn from_dir(path: &Path) -> Result<Self, DataError> {
        let (documents, left_out) = read_documents(path)?;
        if documents.is_empty() {
            return Err(DataError::NoText {
                path: path.to_owned(),
                left_out,
            });
        }
        let name = path.display().to_string();
        let origin = format!("{} text files in {name}{left_out}", documents.len());
        Self::from_documents(name, origin, documents)
    }

    /// Splits one text by position, nine to one, between two characters.
    pub(super) fn from_text(name: String, origin: String, text: &str) -> Result<Self, DataError> {
        let cut = text.floor_char_boundary(text.len() / 10 * 9 + text.len() % 10 * 9 / 10);
        let (train, val) = text.split_at(cut);
        if train.is_empty() || val.is_empty() {
            return Err(DataError::NoSplit {
                name,
                bytes: text.len(),
            });
        }
        let (train, val) = (vec![train.to_owned()], vec![val.to_owned()]);
        Ok(Self {
            name,
            origin,
            train,
            val,
            entropy: None,
        })
    }

    /// Splits named documents by a hash of their names.
    pub(super) fn from_documents(
        name: String,
        origin: String,
        mut documents: Vec<(String, String)>,
    ) -> Result<Self, DataError> {
        if documents.len() == 1
            && let Some((_, text)) = documents.pop()
        {
            return Self::from_text(name, origin, &text);
        }
        let (mut train, mut val) = (Vec::new(), Vec::new());
        let names: Vec<_> = documents.iter().map(|(name, _)| name.as_str()).collect();
        let is_val = choose_val(&names);
        for ((_, text), is_val) in documents.into_iter().zip(is_val) {
            if is_val {
                val.push(text);
            } else {
                train.push(text);
            }
        }
        Ok(Self {
            name,
            origin,
            train,
            val,
            entropy: None,
        })
    }

    /// Returns the bytes of training text.
    #[must_use]
    pub fn train_bytes(&self) -> usize {
        self.train.iter().map(String::len).sum()
    }

    /// Returns the bytes of validation text.
    #[must_use]
    pub fn val_bytes(&self) -> usize {
        self.val.iter().map(String::len).sum()
    }

    /// Measures n-gram models of `train` on `val`. Takes about a second for a few megabytes.
    #[must_use]
    pub fn ngram_baselines(&self) -> NgramBaselines {
        NgramBaselines::of(&self.train, &self.val)
    }
}

impl fmt::Display for Corpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let train = self.train_bytes() as f64 / 1e6;
        let val = self.val_bytes() as f64 / 1e6;
        write!(
            f,
            "{} · {train:.2} MB train · {val:.2} MB val · {}",
            self.name, self.origin
        )?;
        if let Some(entropy) = self.entropy {
            write!(f, " · true entropy {entropy:.4} bits per byte")?;
        }
        Ok(())
    }
}

/// Reads the text files below a directory, with their names, and lists the other files.
fn read_documents(dir: &Path) -> Result<(Vec<(String, String)>, LeftOut), DataError> {
    let Below { files, others } = files_below(dir)?;
    let (mut documents, mut left_out) = (Vec::new(), LeftOut::default());
    for file in files {
        let name = relative_name(&file, dir);
        match read_text(&file) {
            Ok(text) => documents.push((name, text)),
            Err(DataError::Empty { .. }) => left_out.add(name, "empty"),
            Err(DataError::Binary { why, .. }) => left_out.add(name, why),
            Err(error) => return Err(error),
        }
    }
    for (other, why) in others {
        left_out.add(relative_name(&other, dir), why);
    }
    Ok((documents, left_out))
}

/// Decides for each document whether it belongs to `val`, by a hash of its name.
pub(super) fn choose_val(names: &[impl AsRef<str>]) -> Vec<bool> {
    let mut hashes = Vec::with_capacity(names.len());
    for name in names {
        hashes.push(Sha256::digest(name.as_ref()));
    }
    let mut is_val: Vec<_> = hashes.iter().map(|hash| hash[0] < VAL_OF_256).collect();
    // Both splits need a document, and the hashes of a few documents may all be on one side.
    if let Some(first) = (0..hashes.len()).min_by_key(|&i| hashes[i]) {
        is_val[first] = true;
    }
    if let Some(last) = (0..hashes.len()).max_by_key(|&i| hashes[i]) {
        is_val[last] = false;
    }
    is_val
}

/// Reads a file that must be text.
pub(super) fn read_text(path: &Path) -> Result<String, DataError> {
    let bytes = fs::read(path).map_err(|source| unreadable(path, source))?;
    if bytes.is_empty() {
        return Err(DataError::Empty {
            path: path.to_owned(),
        });
    }
    text_of(bytes, path)
}

/// Converts the bytes of a file to text.
pub(super) fn text_of(bytes: Vec<u8>, path: &Path) -> Result<String, DataError> {
    let why = match why_not_text(&bytes) {
        Some(why) => why,
        None => match String::from_utf8(bytes) {
            Ok(text) => return Ok(text),
            Err(error) => error.to_string(),
        },
    };
    Err(DataError::Binary {
        path: path.to_owned(),
        why,
    })
}

/// Contents of a directory tree, in the order of the paths.
#[derive(Default)]
pub(super) struct Below {
    /// Regular files, and links to regular files.
    pub(super) files: Vec<PathBuf>,
    /// Other entries except directories, with a description.
    pub(super) others: Vec<(PathBuf, &'static str)>,
}

impl Below {
    /// Adds an entry that is not a directory.
    fn add(&mut self, path: PathBuf) {
        match path.metadata() {
            Ok(found) if found.is_file() => self.files.push(path),
            Ok(found) if found.is_dir() => self.others.push((path, "a link to a directory")),
            Ok(_) => self.others.push((path, "not a regular file")),
            Err(_) => self.others.push((path, "a broken link")),
        }
    }
}

/// Lists the files below a directory, without hidden ones.
pub(super) fn files_below(dir: &Path) -> Result<Below, DataError> {
    let mut below = Below::default();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).map_err(|source| unreadable(&dir, source))? {
            let entry = entry.map_err(|source| unreadable(&dir, source))?;
            let path = entry.path();
            if path.file_name().is_some_and(is_hidden) {
                continue;
            }
            // The entry's own type: a link to a parent directory would recurse without end.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                dirs.push(path);
            } else {
                below.add(path);
            }
        }
    }
    below.files.sort();
    below.others.sort();
    Ok(below)
}

/// Returns the path of a file below `dir`, with `/` on every system.
pub(super) fn relative_name(file: &Path, dir: &Path) -> String {
    let below = file.strip_prefix(dir).unwrap_or(file);
    let parts: Vec<_> = below.iter().map(OsStr::to_string_lossy).collect();
    parts.join("/")
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

fn unreadable(path: &Path, source: io::Error) -> DataError {
    DataError::Unreadable {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents(names: impl Iterator<Item = usize>) -> Vec<(String, String)> {
        names
            .map(|i| (format!("{i}.txt"), format!("document {i}")))
            .collect()
    }

    fn split(documents: Vec<(String, String)>) -> Corpus {
        Corpus::from_documents("name".into(), "origin".into(), documents).expect("two or more")
    }

    #[test]
    fn documents_keep_their_split_when_others_change() {
        let (all, even) = (
            split(documents(0..1000)),
            split(documents((0..1000).step_by(2))),
        );
        assert!(
            (65..=140).contains(&all.val.len()),
            "{} of 1000 in val",
            all.val.len()
        );
        assert!(even.val.iter().all(|text| all.val.contains(text)));
        assert!(even.train.iter().all(|text| all.train.contains(text)));
    }

    #[test]
    fn no_split_is_empty_with_two_or_more_documents() {
        for from in 0..200 {
            for count in 2..5 {
                let corpus = split(documents(from..from + count));
                assert!(!corpus.train.is_empty() && !corpus.val.is_empty());
            }
        }
    }

    #[test]
    fn single_text_is_split_nine_to_one_between_characters() {
        let text = "é".repeat(15); // 30 bytes; byte 27 is inside a character
        let corpus = Corpus::from_text(String::new(), String::new(), &text).expect("long enough");
        assert_eq!((corpus.train_bytes(), corpus.val_bytes()), (26, 4));
    }
}
