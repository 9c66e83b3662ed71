//! The Rust source of burn as a corpus.
//!
//! Cargo unpacks the source of every dependency before a build, so every machine that built this program has the text.
//! The version determines each byte of it.

use crate::corpus::Corpus;
use crate::corpus::{files_below, read_text, relative_name};
use crate::error::DataError;
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// Names of the crates in the corpus.
///
/// Every build of this program needs these crates. Other unpacked crates differ between machines, and then the text and
/// its baselines would differ too. The backend crates, such as burn-flex, are left out for the same reason.
const CRATES: [&str; 15] = [
    "burn",
    "burn-autodiff",
    "burn-backend",
    "burn-backend-extension",
    "burn-core",
    "burn-derive",
    "burn-dispatch",
    "burn-einsum",
    "burn-ir",
    "burn-linalg",
    "burn-nn",
    "burn-optim",
    "burn-pack",
    "burn-std",
    "burn-tensor",
];

/// Version of the crates. A test compares it with the workspace's `Cargo.lock`.
const VERSION: &str = "0.22.1";

/// Error of a crate whose source cargo has not unpacked. `Display` writes a clause.
#[derive(Debug, thiserror::Error)]
pub(super) enum MissingSource {
    /// There is no cargo home directory.
    #[error("there is no cargo home directory with burn's source")]
    NoCargoHome,
    /// The folder of a crate is missing.
    #[error("the source of {name} is not in {}", registries.display())]
    Crate {
        /// Name of the crate.
        name: &'static str,
        /// Directory of the unpacked registries.
        registries: PathBuf,
    },
}

/// Reads the `*.rs` files of the given crates; a file is a document, named `crate/path`.
pub(super) fn corpus(folders: &[(&str, PathBuf)]) -> Result<Corpus, DataError> {
    let mut documents = Vec::new();
    for (name, folder) in folders {
        documents.append(&mut documents_of(name, folder)?);
    }
    let origin = format!(
        "the Rust source of burn {VERSION}, {} files",
        documents.len()
    );
    Corpus::from_documents("rust".to_owned(), origin, documents)
}

/// Reads the `*.rs` files of one crate, each with its name; unreadable files are skipped.
fn documents_of(name: &str, folder: &Path) -> Result<Vec<(String, String)>, DataError> {
    let mut documents = Vec::new();
    for file in files_below(folder)?.files {
        if file.extension() != Some(OsStr::new("rs")) {
            continue;
        }
        if let Ok(text) = read_text(&file) {
            documents.push((format!("{name}/{}", relative_name(&file, folder)), text));
        }
    }
    Ok(documents)
}

/// Finds the `src` folder of each crate.
pub(super) fn folders() -> Result<Vec<(&'static str, PathBuf)>, MissingSource> {
    let home = match env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => env::home_dir()
            .ok_or(MissingSource::NoCargoHome)?
            .join(".cargo"),
    };
    folders_in(&home)
}

fn folders_in(cargo_home: &Path) -> Result<Vec<(&'static str, PathBuf)>, MissingSource> {
    let sources = cargo_home.join("registry/src");
    let registries = registries_in(&sources);
    let mut folders = Vec::with_capacity(CRATES.len());
    for name in CRATES {
        let Some(path) = find_source(name, &registries) else {
            return Err(MissingSource::Crate {
                name,
                registries: sources,
            });
        };
        folders.push((name, path));
    }
    Ok(folders)
}

/// Finds the `src` folder of a crate in the first registry that has it.
fn find_source(name: &str, registries: &[PathBuf]) -> Option<PathBuf> {
    let folder = format!("{name}-{VERSION}/src");
    let mut candidates = registries.iter().map(|registry| registry.join(&folder));
    candidates.find(|path| path.is_dir())
}

/// Lists the unpacked registries, in the order of their paths; none if the directory is missing.
fn registries_in(sources: &Path) -> Vec<PathBuf> {
    let mut registries = Vec::new();
    for entry in fs::read_dir(sources).into_iter().flatten().flatten() {
        registries.push(entry.path());
    }
    registries.sort(); // several may have the same crates, and the choice must not vary
    registries
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the version of a package that is in the lock file once.
    fn locked_version<'a>(lock: &'a str, name: &str) -> Option<&'a str> {
        let wanted = format!("name = \"{name}\"");
        let mut lines = lock.lines().skip_while(|line| *line != wanted);
        lines
            .nth(1)?
            .strip_prefix("version = \"")?
            .strip_suffix('"')
    }

    #[test]
    fn every_crate_is_locked_at_this_version() {
        let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
        let lock = fs::read_to_string(lock).expect("the workspace's lock file");
        for name in CRATES {
            assert_eq!(locked_version(&lock, name), Some(VERSION), "{name}");
        }
    }

    #[test]
    fn error_names_the_missing_crate() {
        let home = tempfile::tempdir().expect("a temporary directory");
        let error = folders_in(home.path()).expect_err("the home is empty");
        let error = error.to_string();
        assert!(error.starts_with("the source of burn is not in"), "{error}");

        let burn = home
            .path()
            .join(format!("registry/src/mirror/burn-{VERSION}/src"));
        fs::create_dir_all(burn).expect("a new directory");
        let error = folders_in(home.path()).expect_err("the others are missing");
        let error = error.to_string();
        assert!(
            error.starts_with("the source of burn-autodiff is not in"),
            "{error}"
        );
    }
}
