//! nanochat's files: `tokenizer.pkl`, a pickled encoding of tiktoken, and `token_bytes.pt`.

mod table;
mod write;

pub use table::read_token_bytes;
pub(super) use write::write;

use super::bpe::{Bpe, MOST_IDS, Parts};
use super::error::TokenizerError;
use super::pickle::{self, Expected, Value};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Class of the pickled object.
const ENCODING: Expected = Expected {
    classes: &["tiktoken.core Encoding"],
    name: "tiktoken's Encoding",
};

/// Largest file. nanochat's has half a megabyte.
const MOST_BYTES: u64 = 64 << 20;

/// Reads `tokenizer.pkl`, and compares it with `token_bytes.pt` beside it if there is one.
pub(super) fn read(path: &Path) -> Result<Bpe, TokenizerError> {
    let bpe = parse(&read_file(path)?).map_err(|why| TokenizerError::damaged(path, why))?;
    let beside = path.with_file_name("token_bytes.pt");
    if beside.exists() {
        compare(&bpe, &beside)?;
    }
    Ok(bpe)
}

/// Reads a file, unless it is too large for a vocabulary.
fn read_file(path: &Path) -> Result<Vec<u8>, TokenizerError> {
    let unreadable = |source| TokenizerError::unreadable(path, source);
    let bytes = path.metadata().map_err(unreadable)?.len();
    if bytes > MOST_BYTES {
        let why = format!("it has {bytes} bytes, and no vocabulary has more than {MOST_BYTES}");
        return Err(TokenizerError::damaged(path, why));
    }
    fs::read(path).map_err(unreadable)
}

/// Makes the tokenizer of a pickle.
fn parse(bytes: &[u8]) -> Result<Bpe, String> {
    let Value::Object(_, state) = pickle::parse(bytes, ENCODING)? else {
        return Err("the pickle is no encoding of tiktoken".to_owned());
    };
    let Value::Dict(state) = *state else {
        let why = "the pickle has only the name of an encoding, without its vocabulary";
        return Err(why.to_owned());
    };
    let (tokens, special) = vocabulary(&state)?;
    Bpe::new(Parts {
        pattern: field(&state, "pat_str", as_text)?.to_owned(),
        longest: None,
        tokens,
        special,
    })
}

/// Bytes of each id, and ids of special tokens.
type Vocabulary = (Vec<Vec<u8>>, BTreeMap<String, i32>);

/// Returns the tokens of a pickled encoding.
fn vocabulary(state: &[(Value, Value)]) -> Result<Vocabulary, String> {
    let mut tokens = Vec::new();
    for (token, rank) in field(state, "mergeable_ranks", as_dict)? {
        let Value::Bytes(token) = token else {
            return Err("a key of `mergeable_ranks` is not bytes".to_owned());
        };
        let rank = as_id(rank)?;
        let place = place(&mut tokens, rank);
        if !place.is_empty() {
            return Err(format!("two tokens have the rank {rank}"));
        }
        *place = token.to_vec();
    }
    let mut special = BTreeMap::new();
    for (name, id) in field(state, "special_tokens", as_dict)? {
        let name = as_text(name).ok_or("a key of `special_tokens` is no text")?;
        let id = as_id(id)?;
        place(&mut tokens, id);
        special.insert(name.to_owned(), id as i32);
    }
    Ok((tokens, special))
}

/// Returns the place of an id in a table, which grows if necessary.
fn place(tokens: &mut Vec<Vec<u8>>, id: usize) -> &mut Vec<u8> {
    if id >= tokens.len() {
        tokens.resize(id + 1, Vec::new());
    }
    &mut tokens[id]
}

fn as_id(value: &Value) -> Result<usize, String> {
    match value {
        Value::Int(id) if (0..MOST_IDS as i64).contains(id) => Ok(*id as usize),
        Value::Int(id) => Err(format!("the id {id} is not from 0 to {MOST_IDS}")),
        _ => Err("an id is no integer".to_owned()),
    }
}

fn as_text(value: &Value) -> Option<&str> {
    match value {
        Value::Str(text) => Some(text),
        _ => None,
    }
}

fn as_dict(value: &Value) -> Option<&[(Value, Value)]> {
    match value {
        Value::Dict(items) => Some(items),
        _ => None,
    }
}

/// Returns a field of the pickled state.
fn field<'a, T: ?Sized>(
    state: &'a [(Value, Value)],
    name: &str,
    kind: impl Fn(&'a Value) -> Option<&'a T>,
) -> Result<&'a T, String> {
    let mut fields = state.iter();
    let found = fields.find(|(key, _)| as_text(key) == Some(name));
    let value = found.and_then(|(_, value)| kind(value));
    value.ok_or_else(|| format!("the pickle has no `{name}` of the right kind"))
}

/// Compares the lengths of the tokens with those in `token_bytes.pt`.
fn compare(bpe: &Bpe, path: &Path) -> Result<(), TokenizerError> {
    let table = read_token_bytes(path)?;
    let tokens = bpe.tokens();
    let why = if table.len() == tokens.len() {
        let mut pairs = tokens.iter().zip(&table);
        let Some(id) = pairs.position(|(token, bytes)| token.len() != *bytes as usize) else {
            return Ok(());
        };
        let (expected, found) = (tokens[id].len(), table[id]);
        format!("id {id} has {found} bytes there and {expected} in `tokenizer.pkl`")
    } else {
        let (expected, found) = (tokens.len(), table.len());
        format!("it has {found} ids, and `tokenizer.pkl` has {expected}")
    };
    let why = format!("{why}: they belong to two tokenizers");
    Err(TokenizerError::damaged(path, why))
}
