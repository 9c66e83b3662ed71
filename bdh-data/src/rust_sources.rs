//! The Rust source of burn as a corpus.
//!
//! Cargo unpacks the source of every dependency before it builds, so this text is on every machine that
//! got as far as running this program, and its version pins it to the byte.

use crate::corpus::Corpus;
use crate::corpus::{files_below, read_text, relative_name};
use crate::error::DataError;
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// The crates whose text it is.
///
/// A fixed list, all of them needed by every build of this program: what else happens to be unpacked
/// differs from machine to machine, and the levels to compare with would differ too. The backend itself
/// (burn-flex or another) is left out for the same reason.
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

/// Their version: the one that the workspace's `Cargo.lock` has, as a test checks.
const VERSION: &str = "0.22.1";

/// Reads the `*.rs` files of the given crates; a file is a document, named `crate/path`.
pub(super) fn corpus(folders: &[(&str, PathBuf)]) -> Result<Corpus, DataError> {
    let mut documents = Vec::new();
    for (name, folder) in folders {
        for file in files_below(folder)?.files {
            if file.extension() != Some(OsStr::new("rs")) {
                continue;
            }
            if let Ok(text) = read_text(&file) {
                documents.push((format!("{name}/{}", relative_name(&file, folder)), text));
            }
        }
    }
    let origin = format!(
        "the Rust source of burn {VERSION}, {} files",
        documents.len()
    );
    Corpus::from_documents("rust".to_owned(), origin, documents)
}

/// Finds the `src` folder of each crate, or says which is missing.
pub(super) fn folders() -> Result<Vec<(&'static str, PathBuf)>, String> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(env::home_dir()?.join(".cargo")));
    folders_in(&home.ok_or("there is no cargo home to read burn's source from")?)
}

fn folders_in(cargo_home: &Path) -> Result<Vec<(&'static str, PathBuf)>, String> {
    let sources = cargo_home.join("registry/src");
    let registries = fs::read_dir(&sources).map_err(|_| absent("burn", &sources))?;
    let mut registries: Vec<_> = registries.flatten().map(|entry| entry.path()).collect();
    registries.sort(); // several may hold the same crates
    let find = |name| {
        let folder = format!("{name}-{VERSION}/src");
        registries
            .iter()
            .map(|registry| registry.join(&folder))
            .find(|path| path.is_dir())
    };
    CRATES
        .into_iter()
        .map(|name| Ok((name, find(name).ok_or_else(|| absent(name, &sources))?)))
        .collect()
}

fn absent(name: &str, sources: &Path) -> String {
    format!("the source of {name} is not in {}", sources.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads the version of a package that is in the lock file once.
    fn locked_version<'a>(lock: &'a str, name: &str) -> Option<&'a str> {
        let wanted = format!("name = \"{name}\"");
        let mut lines = lock.lines().skip_while(|line| *line != wanted);
        lines
            .nth(1)?
            .strip_prefix("version = \"")?
            .strip_suffix('"')
    }

    #[test]
    fn every_crate_of_the_list_is_locked_at_this_version() {
        let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
        let lock = fs::read_to_string(lock).expect("the workspace's lock file");
        for name in CRATES {
            assert_eq!(locked_version(&lock, name), Some(VERSION), "{name}");
        }
    }

    #[test]
    fn a_missing_crate_is_named() {
        let home = tempfile::tempdir().expect("a temporary directory");
        let error = folders_in(home.path()).expect_err("nothing is there");
        assert!(error.starts_with("the source of burn is not in"), "{error}");

        let burn = home
            .path()
            .join(format!("registry/src/mirror/burn-{VERSION}/src"));
        fs::create_dir_all(burn).expect("a new directory");
        let error = folders_in(home.path()).expect_err("the others are missing");
        assert!(
            error.starts_with("the source of burn-autodiff is not in"),
            "{error}"
        );
    }
}
