//! nanochat's files: `tokenizer.pkl`, a pickled encoding of tiktoken, and `token_bytes.pt`.

mod write;

pub(super) use write::write;

use super::bpe::{Bpe, Parts};
use super::error::TokenizerError;
use super::pickle::{self, Value};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use zip::ZipArchive;

/// Class of the pickled object.
const ENCODING: &str = "tiktoken.core Encoding";

/// Largest file that is read.
const MOST_BYTES: u64 = 256 << 20;

/// Largest id, so that a small file cannot ask for a large table.
const MOST_IDS: usize = 1 << 24;

/// Reads `tokenizer.pkl`, and compares it with `token_bytes.pt` beside it if there is one.
pub(super) fn read(path: &Path) -> Result<Bpe, TokenizerError> {
    let bytes = read_file(path)?;
    let bpe = pickle::parse(&bytes, &[ENCODING])
        .and_then(|value| parts(&value))
        .and_then(Bpe::new)
        .map_err(|why| damaged(path, why))?;
    let beside = path.with_file_name("token_bytes.pt");
    if beside.exists() {
        let expected: Vec<_> = bpe.tokens().iter().map(|token| token.len() as u32).collect();
        if read_token_bytes(&beside)? != expected {
            let why = "its table differs from the lengths of the tokens in `tokenizer.pkl`";
            return Err(damaged(&beside, why.to_owned()));
        }
    }
    Ok(bpe)
}

/// Reads nanochat's `token_bytes.pt`: the number of bytes of each id, 0 for special tokens.
///
/// # Errors
///
/// [`TokenizerError::Unreadable`] if the file cannot be read, [`TokenizerError::Damaged`] if it is not such a table.
pub fn read_token_bytes(path: &Path) -> Result<Vec<u32>, TokenizerError> {
    let file = File::open(path).map_err(|source| unreadable(path, source))?;
    let mut archive = ZipArchive::new(file).map_err(|error| damaged(path, error.to_string()))?;
    let pickle = entry(&mut archive, path, "/data.pkl")?;
    let data = entry(&mut archive, path, "/data/0")?;
    let width = width(&pickle).map_err(|why| damaged(path, why))?;
    let mut table = Vec::with_capacity(data.len() / width);
    for number in data.chunks_exact(width) {
        table.push(u32::from_le_bytes([number[0], number[1], number[2], number[3]])); // the lengths are small
    }
    Ok(table)
}

/// Returns the bytes of a number in a pickled tensor of integers.
fn width(pickle: &[u8]) -> Result<usize, String> {
    const CLASSES: [&str; 4] = [
        "torch._utils _rebuild_tensor_v2",
        "torch IntStorage",
        "torch LongStorage",
        "collections OrderedDict",
    ];
    let value = format!("{:?}", pickle::parse(pickle, &CLASSES)?);
    if value.contains("IntStorage") {
        Ok(4)
    } else if value.contains("LongStorage") {
        Ok(8)
    } else {
        Err("it is no tensor of integers".to_owned())
    }
}

/// Reads the entry of a zip archive whose name ends so.
fn entry(
    archive: &mut ZipArchive<File>,
    path: &Path,
    end: &str,
) -> Result<Vec<u8>, TokenizerError> {
    let place = archive.file_names_raw().position(|name| name.ends_with(end.as_bytes()));
    let Some(place) = place else {
        return Err(damaged(path, format!("it has no `{end}`")));
    };
    let found = archive.by_index(place).map_err(|error| damaged(path, error.to_string()))?;
    let mut bytes = Vec::new();
    found
        .take(MOST_BYTES)
        .read_to_end(&mut bytes)
        .map_err(|source| unreadable(path, source))?;
    Ok(bytes)
}

fn read_file(path: &Path) -> Result<Vec<u8>, TokenizerError> {
    let found = path.metadata().map_err(|source| unreadable(path, source))?;
    if found.len() > MOST_BYTES {
        return Err(damaged(path, format!("it has {} bytes", found.len())));
    }
    fs::read(path).map_err(|source| unreadable(path, source))
}

/// Returns the content of a pickled encoding.
fn parts(value: &Value) -> Result<Parts, String> {
    let Value::Object(_, state) = value else {
        return Err("it is no pickled encoding of tiktoken".to_owned());
    };
    let Some(Value::Str(pattern)) = field(state, "pat_str") else {
        return Err("it has no pattern: an encoding that tiktoken knows by name is not in the file".to_owned());
    };
    let ranks = dict(state, "mergeable_ranks")?;
    let special_tokens = dict(state, "special_tokens")?;
    let mut tokens = Vec::new();
    for (token, rank) in ranks {
        let (Value::Bytes(token), Value::Int(rank)) = (token, rank) else {
            return Err("its ranks are no dictionary of bytes and numbers".to_owned());
        };
        let place = place(&mut tokens, *rank)?;
        if !place.is_empty() {
            return Err(format!("two tokens have the rank {rank}"));
        }
        *place = token.to_vec();
    }
    let mut special = BTreeMap::new();
    for (name, id) in special_tokens {
        let (Value::Str(name), Value::Int(id)) = (name, id) else {
            return Err("its special tokens are no dictionary of names and numbers".to_owned());
        };
        place(&mut tokens, *id)?;
        special.insert(name.to_string(), *id as i32);
    }
    Ok(Parts {
        pattern: pattern.to_string(),
        longest: None,
        tokens,
        special,
    })
}

/// Returns the place of an id in a table, which grows if necessary.
fn place(tokens: &mut Vec<Vec<u8>>, id: i64) -> Result<&mut Vec<u8>, String> {
    let id = usize::try_from(id).ok().filter(|id| *id < MOST_IDS);
    let id = id.ok_or("a token has a negative id or one beyond 16 million")?;
    if id >= tokens.len() {
        tokens.resize(id + 1, Vec::new());
    }
    Ok(&mut tokens[id])
}

fn field<'a>(state: &'a Value, name: &str) -> Option<&'a Value> {
    let Value::Dict(fields) = state else {
        return None;
    };
    let found = fields.iter().find(|(key, _)| matches!(key, Value::Str(key) if &**key == name));
    found.map(|(_, value)| value)
}

fn dict<'a>(state: &'a Value, name: &str) -> Result<&'a [(Value, Value)], String> {
    match field(state, name) {
        Some(Value::Dict(items)) => Ok(items),
        _ => Err(format!("it has no dictionary `{name}`")),
    }
}

fn damaged(path: &Path, why: String) -> TokenizerError {
    TokenizerError::Damaged {
        path: path.to_owned(),
        why,
    }
}

fn unreadable(path: &Path, source: std::io::Error) -> TokenizerError {
    TokenizerError::Unreadable {
        path: path.to_owned(),
        source,
    }
}
