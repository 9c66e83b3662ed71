//! Values of `--data`.

use crate::corpus::Corpus;
use crate::error::DataError;
use crate::remote::SHAKESPEARE;
use crate::rust_sources;
use crate::synthetic;
use std::convert::Infallible;
use std::env;
use std::fs;
use std::path::PathBuf;
use std::str::FromStr;

/// Choice of text, in the form of `--data`.
///
/// # Examples
///
/// ```
/// use bdh_data::DataSpec;
///
/// assert_eq!("shakespeare".parse(), Ok(DataSpec::Shakespeare));
/// assert_eq!("./shakespeare".parse(), Ok(DataSpec::Path("./shakespeare".into())));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum DataSpec {
    /// Rust source of burn, which every machine that built this program has.
    #[default]
    Rust,
    /// Synthetic text from a seed, with a known entropy.
    Synthetic,
    /// Shakespeare's plays, one megabyte, downloaded once.
    Shakespeare,
    /// Text file, or directory of text files.
    Path(PathBuf),
}

impl DataSpec {
    /// Reads the text, and downloads it if necessary.
    ///
    /// `shakespeare` is the file that `BDH_SHAKESPEARE` names, or else a copy in the cache (`$XDG_CACHE_HOME/bdh` or
    /// `~/.cache/bdh`), or else downloaded.
    ///
    /// # Errors
    ///
    /// Any [`DataError`] of reading or downloading.
    pub fn load(&self) -> Result<Corpus, DataError> {
        match self {
            Self::Rust => rust_or_synthetic(),
            Self::Synthetic => Ok(synthetic::corpus()),
            Self::Shakespeare => shakespeare(),
            Self::Path(path) if path.is_dir() => Corpus::from_dir(path),
            Self::Path(path) => Corpus::from_file(path),
        }
    }
}

impl FromStr for DataSpec {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "" | "rust" => Self::Rust,
            "synthetic" => Self::Synthetic,
            "shakespeare" => Self::Shakespeare,
            path => Self::Path(path.into()),
        })
    }
}

/// Returns burn's source, or synthetic text if cargo has not unpacked it.
fn rust_or_synthetic() -> Result<Corpus, DataError> {
    match rust_sources::folders() {
        Ok(folders) => rust_sources::corpus(&folders),
        Err(missing) => {
            let mut corpus = synthetic::corpus();
            corpus.origin = format!("{}, because {missing}", corpus.origin);
            Ok(corpus)
        }
    }
}

fn shakespeare() -> Result<Corpus, DataError> {
    let text = shakespeare_text()?;
    let origin = "Shakespeare's plays, as collected for char-rnn".to_owned();
    Corpus::from_text("shakespeare".to_owned(), origin, &text)
}

fn shakespeare_text() -> Result<String, DataError> {
    let Some(path) = env::var_os("BDH_SHAKESPEARE").map(PathBuf::from) else {
        return SHAKESPEARE.cached();
    };
    match fs::read(&path) {
        Ok(bytes) => SHAKESPEARE.check(bytes, path.display()),
        Err(source) => Err(DataError::Unreadable { path, source }),
    }
}
