//! Documents, split into those a model learns from and those it is measured on.

use crate::error::DataError;
use crate::left_out::{LeftOut, why_no_text};
use crate::ngram::Levels;
use sha2::{Digest, Sha256};
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// How many documents of 256 go to `val`: a tenth.
const VAL_OF_256: u8 = 26;

/// Text with its split, and a word on where it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Corpus {
    /// A short name: `rust`, `synthetic`, `shakespeare`, or the path given.
    pub name: String,
    /// Where the text came from, in words for people.
    pub origin: String,
    /// Documents to learn from.
    pub train: Vec<String>,
    /// Documents to be measured on.
    pub val: Vec<String>,
    /// What no model can beat, in bits per byte; known for synthetic text only.
    pub entropy: Option<f64>,
}

impl Corpus {
    /// Reads one file as one document; its last tenth is `val`.
    ///
    /// # Errors
    ///
    /// [`DataError::Unreadable`], [`Empty`](DataError::Empty), [`Binary`](DataError::Binary), or
    /// [`NoSplit`](DataError::NoSplit) if a tenth of it is no character.
    pub fn from_file(path: &Path) -> Result<Self, DataError> {
        let name = path.display().to_string();
        Self::from_text(name.clone(), format!("the file {name}"), &read_text(path)?)
    }

    /// Reads every text file below a directory as a document; some files, chosen by name, are `val`.
    ///
    /// Files are taken in the order of their paths. Hidden files are passed over; `origin` names the first of the other
    /// files that are left out, with the reason: empty ones, those that are no UTF-8 text, and links to directories or to
    /// nothing. A file stays in its split when other files come or go, except that neither split is left empty: a single
    /// file is cut as by [`from_file`](Self::from_file).
    ///
    /// # Errors
    ///
    /// [`DataError::Unreadable`], or [`DataError::NoText`] if no file is text.
    pub fn from_dir(path: &Path) -> Result<Self, DataError> {
        let Below { files, others } = files_below(path)?;
        let (mut documents, mut left_out) = (Vec::new(), LeftOut::default());
        for file in files {
            let name = relative_name(&file, path);
            match read_text(&file) {
                Ok(text) => documents.push((name, text)),
                Err(DataError::Empty { .. }) => left_out.add(name, "empty"),
                Err(DataError::Binary { why, .. }) => left_out.add(name, why),
                Err(error) => return Err(error),
            }
        }
        for (other, why) in others {
            left_out.add(relative_name(&other, path), why);
        }
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

    /// Splits one text by position, nine to one.
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
        let hashes: Vec<_> = documents
            .iter()
            .map(|(name, _)| Sha256::digest(name))
            .collect();
        let mut is_val: Vec<_> = hashes.iter().map(|hash| hash[0] < VAL_OF_256).collect();
        // A handful of documents may all fall on one side.
        if let Some(first) = (0..hashes.len()).min_by_key(|&i| hashes[i]) {
            is_val[first] = true;
        }
        if let Some(last) = (0..hashes.len()).max_by_key(|&i| hashes[i]) {
            is_val[last] = false;
        }
        let (mut train, mut val) = (Vec::new(), Vec::new());
        for ((_, text), is_val) in documents.into_iter().zip(is_val) {
            if is_val {
                val.push(text)
            } else {
                train.push(text)
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

    /// Bytes of text to learn from.
    #[must_use]
    pub fn train_bytes(&self) -> usize {
        self.train.iter().map(String::len).sum()
    }

    /// Bytes of text to be measured on.
    #[must_use]
    pub fn val_bytes(&self) -> usize {
        self.val.iter().map(String::len).sum()
    }

    /// Measures what counting bytes achieves on `val`; about a second for a few megabytes.
    #[must_use]
    pub fn levels(&self) -> Levels {
        Levels::of(&self.train, &self.val)
    }
}

impl fmt::Display for Corpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mega = |bytes: usize| bytes as f64 / 1e6;
        let (train, val) = (mega(self.train_bytes()), mega(self.val_bytes()));
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

/// Takes the bytes of a file for text, if they are.
pub(super) fn text_of(bytes: Vec<u8>, path: &Path) -> Result<String, DataError> {
    let binary = |why| DataError::Binary {
        path: path.to_owned(),
        why,
    };
    match why_no_text(&bytes) {
        Some(why) => Err(binary(why)),
        None => String::from_utf8(bytes).map_err(|error| binary(error.to_string())),
    }
}

/// What lies below a directory, in the order of the paths.
pub(super) struct Below {
    /// Files that can be opened, also by a link.
    pub(super) files: Vec<PathBuf>,
    /// All else but directories, and why it is no file.
    pub(super) others: Vec<(PathBuf, &'static str)>,
}

/// Lists what is below a directory, hidden files left out.
pub(super) fn files_below(dir: &Path) -> Result<Below, DataError> {
    let (mut files, mut others) = (Vec::new(), Vec::new());
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).map_err(|source| unreadable(&dir, source))? {
            let entry = entry.map_err(|source| unreadable(&dir, source))?;
            let path = entry.path();
            if path.file_name().is_some_and(is_hidden) {
                continue;
            }
            // The entry's own type: a link to a directory above would never end.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                dirs.push(path);
            } else {
                match path.metadata() {
                    Ok(found) if found.is_file() => files.push(path),
                    Ok(found) if found.is_dir() => others.push((path, "a link to a directory")),
                    Ok(_) => others.push((path, "no regular file")),
                    Err(_) => others.push((path, "a link to nothing")),
                }
            }
        }
    }
    files.sort();
    others.sort();
    Ok(Below { files, others })
}

/// Names a file by its path below `dir`, with `/` on every system.
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
    fn documents_keep_their_split_when_others_come_and_go() {
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
    fn neither_split_is_empty_however_few_documents_there_are() {
        for from in 0..200 {
            for count in 2..5 {
                let corpus = split(documents(from..from + count));
                assert!(!corpus.train.is_empty() && !corpus.val.is_empty());
            }
        }
    }

    #[test]
    fn one_text_is_cut_nine_to_one_between_characters() {
        let text = "é".repeat(15); // 30 bytes, cut at 27, which is inside a character
        let corpus = Corpus::from_text(String::new(), String::new(), &text).expect("long enough");
        assert_eq!((corpus.train_bytes(), corpus.val_bytes()), (26, 4));
    }
}
