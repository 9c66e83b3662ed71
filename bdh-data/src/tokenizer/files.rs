//! Files of tokenizers.

use super::Tokenizer;
use super::error::TokenizerError;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Names of files in a directory, in the order in which they are looked for.
const NAMES: [&str; 3] = ["tokenizer.pkl", Tokenizer::FILE, "vocab.json"];

/// Returns the file of a tokenizer: the path itself, a known file in the directory, or one in its `tokenizer`.
pub(super) fn find(path: &Path) -> Result<PathBuf, TokenizerError> {
    if path.is_file() {
        return Ok(path.to_owned());
    }
    for dir in [path, &path.join("tokenizer")] {
        for name in NAMES {
            let file = dir.join(name);
            if file.is_file() {
                return Ok(file);
            }
        }
    }
    Err(TokenizerError::NotFound {
        path: path.to_owned(),
    })
}

/// Writes a file under a temporary name, and renames it when it is complete.
pub(super) fn publish(path: &Path, content: &[u8]) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // The name has the process: trials of a sweep may save to one directory at once.
    let scratch = path.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
    let written = write(&scratch, content).and_then(|()| fs::rename(&scratch, path));
    if written.is_err() {
        let _ = fs::remove_file(&scratch); // the first error is the one that counts
    }
    written
}

fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content)?;
    file.sync_all() // before the rename, or a crash could leave an empty file under the new name
}
