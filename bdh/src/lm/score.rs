//! How likely a model finds texts that are given.

use super::{CausalLm, TokenBatch, UnknownToken, loss};
use crate::failure::BoxError;
use crate::probe::Probe;
use crate::text::TokenScore;
use burn::tensor::{Device, Int, Tensor, TensorData};

/// Scores each token of each row but the first, in one forward pass over all rows and one device read.
///
/// Shorter rows are filled up behind their ends, where a causal model does not look: a row's scores are those that it
/// has alone, but for the last bit. The logits, `[rows, longest, vocab]`, are in memory at once.
///
/// Nothing is kept for a backward pass, and dropout is off, whether or not the model is in training.
///
/// # Errors
///
/// [`UnknownToken`] if a row has an id that the model does not know; or if the device failed.
pub fn score<M: CausalLm>(model: &M, rows: &[&[i32]]) -> Result<Vec<Vec<TokenScore>>, BoxError> {
    check(model, rows)?;
    let longest = rows.iter().map(|row| row.len()).max().unwrap_or_default();
    if longest < 2 {
        return Ok(vec![Vec::new(); rows.len()]);
    }
    let model = model.valid(); // on a tape, a pass would keep every activation
    let (inputs, targets) = shifted(rows, longest - 1, &crate::device::of(&model));
    let logits = model.logits(inputs, &Probe::off());
    let likeliest = logits
        .clone()
        .argmax(2)
        .squeeze_dim::<2>(2)
        .equal(targets.clone());
    let nats = loss::token_nats(logits, targets);
    let read = super::values(Tensor::cat(vec![nats, likeliest.float()], 1))?; // [rows, both of them, longest - 1]
    let scores = rows
        .iter()
        .zip(read.chunks_exact(2 * (longest - 1)))
        .map(|(row, read)| {
            let (nats, likeliest) = read.split_at(longest - 1);
            let tokens = nats.iter().zip(likeliest).take(row.len().saturating_sub(1));
            tokens
                .map(|(&nats, &is)| TokenScore {
                    nats,
                    is_likeliest: is == 1.0,
                })
                .collect()
        });
    Ok(scores.collect())
}

/// Refuses ids that the model does not know: what it would make of them depends on the device.
fn check<M: CausalLm>(model: &M, rows: &[&[i32]]) -> Result<(), UnknownToken> {
    let Some(vocab_size) = model.vocab_size() else {
        return Ok(());
    };
    let is_known = |id: &i32| usize::try_from(*id).is_ok_and(|id| id < vocab_size);
    let unknown = rows.iter().enumerate().find_map(|(row, ids)| {
        let position = ids.iter().position(|id| !is_known(id))?;
        Some(UnknownToken {
            id: ids[position],
            what: "to be scored",
            row,
            position,
            vocab_size,
        })
    });
    unknown.map_or(Ok(()), Err)
}

/// Every id but the last of each row, and the one that follows each; `[rows, width]` both.
fn shifted(rows: &[&[i32]], width: usize, device: &Device) -> (Tensor<2, Int>, Tensor<2, Int>) {
    let fill = |ids: &[i32], with: i32| -> Vec<i32> {
        ids.iter()
            .copied()
            .chain(std::iter::repeat(with))
            .take(width)
            .collect()
    };
    let known = |row: &[i32]| row.last().copied().unwrap_or_default(); // any id that there is
    let inputs = rows
        .iter()
        .flat_map(|row| fill(row, known(row)))
        .collect::<Vec<_>>();
    let targets = rows
        .iter()
        .flat_map(|row| fill(row.get(1..).unwrap_or_default(), TokenBatch::IGNORED));
    let on = |ids| Tensor::from_data(TensorData::new(ids, [rows.len(), width]), device);
    (on(inputs), on(targets.collect()))
}
