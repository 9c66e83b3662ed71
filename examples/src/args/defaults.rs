//! How large a run is by default, on the CPU and on a GPU.

use clap::ValueEnum;
use serde::Serialize;

/// Token ids of the byte tokenizer: 256 bytes, and one for the start of a document.
pub(super) const BYTE_VOCAB: usize = 257;
/// Token ids of nanochat's own BPE tokenizer.
pub(super) const BPE_VOCAB: usize = 32_768;
/// Tokens that nanochat evaluates on.
const NANOCHAT_EVAL_TOKENS: usize = 80 * 524_288;

/// How text becomes token ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tokenizer {
    /// One id a byte, 257 in all: nothing to train, and bits per byte are the loss itself.
    Bytes,
    /// Byte-level BPE, trained on the data.
    Bpe,
}

/// What a run uses where neither a flag nor a scaling law decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Defaults {
    /// Context length in tokens.
    pub(super) max_seq_len: usize,
    /// Most sequences in one forward and backward pass.
    pub(super) micro_batch: usize,
    /// Whether a step is one micro-batch, instead of the batch of the scaling law.
    pub(super) one_micro_batch: bool,
    /// Tokens that one evaluation sees.
    pub(super) eval_tokens: usize,
    /// How text becomes token ids.
    pub(super) tokenizer: Tokenizer,
}

/// On a GPU: nanochat's own.
pub(super) const ON_GPU: Defaults = Defaults {
    max_seq_len: 2048,
    micro_batch: 32,
    one_micro_batch: false,
    eval_tokens: NANOCHAT_EVAL_TOKENS,
    tokenizer: Tokenizer::Bpe,
};

/// On the CPU: a laptop's, 8 sequences of 256 tokens a step.
///
/// 256 is the shortest power of two at which a short window (128 tokens) differs from a long one, so the toy runs the same
/// code as the real thing; 8 sequences are few enough that two layers of width 64 take a fraction of a second each step, and
/// the law's batch (2^15 tokens for them) would take 16 times as long. Learning rates and weight decay still follow from
/// that batch.
pub(super) const ON_CPU: Defaults = Defaults {
    max_seq_len: 256,
    micro_batch: 8,
    one_micro_batch: true,
    eval_tokens: 16 * 8 * 256,
    tokenizer: Tokenizer::Bytes,
};
