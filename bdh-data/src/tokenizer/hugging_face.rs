//! Hugging Face's `tokenizer.json`, run by their library.

use super::bpe::{MOST_IDS, bos_of};
use super::byte_level::bytes_of;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::str::FromStr;
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, DecoderWrapper};

/// Text in letters that few vocabularies have. A model that refuses it would refuse some text of a user.
const RARE: &str = "\u{12345} \u{a66e} \u{10380}";

/// Tokenizer of Hugging Face, which their library runs.
#[derive(Debug, Clone)]
pub struct HuggingFace {
    inner: tokenizers::Tokenizer,
    /// Content of the file, which is saved with a run.
    json: String,
    /// Bytes of each id; empty for special tokens.
    tokens: Vec<Vec<u8>>,
    special: BTreeMap<String, i32>,
    bos: i32,
}

impl HuggingFace {
    /// Parses the content of a file.
    pub(super) fn parse(json: String) -> Result<Self, String> {
        let inner = open(&json).map_err(|error| error.to_string())?;
        if let Err(error) = inner.encode_fast(RARE, false) {
            return Err(format!("it has no ids for unknown letters ({error})"));
        }
        let special = special(&inner);
        Ok(Self {
            bos: bos_of(&special)?,
            tokens: tokens(&inner)?,
            inner,
            json,
            special,
        })
    }

    /// Makes GPT-2's tokenizer with other merges and special tokens.
    pub(super) fn gpt2(model: BPE, special: &BTreeMap<String, i32>) -> Result<Self, bdh::BoxError> {
        let mut inner = tokenizers::Tokenizer::new(model);
        let bytes = ByteLevel::new(false, true, true); // adds no leading space, splits by GPT-2's pattern
        inner.with_pre_tokenizer(Some(bytes));
        inner.with_decoder(Some(bytes));
        let names = special.keys().map(|name| AddedToken::from(name, true));
        inner.add_special_tokens(&names.collect::<Vec<_>>());
        Ok(Self::parse(inner.to_string(false)?)?)
    }

    pub(super) fn encode(&self, text: &str) -> Vec<i32> {
        match self.inner.encode_fast(text, false) {
            Ok(encoding) => encoding.get_ids().iter().map(|id| *id as i32).collect(),
            Err(_) => Vec::new(), // a text of letters that it does not know, against the test of `parse`
        }
    }

    /// Encodes documents on all cores.
    pub(super) fn encode_all(&self, documents: &[String]) -> Vec<Vec<i32>> {
        documents.par_iter().map(|text| self.encode(text)).collect()
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

/// Opens the content of a file for whole texts, in which special tokens are text.
fn open(json: &str) -> tokenizers::Result<tokenizers::Tokenizer> {
    let mut inner = tokenizers::Tokenizer::from_str(json)?;
    inner.with_padding(None);
    inner.with_truncation(None)?;
    inner.set_encode_special_tokens(true);
    Ok(inner)
}

/// Returns the ids of special tokens by their names.
fn special(inner: &tokenizers::Tokenizer) -> BTreeMap<String, i32> {
    let mut special = BTreeMap::new();
    for (id, token) in inner.get_added_tokens_decoder() {
        if token.special {
            special.insert(token.content, id as i32);
        }
    }
    special
}

/// Returns the bytes of each id; none for special tokens.
fn tokens(inner: &tokenizers::Tokenizer) -> Result<Vec<Vec<u8>>, String> {
    let vocab = inner.get_vocab(true);
    let last = vocab.values().max().copied().unwrap_or_default() as usize;
    if last >= MOST_IDS {
        return Err(format!(
            "it has the id {last}, and ids are below {MOST_IDS}"
        ));
    }
    let is_byte_level = matches!(inner.get_decoder(), Some(DecoderWrapper::ByteLevel(_)));
    let mut tokens = vec![Vec::new(); last + 1];
    for (token, id) in vocab {
        tokens[id as usize] = if is_byte_level {
            bytes_of(&token)
        } else {
            bytes_of_piece(&token)
        };
    }
    for (id, token) in inner.get_added_tokens_decoder() {
        tokens[id as usize] = if token.special {
            Vec::new()
        } else {
            token.content.into_bytes()
        };
    }
    Ok(tokens)
}

/// Returns the bytes of a token of SentencePiece, in which `▁` is a space and `<0x0A>` a byte.
fn bytes_of_piece(token: &str) -> Vec<u8> {
    let hex = token
        .strip_prefix("<0x")
        .and_then(|rest| rest.strip_suffix('>'));
    match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
        Some(byte) => vec![byte],
        None => token.replace('▁', " ").into_bytes(),
    }
}
