//! GPT-2's files: `vocab.json` and `merges.txt`.

use super::bpe::{BOS_NAMES, Bpe, Parts};
use super::byte_level::{bytes_of, bytes_of_tokens};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use tokenizers::Model;
use tokenizers::models::bpe::BPE;

/// GPT-2's split pattern. Source: GPT-2's `encoder.py`.
const SPLIT: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// Reads the tokenizer in a directory.
pub(super) fn read(dir: &Path) -> Result<Bpe, bdh::BoxError> {
    let (vocab, merges) = (dir.join("vocab.json"), dir.join("merges.txt"));
    let model = BPE::from_file(&vocab.to_string_lossy(), &merges.to_string_lossy()).build()?;
    check_ids(&model)?;
    let mut tokens = bytes_of_tokens(&model);
    let special = take_special(&model, &mut tokens);
    check_order(&fs::read_to_string(merges)?, &tokens)?;
    Ok(Bpe::new(Parts {
        pattern: SPLIT.to_owned(),
        longest: None,
        tokens,
        special,
    })?)
}

/// Checks that a vocabulary has every id below its size.
fn check_ids(model: &BPE) -> Result<(), bdh::BoxError> {
    let size = model.get_vocab_size() as u32;
    match (0..size).find(|id| model.id_to_token(*id).is_none()) {
        Some(id) => Err(format!("the vocabulary has {size} tokens, but not the id {id}").into()),
        None => Ok(()),
    }
}

/// Finds the special tokens by their names. They have no text.
fn take_special(model: &BPE, tokens: &mut [Vec<u8>]) -> BTreeMap<String, i32> {
    let mut special = BTreeMap::new();
    for name in BOS_NAMES {
        if let Some(id) = model.token_to_id(name) {
            tokens[id as usize].clear();
            special.insert(name.to_owned(), id as i32);
        }
    }
    special
}

/// Checks that the ids of merged tokens rise in the order of the merges, as the ids are their ranks.
fn check_order(merges: &str, tokens: &[Vec<u8>]) -> Result<(), bdh::BoxError> {
    let mut ids = BTreeMap::new();
    for (id, token) in tokens.iter().enumerate() {
        ids.insert(token.as_slice(), id);
    }
    let mut last = 0;
    for line in merges.lines().filter(|line| !line.starts_with("#version")) {
        let merged = bytes_of(&line.replacen(' ', "", 1));
        let Some(id) = ids.get(merged.as_slice()).copied() else {
            continue; // an empty line
        };
        if id < last {
            return Err(format!("the id of the merge `{line}` is lower than that of an earlier one").into());
        }
        last = id;
    }
    Ok(())
}
