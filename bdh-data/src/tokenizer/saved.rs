//! The file of a saved tokenizer, which each run has.

use super::bpe::{Bpe, Parts};
use super::hugging_face::HuggingFace;
use super::Tokenizer;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of the format.
const VERSION: u32 = 1;

/// Content of the file.
#[derive(Serialize, Deserialize)]
struct Saved {
    /// Version of the format; the field tells the file from Hugging Face's.
    bdh_tokenizer: u32,
    #[serde(flatten)]
    kind: Kind,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Kind {
    Bytes,
    Bpe {
        pattern: String,
        longest: Option<usize>,
        /// Bytes of each id in hexadecimal; empty for special tokens.
        tokens: Vec<String>,
        special: BTreeMap<String, i32>,
    },
    HuggingFace {
        json: String,
    },
}

/// Returns the content of a tokenizer's file: equal for tokenizers with the same ids.
pub(super) fn to_json(tokenizer: &Tokenizer) -> String {
    let kind = match tokenizer {
        Tokenizer::Bytes => Kind::Bytes,
        Tokenizer::Bpe(bpe) => {
            let parts = bpe.parts();
            Kind::Bpe {
                pattern: parts.pattern,
                longest: parts.longest,
                tokens: parts.tokens.iter().map(|token| to_hex(token)).collect(),
                special: parts.special,
            }
        }
        Tokenizer::HuggingFace(inner) => Kind::HuggingFace {
            json: inner.0.json().to_owned(),
        },
    };
    let saved = Saved {
        bdh_tokenizer: VERSION,
        kind,
    };
    serde_json::to_string(&saved).expect("texts and numbers are JSON")
}

/// Parses a tokenizer's file; `None` if it is another one, such as Hugging Face's.
pub(super) fn from_json(json: &str) -> Option<Result<Tokenizer, String>> {
    let value: serde_json::Value = serde_json::from_str(json).ok()?;
    value.get("bdh_tokenizer")?;
    let saved: Saved = match serde_json::from_value(value) {
        Ok(saved) => saved,
        Err(error) => return Some(Err(error.to_string())),
    };
    if saved.bdh_tokenizer != VERSION {
        let found = saved.bdh_tokenizer;
        return Some(Err(format!("its version is {found}, and this program reads {VERSION}")));
    }
    Some(of(saved.kind))
}

fn of(kind: Kind) -> Result<Tokenizer, String> {
    match kind {
        Kind::Bytes => Ok(Tokenizer::Bytes),
        Kind::HuggingFace { json } => Ok(HuggingFace::parse(json)?.into()),
        Kind::Bpe {
            pattern,
            longest,
            tokens,
            special,
        } => {
            let tokens: Option<Vec<_>> = tokens.iter().map(|token| from_hex(token)).collect();
            let bpe = Bpe::new(Parts {
                pattern,
                longest,
                tokens: tokens.ok_or("a token is not hexadecimal")?,
                special,
            })?;
            Ok(Tokenizer::Bpe(Box::new(bpe)))
        }
    }
}

fn to_hex(bytes: &[u8]) -> String {
    let mut hex = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        hex += &format!("{byte:02x}");
    }
    hex
}

fn from_hex(hex: &str) -> Option<Vec<u8>> {
    if !hex.is_ascii() || !hex.len().is_multiple_of(2) {
        return None;
    }
    let pairs = (0..hex.len()).step_by(2);
    pairs.map(|at| u8::from_str_radix(&hex[at..at + 2], 16).ok()).collect()
}
