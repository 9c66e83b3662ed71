//! Headers of numpy's `.npy` files.
//!
//! After the magic come two bytes of version, the length of the header in two bytes (version 1) or four, and the
//! header: a dictionary in Python's notation, such as `{'descr': '<u2', 'fortran_order': False, 'shape': (100,), }`.
//!
//! Source: numpy, `numpy.lib.format`.

use super::ShardFormat;
use super::error::ShardError;
use super::header::{HEAD, Header, damaged, not_a_shard};
use std::path::Path;

/// First bytes of every file.
pub(super) const MAGIC: &[u8] = b"\x93NUMPY";

/// Reads the header of an array of uint16 with one dimension.
pub(super) fn parse(path: &Path, head: &[u8]) -> Result<Header, ShardError> {
    let (text, data) = dictionary(path, head)?;
    let array = Array::parse(text).unwrap_or_default(); // of no known type
    let is_known = array.dtype == "<u2" && !array.is_fortran;
    match array.shape[..] {
        [len] if is_known => Ok(Header {
            format: ShardFormat::Npy,
            data,
            len,
            rows: None,
        }),
        _ => Err(not_a_shard(
            path,
            format!("it is an array {}", text.trim().escape_debug()),
        )),
    }
}

/// Returns the dictionary of a header, and the place of the first byte behind it.
fn dictionary<'a>(path: &Path, head: &'a [u8]) -> Result<(&'a str, u64), ShardError> {
    let (start, len) = place(path, head)?;
    let end = start + len;
    if end > HEAD {
        let found = format!("it is an array with a header of {len} bytes");
        return Err(not_a_shard(path, found)); // of one with many fields; ours has 118
    }
    let Some(text) = head.get(start..end) else {
        return Err(ends_early(path, head));
    };
    match std::str::from_utf8(text) {
        Ok(text) => Ok((text, end as u64)),
        Err(error) => Err(damaged(path, error.to_string())),
    }
}

/// Returns the place of the dictionary, and its length in bytes.
fn place(path: &Path, head: &[u8]) -> Result<(usize, usize), ShardError> {
    match *head.get(MAGIC.len()..).unwrap_or_default() {
        [1, _, low, high, ..] => Ok((10, u16::from_le_bytes([low, high]).into())),
        [2 | 3, _, a, b, c, d, ..] => Ok((12, u32::from_le_bytes([a, b, c, d]) as usize)),
        [version, ..] if !(1..=3).contains(&version) => {
            let why = format!("its version is {version}, and 1 to 3 are known");
            Err(damaged(path, why))
        }
        _ => Err(ends_early(path, head)),
    }
}

fn ends_early(path: &Path, head: &[u8]) -> ShardError {
    let why = format!("the file ends in it, after {} bytes", head.len());
    damaged(path, why)
}

/// Contents of a header.
#[derive(Debug, Default, PartialEq)]
struct Array<'a> {
    /// Type of the elements; empty if it has several fields.
    dtype: &'a str,
    is_fortran: bool,
    shape: Vec<u64>,
}

impl<'a> Array<'a> {
    /// Reads a dictionary with a string, a boolean and a tuple of numbers.
    fn parse(text: &'a str) -> Option<Self> {
        let mut array = Self::default();
        let mut rest = text.trim().strip_prefix('{')?.strip_suffix('}')?.trim();
        while !rest.is_empty() {
            let (key, after) = string(rest)?;
            let value = after.trim_start().strip_prefix(':')?.trim_start();
            rest = array.set(key, value)?.trim_start();
            rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
        }
        Some(array)
    }

    /// Sets a field to the value at the beginning of a text, and returns the rest.
    fn set(&mut self, key: &str, value: &'a str) -> Option<&'a str> {
        let (inside, rest) = match value.as_bytes().first()? {
            b'\'' | b'"' => string(value)?,
            b'(' => value.strip_prefix('(')?.split_once(')')?,
            _ => value.split_at(value.find([',', '}']).unwrap_or(value.len())),
        };
        match key {
            "descr" => self.dtype = inside,
            "fortran_order" => self.is_fortran = inside.trim() != "False",
            "shape" => self.shape = numbers(inside)?,
            _ => {} // a later version's
        }
        Some(rest)
    }
}

/// Returns the string at the beginning of a text, and the rest.
fn string(text: &str) -> Option<(&str, &str)> {
    let quote = if text.starts_with('"') { '"' } else { '\'' };
    text.strip_prefix(quote)?.split_once(quote)
}

fn numbers(tuple: &str) -> Option<Vec<u64>> {
    let mut numbers = Vec::new();
    for number in tuple.split(',') {
        let number = number.trim();
        if !number.is_empty() {
            numbers.push(number.parse().ok()?);
        }
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(version: u8, text: &str) -> Vec<u8> {
        let mut head = [MAGIC, &[version, 0]].concat();
        match version {
            1 => head.extend((text.len() as u16).to_le_bytes()),
            _ => head.extend((text.len() as u32).to_le_bytes()),
        }
        head.extend(text.as_bytes());
        head
    }

    fn found(head: &[u8]) -> String {
        match parse(Path::new("x"), head) {
            Ok(header) => format!("{} ids from byte {}", header.len, header.data),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn headers_of_every_version_are_read() {
        let text = "{'descr': '<u2', 'fortran_order': False, 'shape': (1000,), }   \n";
        let len = text.len();
        for (version, start) in [(1, 10), (2, 12), (3, 12)] {
            let expected = format!("1000 ids from byte {}", start + len);
            assert_eq!(found(&file(version, text)), expected);
        }
        let other = r#"{"shape":(7,),"descr":"<u2","fortran_order":False}"#;
        assert_eq!(found(&file(1, other)), "7 ids from byte 60");
    }

    #[test]
    fn arrays_of_another_kind_are_refused_with_their_header() {
        for (dtype, fortran, shape) in [
            ("'<i4'", "False", "(8,)"),
            ("'>u2'", "False", "(8,)"),
            ("'<u2'", "True", "(8,)"),
            ("'<u2'", "no", "(8,)"),
            ("'<u2'", "False", "(2, 4)"),
            ("'<u2'", "False", "()"),
        ] {
            let text =
                format!("{{'descr': {dtype}, 'fortran_order': {fortran}, 'shape': {shape}, }}");
            let error = found(&file(1, &text));
            assert!(
                error.contains("is not a token shard (it is an array {"),
                "{error}"
            );
            assert!(error.contains(shape), "{error}");
        }
        let fields = "{'descr': [('a', '<u2')], 'fortran_order': False, 'shape': (8,), }";
        assert!(found(&file(1, fields)).contains("is not a token shard"));
    }

    #[test]
    fn damaged_headers_are_refused_wherever_they_end() {
        let head = file(
            1,
            "{'descr': '<u2', 'fortran_order': False, 'shape': (8,), }\n",
        );
        for len in MAGIC.len()..head.len() {
            let error = found(&head[..len]);
            assert!(error.contains("is damaged"), "{len} bytes: {error}");
        }
        assert!(found(&file(9, "{}")).contains("its version is 9"));
        assert!(found(&file(2, &" ".repeat(5000))).contains("a header of 5000 bytes"));
        for text in ["", "{", "{'shape': (1x,)}", "{7: 1}", "{'descr'", "é: {'"] {
            let error = found(&file(1, text));
            assert!(error.contains("is not a token shard"), "{error}");
        }
    }
}
