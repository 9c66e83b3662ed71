//! Documents in files, read group by group.
//!
//! | file         | contents                                                 |
//! |--------------|----------------------------------------------------------|
//! | `file.rs`    | formats of files, found by their first bytes             |
//! | `parquet.rs` | the column `text` of parquet files, a row group at a time |
//! | `lines.rs`   | JSONL and text, plain or compressed                      |
//! | `part.rs`    | the split of a single file                               |

mod error;
mod file;
mod lines;
mod parquet;
mod part;

pub use error::DocumentError;

use crate::corpus::{Below, choose_val, files_below, relative_name};
use crate::left_out::LeftOut;
use file::{DocumentFile, Reader};
use part::Part;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Documents in files, in reading order: parquet (column `text`), JSONL (field `text`) and text; plain, gzip or zstd.
///
/// Opening reads the beginnings of the files, and text files whole, to check them. Documents are read group by group, so
/// that at most one group is in memory: a row group of parquet, 1024 lines of JSONL, or a text file.
///
/// # Examples
///
/// ```
/// use bdh_data::{Documents, GroupPosition};
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("stories.jsonl");
/// std::fs::write(&path, "{\"text\": \"Once\"}\n{\"text\": \"upon\"}\n")?;
/// let documents = Documents::open(&path)?;
/// for group in documents.groups_from(GroupPosition::default()) {
///     assert_eq!(group?.texts, ["Once", "upon"]);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Documents {
    files: Arc<[DocumentFile]>,
    left_out: LeftOut,
    /// Opened path, for messages.
    path: PathBuf,
}

/// Format of documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DocumentKind {
    /// Parquet files.
    Parquet,
    /// Files with a JSON object in each line.
    Lines,
    /// Files that are a document each.
    Text,
    /// Files of several formats.
    Mixed,
}

/// Position of a group of documents.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct GroupPosition {
    /// Index of the file, in reading order.
    pub file: usize,
    /// Index of the group in the file.
    pub group: usize,
}

/// Group of documents that is read at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Position of the group.
    pub at: GroupPosition,
    /// Texts of the documents.
    pub texts: Vec<String>,
}

/// Documents for training and for validation.
#[derive(Debug, Clone)]
pub struct Split {
    /// Documents for training.
    pub train: Documents,
    /// Documents for validation.
    pub val: Documents,
}

impl Documents {
    /// Opens a file, or all files below a directory in the order of their paths.
    ///
    /// Hidden files are skipped. Files without documents, broken links and links to directories are left out, and in a
    /// directory with parquet files all others; see [`left_out`](Self::left_out).
    ///
    /// # Errors
    ///
    /// [`DocumentError::Unreadable`] if a file cannot be read, [`DocumentError::NoDocuments`] if no file has documents,
    /// and the error of a parquet file whose footer is damaged or that has no column `text`.
    pub fn open(path: &Path) -> Result<Self, DocumentError> {
        if path.is_dir() {
            return Self::open_dir(path);
        }
        let name = path.file_name().unwrap_or(path.as_os_str());
        let name = name.to_string_lossy().into_owned();
        match DocumentFile::open(path, name.clone())? {
            Ok(file) => Ok(Self::of(path, vec![file], LeftOut::default())),
            Err(why) => {
                let mut left_out = LeftOut::default();
                left_out.add(name, why);
                Err(DocumentError::none_in(path, left_out))
            }
        }
    }

    fn open_dir(dir: &Path) -> Result<Self, DocumentError> {
        let Below {
            files: paths,
            others,
        } = files_below(dir).map_err(|error| DocumentError::listing(dir, error))?;
        let (mut files, mut left_out) = (Vec::new(), LeftOut::default());
        for path in paths {
            let name = relative_name(&path, dir);
            if is_unfinished(&name) {
                left_out.add(name, "an unfinished download");
                continue;
            }
            match DocumentFile::open(&path, name.clone())? {
                Ok(file) => files.push(file),
                Err(why) => left_out.add(name, why),
            }
        }
        for (path, why) in others {
            left_out.add(relative_name(&path, dir), why);
        }
        // Next to parquet files, as in nanochat's directories, text is a description and no data.
        if files.iter().any(is_parquet) {
            for file in files.extract_if(.., |file| !is_parquet(file)) {
                left_out.add(file.name, "not parquet, beside parquet files");
            }
        }
        if files.is_empty() {
            return Err(DocumentError::none_in(dir, left_out));
        }
        Ok(Self::of(dir, files, left_out))
    }

    fn of(path: &Path, files: Vec<DocumentFile>, left_out: LeftOut) -> Self {
        Self {
            files: files.into(),
            left_out,
            path: path.to_owned(),
        }
    }

    /// Returns the names of the files, relative to the opened directory.
    #[must_use]
    pub fn file_names(&self) -> Vec<String> {
        self.files.iter().map(|file| file.name.clone()).collect()
    }

    /// Returns the number of files.
    #[must_use]
    pub fn num_files(&self) -> usize {
        self.files.len()
    }

    /// Returns the size of the files on the disk, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// Returns the format of the files.
    #[must_use]
    pub fn kind(&self) -> DocumentKind {
        let first = self.files[0].format.kind();
        if self.files.iter().all(|file| file.format.kind() == first) {
            first
        } else {
            DocumentKind::Mixed
        }
    }

    /// Returns the files that are not read, with the reasons.
    #[must_use]
    pub fn left_out(&self) -> &LeftOut {
        &self.left_out
    }

    /// Refuses files that would be left out.
    ///
    /// # Errors
    ///
    /// [`DocumentError::LeftOut`] with their names and the reasons.
    pub fn strict(self) -> Result<Self, DocumentError> {
        if self.left_out == LeftOut::default() {
            return Ok(self);
        }
        Err(DocumentError::LeftOut {
            path: self.path,
            left_out: self.left_out,
        })
    }

    /// Splits the documents into training and validation.
    ///
    /// Of several files the last one is for validation, as in nanochat. Of several text files a hash of the name decides,
    /// so that a file keeps its split when others are added. Of a single file every tenth document is for validation, or
    /// the last tenth of a single text.
    ///
    /// # Errors
    ///
    /// None today; a split that would be empty is reported when it is read.
    pub fn split(self) -> Result<Split, DocumentError> {
        if let [file] = &*self.files {
            let of_part = |part| {
                vec![DocumentFile {
                    part,
                    ..file.clone()
                }]
            };
            return Ok(Split {
                train: self.with(of_part(Part::Train)),
                val: self.with(of_part(Part::Val)),
            });
        }
        let is_val = self.choose_val();
        let (mut train, mut val) = (Vec::new(), Vec::new());
        for (file, is_val) in self.files.iter().zip(is_val) {
            if is_val {
                val.push(file.clone());
            } else {
                train.push(file.clone());
            }
        }
        Ok(Split {
            train: self.with(train),
            val: self.with(val),
        })
    }

    /// Decides for each file whether it is for validation.
    fn choose_val(&self) -> Vec<bool> {
        if self.kind() == DocumentKind::Text {
            return choose_val(&self.file_names());
        }
        let mut is_val = vec![false; self.files.len()];
        if let Some(last) = is_val.last_mut() {
            *last = true;
        }
        is_val
    }

    fn with(&self, files: Vec<DocumentFile>) -> Self {
        Self {
            files: files.into(),
            ..self.clone()
        }
    }

    /// Returns a value that is equal for the same data: names and sizes of the files, digests of their first 64 and last 4
    /// KiB, and the part that is read.
    #[must_use]
    pub fn identity(&self) -> Value {
        let mut files = Vec::with_capacity(self.files.len());
        for file in &*self.files {
            files.push(json!([file.name, file.size, file.digest, file.part]));
        }
        Value::Array(files)
    }

    /// Reads one group; `None` past the last group of a file.
    ///
    /// Opens the file anew. Of JSONL it reads everything before the group.
    ///
    /// # Errors
    ///
    /// Any [`DocumentError`] of reading the file.
    pub fn group(&self, at: GroupPosition) -> Result<Option<Vec<String>>, DocumentError> {
        match self.files.get(at.file) {
            Some(file) => file.reader(at.group)?.next_group(),
            None => Ok(None),
        }
    }

    /// Returns the groups from a position to the end of the last file, read as they are taken.
    #[must_use]
    pub fn groups_from(&self, at: GroupPosition) -> Groups {
        Groups {
            files: Arc::clone(&self.files),
            at,
            reader: None,
        }
    }
}

/// Returns whether a file has a name that downloads have until they are complete. Source: nanochat (`.tmp`), Hugging Face,
/// browsers.
fn is_unfinished(name: &str) -> bool {
    [".tmp", ".part", ".incomplete", ".crdownload"]
        .iter()
        .any(|end| name.ends_with(end))
}

fn is_parquet(file: &DocumentFile) -> bool {
    file.format.kind() == DocumentKind::Parquet
}

/// Groups of documents, read as they are taken. After an error there are no more.
#[derive(Debug)]
pub struct Groups {
    files: Arc<[DocumentFile]>,
    at: GroupPosition,
    /// Reader of the file at the position, once it is open.
    reader: Option<Reader>,
}

impl Groups {
    /// Reads the next group; `None` at the end of the last file.
    fn read(&mut self) -> Result<Option<Group>, DocumentError> {
        while let Some(file) = self.files.get(self.at.file) {
            let reader = match &mut self.reader {
                Some(reader) => reader,
                closed => closed.insert(file.reader(self.at.group)?),
            };
            if let Some(texts) = reader.next_group()? {
                let at = self.at;
                self.at.group += 1;
                return Ok(Some(Group { at, texts }));
            }
            self.reader = None;
            self.at = GroupPosition {
                file: self.at.file + 1,
                group: 0,
            };
        }
        Ok(None)
    }
}

impl Iterator for Groups {
    type Item = Result<Group, DocumentError>;

    fn next(&mut self) -> Option<Self::Item> {
        let group = self.read();
        if group.is_err() {
            self.at.file = self.files.len();
            self.reader = None;
        }
        group.transpose()
    }
}
