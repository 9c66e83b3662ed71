//! Token shards of random ids, to measure loading.

use super::error::PrepareError;
use super::manifest::Manifest;
use super::write::Shards;
use super::{Prepared, lock, write};
use crate::order::below;
use crate::shards::RowHeader;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::path::Path;

/// Rows for validation.
const VAL_ROWS: u64 = 64;

/// Different rows; they repeat after these, so that writing is as fast as the disk.
const DIFFERENT: usize = 509;

/// Writes at least `tokens` random tokens as prepared data, to measure how fast it is read.
///
/// The ids stand for no text. An existing directory of prepared data is opened as it is.
///
/// # Errors
///
/// [`PrepareError::EmptyRow`] for rows of no tokens, [`PrepareError::Data`] for a vocabulary that does not fit into two
/// bytes, [`PrepareError::Io`] if the directory cannot be written.
pub fn synthetic_shards(
    dir: &Path,
    tokens: u64,
    vocab_size: usize,
    seq_len: usize,
    seed: u64,
) -> Result<Prepared, PrepareError> {
    if seq_len == 0 {
        return Err(PrepareError::EmptyRow);
    }
    let _lock = lock(dir)?;
    if let Some(prepared) = Prepared::open(dir)? {
        return Ok(prepared);
    }
    write::begin(dir)?;
    let header = RowHeader {
        row_len: seq_len,
        vocab_size,
        tokenizer_id: 0,
    };
    let rows = random_rows(vocab_size, seq_len, seed);
    let mut train = Shards::new("train", dir, header);
    let mut val = Shards::new("val", dir, header);
    for row in rows.iter().cycle() {
        if train.rows < tokens.div_ceil(seq_len as u64).max(1) {
            train.push(row)?;
        } else if val.rows < VAL_ROWS {
            val.push(row)?;
        } else {
            break;
        }
    }
    let manifest = Manifest {
        vocab_size,
        seq_len,
        seed,
        train: train.finish()?,
        val: val.finish()?,
        is_synthetic: true,
        ..Manifest::default()
    };
    write::complete(dir, &manifest)?;
    Prepared::open(dir)?.ok_or_else(|| PrepareError::vanished(dir))
}

/// Returns rows of random ids.
fn random_rows(vocab_size: usize, seq_len: usize, seed: u64) -> Vec<Vec<i32>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut rows = Vec::with_capacity(DIFFERENT);
    for _ in 0..DIFFERENT {
        let row = (0..=seq_len).map(|_| below(vocab_size.max(1), &mut rng) as i32);
        rows.push(row.collect());
    }
    rows
}
