//! Tokenizer of a run: the value of `--tokenizer`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::values::ValueError;

/// Tokenizer of a run.
///
/// # Examples
///
/// ```
/// use bdh_examples::args::Tokenizer;
///
/// assert_eq!("bpe".parse(), Ok(Tokenizer::Bpe));
/// let file: Tokenizer = "home/tokenizer".parse()?;
/// assert_eq!(file, Tokenizer::Path("home/tokenizer".into()));
/// # Ok::<(), bdh_examples::args::ValueError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tokenizer {
    /// One id for each byte, 257 ids together. It needs no training, and the loss is in bits per byte.
    Bytes,
    /// Byte-level BPE, trained on the data.
    Bpe,
    /// Tokenizer in a file or a directory.
    Path(PathBuf),
}

impl FromStr for Tokenizer {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "bytes" => Ok(Self::Bytes),
            "bpe" => Ok(Self::Bpe),
            path if path.contains(['/', '\\', '.']) => Ok(Self::Path(path.into())),
            // With a separator, so that saved flags still read as a path where the directory does not exist.
            name if !name.is_empty() && PathBuf::from(name).exists() => {
                Ok(Self::Path(PathBuf::from(".").join(name)))
            }
            _ => Err(ValueError::NotATokenizer),
        }
    }
}

impl fmt::Display for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes => f.write_str("bytes"),
            Self::Bpe => f.write_str("bpe"),
            Self::Path(path) => path.display().fmt(f),
        }
    }
}

impl Serialize for Tokenizer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_paths_are_told_apart() {
        assert_eq!("bytes".parse(), Ok(Tokenizer::Bytes));
        for path in ["home/tokenizer", "tokenizer.json", "./bpe", "/", ".."] {
            assert_eq!(path.parse(), Ok(Tokenizer::Path(path.into())), "{path}");
        }
        // Tests run in the directory of the crate.
        assert_eq!("src".parse(), Ok(Tokenizer::Path("./src".into())));
        for text in ["", "words", "Bytes"] {
            assert_eq!(
                text.parse::<Tokenizer>(),
                Err(ValueError::NotATokenizer),
                "{text}"
            );
        }
    }

    #[test]
    fn printed_tokenizers_parse_to_the_same_tokenizers() {
        for text in ["bytes", "bpe", "home/tokenizer", "src"] {
            let tokenizer: Tokenizer = text.parse().expect("a tokenizer");
            assert_eq!(tokenizer.to_string().parse(), Ok(tokenizer));
        }
    }
}
