//! Shape of the model, by the laws or as requested.

use super::error::{self, RecipeError};
use super::{REFERENCE_DEPTH, Request};
use crate::nanochat::GptConfig;

/// Returns the requested model.
pub(super) fn of(request: &Request) -> Result<GptConfig, RecipeError> {
    match request.n_embd {
        Some(width) => config(request, request.depth, width),
        None => by_law(request, request.depth),
    }
}

/// Returns the model at which the learning rates were tuned, with the request's vocabulary, heads and aspect ratio.
pub(super) fn reference(request: &Request) -> Result<GptConfig, RecipeError> {
    by_law(request, REFERENCE_DEPTH)
}

fn by_law(request: &Request, depth: usize) -> Result<GptConfig, RecipeError> {
    let width = depth * request.aspect_ratio;
    config(
        request,
        depth,
        width.next_multiple_of(head_dim(request).max(1)),
    )
}

fn config(request: &Request, depth: usize, width: usize) -> Result<GptConfig, RecipeError> {
    let head_dim = head_dim(request);
    error::width(width, head_dim)?;
    let pattern = request.window_pattern.to_ascii_uppercase();
    if pattern.is_empty() || pattern.contains(|letter| letter != 'S' && letter != 'L') {
        return Err(RecipeError::WindowPattern {
            pattern: request.window_pattern.clone(),
        });
    }
    Ok(GptConfig {
        n_layer: depth,
        n_embd: width,
        n_head: width / head_dim,
        n_kv_head: width / head_dim, // nanochat's models have one key head for each query head
        vocab_size: request.vocab_size,
        sequence_len: request.sequence_len,
        window_pattern: pattern,
        precision: request.precision,
        version: request.version,
        short_seq_len: request.short_seq_len,
    })
}

/// Returns the head size: nanochat's 128, or 64 for a requested width, so that it divides small widths.
fn head_dim(request: &Request) -> usize {
    match (request.head_dim, request.n_embd) {
        (Some(head_dim), _) => head_dim,
        (None, Some(_)) => 64,
        (None, None) => 128,
    }
}
