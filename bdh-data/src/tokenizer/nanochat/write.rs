//! Writing of nanochat's files.

use super::super::bpe::Bpe;
use super::super::error::TokenizerError;
use super::super::files::publish;
use std::fs;
use std::io::{self, Cursor, Write};
use std::path::Path;
use zip::result::ZipResult;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Special tokens that nanochat's programs look up.
const SPECIAL: [&str; 9] = [
    "<|bos|>",
    "<|user_start|>",
    "<|user_end|>",
    "<|assistant_start|>",
    "<|assistant_end|>",
    "<|python_start|>",
    "<|python_end|>",
    "<|output_start|>",
    "<|output_end|>",
];

/// Writes `tokenizer.pkl` and `token_bytes.pt` to a directory, which is created.
pub(in super::super) fn write(bpe: &Bpe, dir: &Path) -> Result<(), TokenizerError> {
    check(bpe).map_err(|why| TokenizerError::NotForNanochat { why })?;
    write_both(bpe, dir).map_err(|source| TokenizerError::Unwritable {
        path: dir.to_owned(),
        source,
    })
}

fn write_both(bpe: &Bpe, dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    publish(&dir.join("token_bytes.pt"), &tensor_file(bpe)?)?;
    publish(&dir.join("tokenizer.pkl"), &pickle(bpe))
}

/// Checks that nanochat can use the tokenizer.
fn check(bpe: &Bpe) -> Result<(), String> {
    let has = |name: &&str| bpe.special().contains_key(*name);
    let missing: Vec<_> = SPECIAL.into_iter().filter(|name| !has(name)).collect();
    if !missing.is_empty() {
        let missing = missing.join(", ");
        return Err(format!(
            "it has no {missing}; the tokenizer of a nanochat home has them"
        ));
    }
    match bpe.longest() {
        Some(longest) => Err(format!(
            "it cuts words after {longest} characters, which tiktoken does not"
        )),
        None => Ok(()),
    }
}

/// Returns the pickle of an encoding of tiktoken, in protocol 4.
fn pickle(bpe: &Bpe) -> Vec<u8> {
    let mut out = b"\x80\x04".to_vec();
    text(&mut out, "tiktoken.core");
    text(&mut out, "Encoding");
    out.extend(b"\x93)\x81}("); // the class, an object without arguments, the dictionary of its state
    text(&mut out, "name");
    text(&mut out, "bdh");
    text(&mut out, "pat_str");
    text(&mut out, bpe.pattern());
    text(&mut out, "mergeable_ranks");
    out.extend(b"}(");
    for (id, token) in bpe.tokens().iter().enumerate() {
        if !token.is_empty() {
            bytes(&mut out, token);
            number(&mut out, id as u32);
        }
    }
    out.push(b'u');
    text(&mut out, "special_tokens");
    out.extend(b"}(");
    for (name, id) in bpe.special() {
        text(&mut out, name);
        number(&mut out, *id as u32);
    }
    out.extend(b"uub.");
    out
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X'); // BINUNICODE
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.as_bytes());
}

fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'B'); // BINBYTES
    out.extend((bytes.len() as u32).to_le_bytes());
    out.extend(bytes);
}

fn number(out: &mut Vec<u8>, number: u32) {
    out.push(b'J'); // BININT
    out.extend(number.to_le_bytes());
}

/// Returns the file of a tensor with the number of bytes of each id, as PyTorch writes it.
fn tensor_file(bpe: &Bpe) -> io::Result<Vec<u8>> {
    let lengths = bpe.tokens().iter().map(|token| token.len() as i32);
    let lengths: Vec<u8> = lengths.flat_map(i32::to_le_bytes).collect();
    let pickle = tensor_pickle(bpe.tokens().len() as u32);
    let file = archive(&[
        ("archive/data.pkl", &pickle),
        ("archive/byteorder", b"little"),
        ("archive/data/0", &lengths),
        ("archive/version", b"3\n"),
    ]);
    Ok(file?)
}

/// Returns an archive without compression.
fn archive(entries: &[(&str, &[u8])]) -> ZipResult<Vec<u8>> {
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .with_alignment(64); // PyTorch maps the numbers into memory
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in entries {
        archive.start_file(*name, options)?;
        archive.write_all(content)?;
    }
    Ok(archive.finish()?.into_inner())
}

/// Returns the pickle of a tensor of `count` 32-bit integers, in protocol 2.
fn tensor_pickle(count: u32) -> Vec<u8> {
    let mut out = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((".to_vec();
    text(&mut out, "storage");
    out.extend(b"ctorch\nIntStorage\n");
    text(&mut out, "0");
    text(&mut out, "cpu");
    number(&mut out, count);
    out.extend(b"tQK\x00"); // the storage, from its start
    number(&mut out, count);
    out.extend(b"\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtR."); // shape, stride, no gradient, no hooks
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::bpe::Parts;
    use crate::tokenizer::nanochat::{parse, read, read_token_bytes};
    use crate::tokenizer::split::NANOCHAT;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Vocabulary of bytes, two merges and nanochat's special tokens.
    fn small() -> Bpe {
        let mut tokens: Vec<_> = (0..=u8::MAX).map(|byte| vec![byte]).collect();
        tokens.extend([b"th".to_vec(), b"the".to_vec()]);
        let mut special = BTreeMap::new();
        for name in SPECIAL {
            special.insert(name.to_owned(), tokens.len() as i32);
            tokens.push(Vec::new());
        }
        let parts = Parts {
            pattern: NANOCHAT.to_owned(),
            longest: None,
            tokens,
            special,
        };
        Bpe::new(parts).expect("a sound vocabulary")
    }

    /// File of a tensor of `count` integers with these bytes.
    fn tensor_of(count: u32, bytes: &[u8]) -> Vec<u8> {
        let entries = archive(&[
            ("other/data.pkl", &tensor_pickle(count)),
            ("other/data/0", bytes),
        ]);
        entries.expect("an archive")
    }

    #[test]
    fn written_files_are_read_again() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let home = dir.path().join("tokenizer");
        write(&small(), &home).expect("a new directory");
        let again = read(&home.join("tokenizer.pkl")).expect("nanochat's files");
        assert_eq!(again.encode("the 日"), [257, 32, 0xE6, 0x97, 0xA5]);
        assert_eq!((again.bos(), again.special().len()), (258, 9));
        assert_eq!(
            (again.tokens(), again.pattern()),
            (small().tokens(), NANOCHAT)
        );
        let names = fs::read_dir(&home).expect("a directory").count();
        assert_eq!(names, 2, "no temporary file remains");
    }

    #[test]
    fn table_of_another_tokenizer_is_refused() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (pickle, table) = ("tokenizer.pkl", "token_bytes.pt");
        let at = |name| dir.path().join(name);
        write(&small(), dir.path()).expect("a directory");
        let sound = fs::read(at(table)).expect("a table");
        let place = sound
            .windows(8)
            .position(|bytes| bytes == [1, 0, 0, 0, 2, 0, 0, 0]);
        let mut other = sound.clone();
        other[place.expect("the last byte and `th`") + 4] = 3;
        fs::write(at(table), other).expect("a file");
        // zip checks the sum of an entry.
        let error = read(&at(pickle)).expect_err("a damaged table").to_string();
        assert!(
            error.contains("token_bytes.pt") && error.contains("data/0"),
            "{error}"
        );
        let lengths: Vec<u8> = (0..267_i32).flat_map(i32::to_le_bytes).collect();
        fs::write(at(table), tensor_of(267, &lengths)).expect("a file");
        let error = read(&at(pickle)).expect_err("another table").to_string();
        assert!(error.contains("id 0 has 0 bytes there and 1 in"), "{error}");
        fs::write(at(table), tensor_of(9, &[0; 36])).expect("a file");
        let error = read(&at(pickle)).expect_err("another table").to_string();
        assert!(
            error.contains("has 9 ids, and `tokenizer.pkl` has 267"),
            "{error}"
        );
        assert_eq!(read_token_bytes(&at(table)).expect("zeros"), [0; 9]);
    }

    #[test]
    fn table_that_ends_early_is_refused() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("token_bytes.pt");
        fs::write(&path, tensor_of(9, &[0; 35])).expect("a file");
        let error = read_token_bytes(&path)
            .expect_err("too few numbers")
            .to_string();
        assert!(error.contains("ends after 8 of 9 numbers"), "{error}");
        fs::write(&path, b"PK\x03\x04").expect("a file");
        assert!(read_token_bytes(&path).is_err());
    }

    proptest! {
        #[test]
        fn no_change_of_a_pickle_makes_it_panic(place in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
            let mut bytes = pickle(&small());
            let place = place.index(bytes.len());
            bytes[place] = byte;
            if cut {
                bytes.truncate(place);
            }
            let _ = parse(&bytes);
        }
    }
}
