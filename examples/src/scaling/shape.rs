//! The model that a depth stands for: its sizes, parameters and FLOPs.

use serde::Serialize;

use super::error::{self, RecipeError};
use super::{REFERENCE_DEPTH, Request};

/// Embedding tables and the head are padded to a multiple of this many rows.
const VOCAB_MULTIPLE: usize = 64;
/// Channels that the smear gate reads.
const SMEAR_CHANNELS: usize = 24;
/// Channels that a value embedding's gate reads.
const GATE_CHANNELS: usize = 12;
/// A short window is a quarter of the context, rounded up to a multiple of this.
const WINDOW_MULTIPLE: usize = 128;

/// The sizes of a nanochat model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shape {
    /// Transformer blocks.
    pub n_layer: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Query heads.
    pub n_head: usize,
    /// Key and value heads; as many as query heads, as in every model that nanochat trains.
    pub n_kv_head: usize,
    /// Channels of one head.
    pub head_dim: usize,
    /// Token ids, before padding.
    pub vocab_size: usize,
    /// Context length in tokens.
    pub sequence_len: usize,
    /// Attention windows, tiled over the layers; the last layer always sees everything.
    pub window_pattern: String,
}

/// Parameters by kind, grouped as nanochat prints them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ParamCounts {
    /// Token embedding.
    pub wte: u64,
    /// Value embeddings, on every other layer.
    pub value_embeds: u64,
    /// Output head.
    pub lm_head: u64,
    /// Everything inside the blocks, gates included.
    pub transformer: u64,
    /// Residual, smear and backout scalars, and the smear gate.
    pub scalars: u64,
}

impl ParamCounts {
    /// `P`, the parameters that the scaling laws go by: blocks and head.
    #[must_use]
    pub fn scaling(&self) -> u64 {
        self.transformer + self.lm_head
    }

    /// Every parameter there is.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.wte + self.value_embeds + self.lm_head + self.transformer + self.scalars
    }
}

impl Shape {
    /// The model that was asked for.
    pub(super) fn of(request: &Request) -> Result<Self, RecipeError> {
        match request.n_embd {
            Some(width) => Self::new(request, request.depth, width),
            None => Self::by_law(request, request.depth),
        }
    }

    /// The model at which the learning rates were tuned, with the request's vocabulary, heads and aspect ratio.
    pub(super) fn reference(request: &Request) -> Result<Self, RecipeError> {
        Self::by_law(request, REFERENCE_DEPTH)
    }

    fn by_law(request: &Request, depth: usize) -> Result<Self, RecipeError> {
        let width = depth * request.aspect_ratio;
        Self::new(request, depth, width.next_multiple_of(head_dim(request).max(1)))
    }

    fn new(request: &Request, depth: usize, width: usize) -> Result<Self, RecipeError> {
        let head_dim = head_dim(request);
        error::width(width, head_dim, SMEAR_CHANNELS)?;
        let pattern = request.window_pattern.to_ascii_uppercase();
        if pattern.is_empty() || pattern.contains(|letter| letter != 'S' && letter != 'L') {
            return Err(RecipeError::WindowPattern { pattern: request.window_pattern.clone() });
        }
        Ok(Self {
            n_layer: depth,
            n_embd: width,
            n_head: width / head_dim,
            n_kv_head: width / head_dim,
            head_dim,
            vocab_size: request.vocab_size,
            sequence_len: request.sequence_len,
            window_pattern: pattern,
        })
    }

    /// Rows of the embedding tables and of the head: the vocabulary, up to a multiple of 64.
    #[must_use]
    pub fn padded_vocab(&self) -> usize {
        self.vocab_size.next_multiple_of(VOCAB_MULTIPLE)
    }

    /// Layers with a value embedding: every other one, the last among them.
    #[must_use]
    pub fn value_layers(&self) -> usize {
        self.n_layer.div_ceil(2)
    }

    /// Tokens that each layer can look back on, first layer first.
    #[must_use]
    pub fn windows(&self) -> Vec<usize> {
        let long = self.sequence_len;
        let short = long.div_ceil(4).next_multiple_of(WINDOW_MULTIPLE).min(long);
        let mut windows: Vec<usize> = self
            .window_pattern
            .chars()
            .cycle()
            .take(self.n_layer)
            .map(|letter| if letter == 'S' { short } else { long })
            .collect();
        if let Some(last) = windows.last_mut() {
            *last = long;
        }
        windows
    }

    /// Counts the parameters.
    #[must_use]
    pub fn params(&self) -> ParamCounts {
        let (width, kv_width) = (self.n_embd as u64, (self.n_kv_head * self.head_dim) as u64);
        let (layers, value_layers) = (self.n_layer as u64, self.value_layers() as u64);
        let table = self.padded_vocab() as u64;
        // Query and output projections, keys and values, and an MLP of four times the width.
        let block = 2 * width * width + 2 * width * kv_width + 8 * width * width;
        let gate = (GATE_CHANNELS * self.n_kv_head) as u64;
        ParamCounts {
            wte: table * width,
            value_embeds: value_layers * table * kv_width,
            lm_head: table * width,
            transformer: layers * block + value_layers * gate,
            scalars: 2 * layers + SMEAR_CHANNELS as u64 + 2,
        }
    }

    /// Floating-point operations per token, forward and backward.
    ///
    /// Six for each weight of a matrix product, and twelve for each channel of each head and token attended to
    /// (Chowdhery et al., 2022, *PaLM*, arXiv:2204.02311). Embedding look-ups are free.
    #[must_use]
    pub fn flops_per_token(&self) -> u64 {
        let products = self.params().scaling() + SMEAR_CHANNELS as u64;
        let attended: usize = self.windows().iter().sum();
        6 * products + (12 * self.n_head * self.head_dim * attended) as u64
    }
}

/// nanochat's heads have 128 channels; with a width of one's own they have 64, so that small widths divide.
fn head_dim(request: &Request) -> usize {
    request.head_dim.unwrap_or(if request.n_embd.is_some() { 64 } else { 128 })
}
