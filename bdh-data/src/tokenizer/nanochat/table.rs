//! `token_bytes.pt`, a tensor of integers in PyTorch's format: a zip archive with a pickle and the numbers.

use super::super::bpe::MOST_IDS;
use super::super::error::TokenizerError;
use super::super::pickle::{self, Expected, Value};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use zip::ZipArchive;

/// Classes of a pickled tensor of integers.
const TENSOR: Expected = Expected {
    classes: &[
        "torch._utils _rebuild_tensor_v2",
        "torch IntStorage",
        "torch LongStorage",
        "collections OrderedDict",
    ],
    name: "a tensor of integers",
};

/// Place of the numbers of a tensor in its archive.
#[derive(Debug, PartialEq)]
struct Tensor {
    /// Name of the entry with the numbers.
    entry: String,
    /// Bytes of a number.
    width: usize,
    /// Place of the first number.
    offset: usize,
    /// Number of numbers.
    len: usize,
}

/// Reads nanochat's `token_bytes.pt`: the number of bytes of each id, 0 for special tokens.
///
/// # Errors
///
/// [`TokenizerError::Unreadable`] if the file cannot be read, [`TokenizerError::Damaged`] if it is not such a table.
pub fn read_token_bytes(path: &Path) -> Result<Vec<u32>, TokenizerError> {
    let file = File::open(path).map_err(|source| TokenizerError::unreadable(path, source))?;
    read(file).map_err(|why| TokenizerError::damaged(path, why))
}

fn read(file: File) -> Result<Vec<u32>, String> {
    let mut archive =
        ZipArchive::new(file).map_err(|error| format!("it is no archive ({error})"))?;
    let pickle = entry(&mut archive, "data.pkl")?;
    let tensor = tensor(&pickle::parse(&pickle, TENSOR)?)?;
    let data = entry(&mut archive, &format!("data/{}", tensor.entry))?;
    numbers(&tensor, &data)
}

/// Reads an entry of the archive, which is in a folder of any name.
fn entry(archive: &mut ZipArchive<File>, name: &str) -> Result<Vec<u8>, String> {
    let end = format!("/{name}");
    let place = archive
        .file_names_raw()
        .position(|name| name.ends_with(end.as_bytes()));
    let place = place.ok_or_else(|| format!("it has no entry `{name}`"))?;
    let damaged =
        |error: &dyn std::fmt::Display| format!("its entry `{name}` is damaged ({error})");
    let found = archive.by_index(place).map_err(|error| damaged(&error))?;
    let mut bytes = Vec::new();
    let most = 8 * MOST_IDS as u64 + 1; // the archive may promise any size
    found
        .take(most)
        .read_to_end(&mut bytes)
        .map_err(|error| damaged(&error))?;
    Ok(bytes)
}

/// Finds the numbers of a pickled tensor with one dimension.
fn tensor(value: &Value) -> Result<Tensor, String> {
    let fault = || "it is no tensor of integers with one dimension".to_owned();
    let Value::Object(_, args) = value else {
        return Err(fault());
    };
    let [
        Value::Persistent(storage),
        Value::Int(offset),
        shape,
        stride,
        ..,
    ] = items(args)
    else {
        return Err(fault());
    };
    let [_, Value::Class(class), Value::Str(entry), ..] = items(storage) else {
        return Err(fault());
    };
    let ([Value::Int(len)], [Value::Int(1)]) = (items(shape), items(stride)) else {
        return Err(fault());
    };
    Ok(Tensor {
        entry: entry.to_string(),
        width: match &**class {
            "torch IntStorage" => 4,
            "torch LongStorage" => 8,
            _ => return Err(fault()),
        },
        offset: usize::try_from(*offset).map_err(|_| fault())?,
        len: usize::try_from(*len).map_err(|_| fault())?,
    })
}

/// Returns the items of a tuple, none of another value.
fn items(value: &Value) -> &[Value] {
    match value {
        Value::Tuple(items) => items,
        _ => &[],
    }
}

/// Decodes the numbers of a tensor, which are small.
fn numbers(tensor: &Tensor, data: &[u8]) -> Result<Vec<u32>, String> {
    let all = data.chunks_exact(tensor.width);
    let mut table = Vec::new();
    for number in all.skip(tensor.offset).take(tensor.len) {
        let mut low = [0; 8];
        low[..tensor.width].copy_from_slice(number);
        let number = u64::from_le_bytes(low);
        let number = u32::try_from(number).map_err(|_| format!("a token has {number} bytes"))?;
        table.push(number);
    }
    if table.len() < tensor.len {
        return Err(format!(
            "it ends after {} of {} numbers",
            table.len(),
            tensor.len
        ));
    }
    Ok(table)
}
