//! Writing of nanochat's files.

use super::super::bpe::Bpe;
use super::super::error::TokenizerError;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
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
    check(bpe)?;
    let table = token_bytes(bpe);
    let written = fs::create_dir_all(dir)
        .and_then(|()| publish(dir, "tokenizer.pkl", |file| file.write_all(&pickle(bpe))))
        .and_then(|()| publish(dir, "token_bytes.pt", |file| write_table(file, &table)));
    written.map_err(|source| TokenizerError::Unwritable {
        path: dir.to_owned(),
        source,
    })
}

/// Checks that nanochat can use the tokenizer.
fn check(bpe: &Bpe) -> Result<(), TokenizerError> {
    let missing = SPECIAL.iter().find(|name| !bpe.special().contains_key(**name));
    let why = match missing {
        Some(name) => format!("it has no special token `{name}`"),
        None if bpe.parts().longest.is_some() => {
            "it cuts long words, which tiktoken does not".to_owned()
        }
        None => return Ok(()),
    };
    Err(TokenizerError::NotForNanochat { why })
}

/// Writes a file under a temporary name, and renames it when it is complete.
fn publish(
    dir: &Path,
    name: &str,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let scratch = dir.join(format!(".{name}.tmp"));
    let mut file = File::create(&scratch)?;
    write(&mut file)?;
    file.sync_all()?;
    fs::rename(scratch, dir.join(name))
}

/// Returns the pickle of an encoding of tiktoken, in protocol 4.
fn pickle(bpe: &Bpe) -> Vec<u8> {
    let parts = bpe.parts();
    let mut out = b"\x80\x04".to_vec();
    text(&mut out, "tiktoken.core");
    text(&mut out, "Encoding");
    out.extend(b"\x93)\x81}("); // the class, an object of it without arguments, the dictionary of its state
    text(&mut out, "name");
    text(&mut out, "bdh");
    text(&mut out, "pat_str");
    text(&mut out, &parts.pattern);
    text(&mut out, "mergeable_ranks");
    out.extend(b"}(");
    for (id, token) in parts.tokens.iter().enumerate() {
        if !token.is_empty() {
            bytes(&mut out, token);
            number(&mut out, id as u32);
        }
    }
    out.push(b'u');
    text(&mut out, "special_tokens");
    out.extend(b"}(");
    for (name, id) in &parts.special {
        text(&mut out, name);
        number(&mut out, *id as u32);
    }
    out.extend(b"uub.");
    out
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.as_bytes());
}

fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'B');
    out.extend((bytes.len() as u32).to_le_bytes());
    out.extend(bytes);
}

fn number(out: &mut Vec<u8>, number: u32) {
    out.push(b'J');
    out.extend(number.to_le_bytes());
}

/// Returns the number of bytes of each id as 32-bit integers.
fn token_bytes(bpe: &Bpe) -> Vec<u8> {
    let lengths = bpe.tokens().iter().map(|token| token.len() as i32);
    lengths.flat_map(i32::to_le_bytes).collect()
}

/// Writes a tensor of 32-bit integers as PyTorch does.
fn write_table(file: &mut File, table: &[u8]) -> io::Result<()> {
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut archive = ZipWriter::new(file);
    let entries = [
        ("archive/data.pkl", tensor_pickle(table.len() / 4)),
        ("archive/byteorder", b"little".to_vec()),
        ("archive/data/0", table.to_vec()),
        ("archive/version", b"3\n".to_vec()),
    ];
    for (name, content) in entries {
        archive.start_file(name, options.with_alignment(64))?;
        archive.write_all(&content)?;
    }
    archive.finish()?;
    Ok(())
}

/// Returns the pickle of a tensor of `count` 32-bit integers, in protocol 2.
fn tensor_pickle(count: usize) -> Vec<u8> {
    let mut out = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((".to_vec();
    text(&mut out, "storage");
    out.extend(b"ctorch\nIntStorage\n");
    text(&mut out, "0");
    text(&mut out, "cpu");
    number(&mut out, count as u32);
    out.extend(b"tQK\x00"); // the storage, from its start
    number(&mut out, count as u32);
    out.extend(b"\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtR."); // shape, stride, no gradient, no hooks
    out
}
