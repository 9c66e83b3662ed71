//! GPT-2's files: `vocab.json` and `merges.txt`.

use super::Tokenizer;
use super::bpe::{Bpe, Parts};
use super::byte_level::{bytes_of, bytes_of_tokens};
use super::hugging_face::HuggingFace;
use super::split::GPT2;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::Path;
use tokenizers::Model;
use tokenizers::models::bpe::BPE;

/// Reads the tokenizer in a directory.
///
/// Its ids are ranks if they rise with the merges, as those of GPT-2 do. Other files are left to Hugging Face's library,
/// because a merge of theirs may come before another one with a lower id.
pub(super) fn read(dir: &Path) -> Result<Tokenizer, bdh::BoxError> {
    let (vocab, merges) = (dir.join("vocab.json"), dir.join("merges.txt"));
    let model = BPE::from_file(&vocab.to_string_lossy(), &merges.to_string_lossy()).build()?;
    check_ids(&model)?;
    let mut tokens = bytes_of_tokens(&model);
    let made = made(&fs::read_to_string(merges)?);
    let special = take_special(&model, &mut tokens, &made);
    if !is_ranked(&made, &tokens) {
        check_bytes(&tokens)?;
        let other = HuggingFace::gpt2(model, &special)?;
        return Ok(Tokenizer::HuggingFace(Box::new(other)));
    }
    let bpe = Bpe::new(Parts {
        pattern: GPT2.to_owned(),
        longest: None,
        tokens,
        special,
    })?;
    Ok(Tokenizer::Bpe(Box::new(bpe)))
}

/// Checks that a vocabulary has every id below its size.
fn check_ids(model: &BPE) -> Result<(), bdh::BoxError> {
    let size = model.get_vocab_size() as u32;
    match (0..size).find(|id| model.id_to_token(*id).is_none()) {
        Some(id) => Err(format!("the vocabulary has {size} tokens, but not the id {id}").into()),
        None => Ok(()),
    }
}

/// Checks that each byte is a token, so that every text has ids.
fn check_bytes(tokens: &[Vec<u8>]) -> Result<(), bdh::BoxError> {
    match (0..=u8::MAX).find(|byte| !tokens.contains(&vec![*byte])) {
        Some(byte) => Err(format!("the vocabulary has no token for the byte {byte:#04x}").into()),
        None => Ok(()),
    }
}

/// Returns the tokens that the merges make, in their order.
fn made(merges: &str) -> Vec<Vec<u8>> {
    let mut made = Vec::new();
    for line in merges.lines() {
        if !line.starts_with("#version") {
            made.push(bytes_of(&line.replacen(' ', "", 1)));
        }
    }
    made
}

/// Finds the special tokens, which no merge makes, and removes their text.
fn take_special(model: &BPE, tokens: &mut [Vec<u8>], made: &[Vec<u8>]) -> BTreeMap<String, i32> {
    let made: HashSet<_> = made.iter().collect();
    let mut special = BTreeMap::new();
    for (id, token) in tokens.iter_mut().enumerate() {
        if token.len() > 1 && !made.contains(&*token) {
            token.clear();
            let name = model.id_to_token(id as u32).unwrap_or_default();
            special.insert(name, id as i32);
        }
    }
    special
}

/// Returns whether the ids of merged tokens rise with the merges, so that an id is the rank of its merge.
fn is_ranked(made: &[Vec<u8>], tokens: &[Vec<u8>]) -> bool {
    let ids: HashMap<_, _> = tokens.iter().zip(0..).collect();
    let ids = made.iter().map(|token| ids.get(token).copied());
    let ids: Option<Vec<i32>> = ids.collect();
    ids.is_some_and(|ids| ids.is_sorted_by(|one, next| one < next))
}
