//! File of a saved tokenizer, which each run has.

use super::Tokenizer;
use super::bpe::{Bpe, MOST_IDS, Parts};
use super::hugging_face::HuggingFace;
use bdh::files::hex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of the format.
const VERSION: u32 = 1;

/// Content of the file.
#[derive(Serialize, Deserialize)]
struct Saved {
    /// Version of the format. The field distinguishes the file from Hugging Face's.
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
        /// Content of `tokenizer.json`.
        json: String,
    },
}

/// Returns the content of a tokenizer's file: equal for tokenizers with the same ids.
pub(super) fn to_json(tokenizer: &Tokenizer) -> String {
    let kind = match tokenizer {
        Tokenizer::Bytes => Kind::Bytes,
        Tokenizer::Bpe(bpe) => Kind::Bpe {
            pattern: bpe.pattern().to_owned(),
            longest: bpe.longest(),
            tokens: bpe.tokens().iter().map(hex).collect(),
            special: bpe.special().clone(),
        },
        Tokenizer::HuggingFace(inner) => Kind::HuggingFace {
            json: inner.json().to_owned(),
        },
    };
    let saved = Saved {
        bdh_tokenizer: VERSION,
        kind,
    };
    serde_json::to_string(&saved).expect("texts and numbers are JSON")
}

/// Parses a tokenizer's file. `None` if it is another one, such as Hugging Face's.
pub(super) fn from_json(json: &str) -> Option<Result<Tokenizer, String>> {
    let value: serde_json::Value = serde_json::from_str(json).ok()?;
    let version = value.get("bdh_tokenizer")?;
    if version.as_u64() != Some(u64::from(VERSION)) {
        let why =
            format!("its format is {version}, and this version reads {VERSION}: use a newer one");
        return Some(Err(why));
    }
    let saved = serde_json::from_value::<Saved>(value);
    Some(saved.map_err(|error| error.to_string()).and_then(of))
}

fn of(saved: Saved) -> Result<Tokenizer, String> {
    match saved.kind {
        Kind::Bytes => Ok(Tokenizer::Bytes),
        Kind::HuggingFace { json } => {
            let inner = HuggingFace::parse(json)?;
            Ok(Tokenizer::HuggingFace(Box::new(inner)))
        }
        Kind::Bpe {
            pattern,
            longest,
            tokens,
            special,
        } => {
            let bpe = Bpe::new(Parts {
                pattern,
                longest,
                tokens: decode(&tokens)?,
                special,
            })?;
            Ok(Tokenizer::Bpe(Box::new(bpe)))
        }
    }
}

/// Decodes tokens in hexadecimal.
fn decode(tokens: &[String]) -> Result<Vec<Vec<u8>>, String> {
    if tokens.len() > MOST_IDS {
        return Err(format!(
            "it has {} ids, and at most {MOST_IDS} are read",
            tokens.len()
        ));
    }
    let mut decoded = Vec::with_capacity(tokens.len());
    for token in tokens {
        let bytes =
            from_hex(token).ok_or_else(|| format!("the token `{token}` is not hexadecimal"))?;
        decoded.push(bytes);
    }
    Ok(decoded)
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 2);
    for pair in text.as_bytes().chunks(2) {
        let [high, low] = *pair else {
            return None;
        };
        let digit = |letter: u8| char::from(letter).to_digit(16);
        bytes.push((digit(high)? << 4 | digit(low)?) as u8);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_digits_are_decoded() {
        assert_eq!(from_hex("00ff7A"), Some(vec![0, 255, 0x7A]));
        assert_eq!(from_hex(""), Some(Vec::new()));
        for fault in ["0", "0g", "é", "+1"] {
            assert_eq!(from_hex(fault), None, "{fault}");
        }
    }

    #[test]
    fn file_of_another_version_is_refused() {
        let error = |json| {
            let parsed = from_json(json).expect("one of ours");
            parsed.expect_err("another version")
        };
        assert!(error(r#"{"bdh_tokenizer":2,"kind":"bytes"}"#).starts_with("its format is 2, and"));
        assert!(error(r#"{"bdh_tokenizer":1,"kind":"words"}"#).contains("words"));
        assert!(from_json(r#"{"version":"1.0"}"#).is_none());
        assert!(from_json("{").is_none());
    }
}
