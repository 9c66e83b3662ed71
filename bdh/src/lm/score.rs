//! Scores of given texts.

use super::batch::is_known;
use super::{CausalLm, TokenBatch, UnknownToken, loss, padded, values};
use crate::failure::BoxError;
use crate::probe::Probe;
use crate::text::TokenScore;
use burn::tensor::Tensor;

/// Scores each token of each row, except the first, in one forward pass over all rows and one device read.
///
/// Shorter rows are padded at their ends, where a causal model does not look: a row's scores are those it has alone,
/// up to rounding. The logits, `[rows, longest, vocab]`, are in memory at once.
///
/// No gradients are tracked, and dropout is off.
///
/// # Errors
///
/// [`UnknownToken`] if a row has an id that the model does not know, or an error if the device failed.
pub fn score<M: CausalLm>(model: &M, rows: &[&[i32]]) -> Result<Vec<Vec<TokenScore>>, BoxError> {
    check(model, rows)?;
    let longest = rows.iter().map(|row| row.len()).max().unwrap_or_default();
    if longest < 2 {
        return Ok(vec![Vec::new(); rows.len()]);
    }
    let model = model.valid(); // with autodiff, the forward pass would keep every activation
    let width = longest - 1;
    let read = values(losses_and_hits(&model, rows, width))?;
    let mut all = Vec::new();
    for (row, read) in rows.iter().zip(read.chunks_exact(2 * width)) {
        let (nats, hits) = read.split_at(width);
        let mut scores = token_scores(nats, hits);
        scores.truncate(row.len().saturating_sub(1)); // the rest is padding
        all.push(scores);
    }
    Ok(all)
}

fn token_scores(nats: &[f32], hits: &[f32]) -> Vec<TokenScore> {
    let mut scores = Vec::with_capacity(nats.len());
    for (&nats, &hit) in nats.iter().zip(hits) {
        scores.push(TokenScore {
            nats,
            is_likeliest: hit == 1.0,
        });
    }
    scores
}

/// Refuses ids that the model does not know: their effect would depend on the device.
fn check<M: CausalLm>(model: &M, rows: &[&[i32]]) -> Result<(), UnknownToken> {
    let Some(vocab_size) = model.vocab_size() else {
        return Ok(());
    };
    for (row, ids) in rows.iter().enumerate() {
        for (position, &id) in ids.iter().enumerate() {
            if !is_known(id, vocab_size) {
                return Err(UnknownToken {
                    id,
                    what: "to be scored",
                    row,
                    position,
                    vocab_size,
                });
            }
        }
    }
    Ok(())
}

/// Computes the loss of each target, and whether it is the likeliest id as 1 or 0: `[rows, width]` each, side by side.
fn losses_and_hits<M: CausalLm>(model: &M, rows: &[&[i32]], width: usize) -> Tensor<2> {
    let device = crate::device::of(model);
    let mut next = Vec::with_capacity(rows.len());
    for row in rows {
        next.push(row.get(1..).unwrap_or_default());
    }
    let inputs = padded(rows, width, None, &device);
    let targets = padded(&next, width, Some(TokenBatch::IGNORED), &device);
    let logits = model.logits(inputs, &Probe::off());
    let hits = loss::hits(logits.clone(), targets.clone()).float();
    Tensor::cat(vec![loss::token_nll(logits, targets), hits], 1)
}
