//! Default sizes of a run, on the CPU and on a GPU.

/// Number of token ids of the byte tokenizer: 256 bytes, and one for the start of a document.
pub(super) const BYTE_VOCAB: usize = 257;
/// Number of token ids of nanochat's BPE tokenizer.
pub(super) const BPE_VOCAB: usize = 32_768;
/// Tokens of one evaluation in nanochat.
const NANOCHAT_EVAL_TOKENS: usize = 80 * 524_288;

/// Values that neither a flag nor a scaling law decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Defaults {
    /// Context length in tokens.
    pub(super) max_seq_len: usize,
    /// Largest number of sequences in one forward and backward pass.
    pub(super) micro_batch: usize,
    /// Whether a step is one micro-batch, instead of the batch of the scaling law.
    pub(super) one_micro_batch: bool,
    /// Tokens of one evaluation.
    pub(super) eval_tokens: usize,
    /// Whether bytes are the tokens, instead of BPE.
    pub(super) has_bytes: bool,
}

/// Defaults on a GPU, which are nanochat's.
pub(super) const ON_GPU: Defaults = Defaults {
    max_seq_len: 2048,
    micro_batch: 32,
    one_micro_batch: false,
    eval_tokens: NANOCHAT_EVAL_TOKENS,
    has_bytes: false,
};

/// Defaults on the CPU, for a laptop: 8 sequences of 256 tokens per step.
///
/// 256 is the smallest power of two where a short window (128 tokens) differs from a long one, so a toy runs the same
/// code as a large model. With 8 sequences, a step of two layers with width 64 takes a fraction of a second; the law's
/// batch for this model, 2^15 tokens, would take 16 times as long. Learning rates and weight decay follow from the
/// actual batch.
pub(super) const ON_CPU: Defaults = Defaults {
    max_seq_len: 256,
    micro_batch: 8,
    one_micro_batch: true,
    eval_tokens: 16 * 8 * 256,
    has_bytes: true,
};
