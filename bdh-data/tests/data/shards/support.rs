//! Files of shards, byte for byte as other programs write them.

use bdh_data::{RowHeader, RowWriter, TokenShards};
use std::fs;
use std::path::{Path, PathBuf};

/// Directory of shards, which is deleted at the end.
pub(super) struct Home(tempfile::TempDir);

impl Home {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path().join(name);
        fs::write(&path, bytes).expect("a file");
        path
    }

    /// Returns the names of all files, sorted.
    pub(super) fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.path()).expect("a directory") {
            let name = entry.expect("an entry").file_name();
            names.push(name.to_string_lossy().into_owned());
        }
        names.sort();
        names
    }

    /// Writes rows into shards with the given numbers of rows, and opens them.
    pub(super) fn rows(&self, rows: &[Vec<i32>], shards: &[usize]) -> TokenShards {
        let row_len = rows.first().map_or(4, |row| row.len() - 1);
        let mut rest = rows.iter();
        let mut paths = Vec::new();
        for (number, &count) in shards.iter().enumerate() {
            let path = self.path().join(format!("train_{number:05}.bin"));
            let mut writer = RowWriter::create(&path, header(row_len)).expect("a writer");
            for row in rest.by_ref().take(count) {
                writer.push(row).expect("a row");
            }
            assert_eq!(writer.finish().expect("a shard"), count as u64);
            paths.push(path);
        }
        TokenShards::open(paths).expect("shards")
    }

    /// Writes one shard for each stream, and opens them.
    pub(super) fn streams(&self, streams: &[Vec<u16>], is_npy: bool) -> TokenShards {
        let mut paths = Vec::new();
        for (number, ids) in streams.iter().enumerate() {
            let name = format!("a_train_{number}");
            paths.push(if is_npy {
                self.write(&format!("{name}.npy"), &npy(ids))
            } else {
                self.write(&format!("{name}.bin"), &stream(ids))
            });
        }
        TokenShards::open(paths).expect("shards")
    }
}

pub(super) fn header(row_len: usize) -> RowHeader {
    RowHeader {
        row_len,
        vocab_size: 60_000,
        tokenizer_id: -3,
    }
}

/// Returns a shard of rows; the numbers are row_len, num_rows, vocab_size and tokenizer_id.
pub(super) fn rows_bytes(numbers: [i32; 4], inputs: &[u16], targets: &[u16]) -> Vec<u8> {
    let mut bytes = numbers_of_header(&[&[20_260_902, 1], &numbers[..]].concat(), 64);
    bytes.extend(ids(inputs));
    bytes.extend(ids(targets));
    bytes
}

/// Returns a shard as modded-nanogpt's `cached_fineweb10B.py` downloads them.
pub(super) fn stream(tokens: &[u16]) -> Vec<u8> {
    let mut bytes = numbers_of_header(&[20_240_520, 1, tokens.len() as i32], 256);
    bytes.extend(ids(tokens));
    bytes
}

/// Returns a shard as `numpy.save` writes it.
pub(super) fn npy(tokens: &[u16]) -> Vec<u8> {
    let len = tokens.len();
    let text = format!("{{'descr': '<u2', 'fortran_order': False, 'shape': ({len},), }}");
    let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    bytes.extend(format!("{text:<117}\n").bytes());
    bytes.extend(ids(tokens));
    bytes
}

fn numbers_of_header(numbers: &[i32], len: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
    bytes.resize(4 * len, 0);
    bytes
}

fn ids(ids: &[u16]) -> impl Iterator<Item = u8> {
    ids.iter().flat_map(|id| id.to_le_bytes())
}
