//! Hugging Face's `tokenizer.json`.

use super::bpe::bos_of;
use super::byte_level::bytes_of;
use std::collections::BTreeMap;
use std::str::FromStr;

/// Tokenizer of Hugging Face, run by their library.
#[derive(Debug, Clone)]
pub(super) struct HuggingFace {
    inner: Box<tokenizers::Tokenizer>,
    /// The file, to save it with a run.
    json: String,
    /// Bytes of each id; empty for special tokens.
    tokens: Vec<Vec<u8>>,
    special: BTreeMap<String, i32>,
    bos: i32,
}

impl HuggingFace {
    /// Parses the content of a file.
    pub(super) fn parse(json: String) -> Result<Self, String> {
        let mut inner = tokenizers::Tokenizer::from_str(&json).map_err(|error| error.to_string())?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| error.to_string())?;
        let mut special = BTreeMap::new();
        for (id, token) in inner.get_added_tokens_decoder() {
            if token.special {
                special.insert(token.content, id as i32);
            }
        }
        Ok(Self {
            bos: bos_of(&special)?,
            tokens: tokens(&inner, &special, json.contains("ByteLevel")),
            inner: Box::new(inner),
            json,
            special,
        })
    }

    pub(super) fn encode(&self, text: &str) -> Vec<i32> {
        match self.inner.encode_fast(text, false) {
            Ok(encoding) => encoding.get_ids().iter().map(|id| *id as i32).collect(),
            Err(_) => Vec::new(), // a model without an unknown token, and a text that it does not know
        }
    }

    pub(super) fn json(&self) -> &str {
        &self.json
    }

    pub(super) fn tokens(&self) -> &[Vec<u8>] {
        &self.tokens
    }

    pub(super) fn special(&self) -> &BTreeMap<String, i32> {
        &self.special
    }

    pub(super) fn bos(&self) -> i32 {
        self.bos
    }
}

/// Returns the bytes of each id.
fn tokens(
    inner: &tokenizers::Tokenizer,
    special: &BTreeMap<String, i32>,
    is_byte_level: bool,
) -> Vec<Vec<u8>> {
    let size = inner.get_vocab_size(true) as u32;
    let mut tokens = Vec::with_capacity(size as usize);
    for id in 0..size {
        let token = inner.id_to_token(id).unwrap_or_default();
        let is_special = special.get(&token) == Some(&(id as i32));
        tokens.push(match byte(&token) {
            _ if is_special => Vec::new(),
            _ if is_byte_level => bytes_of(&token),
            Some(byte) => vec![byte],
            None => token.replace('▁', " ").into_bytes(), // SentencePiece's mark of a space
        });
    }
    tokens
}

/// Parses a token of a byte that has no token of its own, such as `<0x0A>`.
fn byte(token: &str) -> Option<u8> {
    let hex = token.strip_prefix("<0x")?.strip_suffix('>')?;
    u8::from_str_radix(hex, 16).ok()
}
