//! What `--data` means.

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

/// A choice of text, as given to `--data`.
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
    /// The Rust source of burn, which is on every machine that built this program.
    #[default]
    Rust,
    /// A seeded source of known entropy.
    Synthetic,
    /// All of Shakespeare in one megabyte, downloaded once.
    Shakespeare,
    /// A text file, or a directory of text files.
    Path(PathBuf),
}

impl DataSpec {
    /// Reads the text, and downloads it where need be.
    ///
    /// `shakespeare` is looked for in the file that `BDH_SHAKESPEARE` names, then in the cache
    /// (`$XDG_CACHE_HOME/bdh` or `~/.cache/bdh`), then on the network.
    ///
    /// # Errors
    ///
    /// Any [`DataError`] that reading or downloading can give.
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
    let text = match env::var_os("BDH_SHAKESPEARE").map(PathBuf::from) {
        Some(path) => match fs::read(&path) {
            Ok(bytes) => SHAKESPEARE.check(bytes, path.display())?,
            Err(source) => return Err(DataError::Unreadable { path, source }),
        },
        None => SHAKESPEARE.cached()?,
    };
    let origin = "Shakespeare's plays, as collected for char-rnn".to_owned();
    Corpus::from_text("shakespeare".to_owned(), origin, &text)
}
