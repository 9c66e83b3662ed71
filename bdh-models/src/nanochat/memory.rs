//! GPU memory of training, from the settings of a model.
//!
//! The estimate is arithmetic on the settings. It describes burn's plain operations, which run on GPUs: each keeps its
//! input for the backward pass, and every layer has whole `[seq_len, seq_len]` matrices. The CPU kernels keep less.

use super::config::GptConfig;
use bdh::ops::Precision;

/// Peak memory of a training step in bytes, by purpose.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrainingMemory {
    /// Parameters in f32, and in bf16 also the copies of matrices for products.
    pub weights: f64,
    /// Gradients: one f32 for each parameter.
    pub gradients: f64,
    /// Optimizer state in f32: one number for each parameter of Muon, two for each parameter of AdamW.
    pub moments: f64,
    /// Activations that layers keep for the backward pass, and temporary tensors of the backward pass of one layer.
    pub activations: f64,
    /// Logits and the temporary tensors of the loss, in f32.
    pub logits: f64,
}

impl TrainingMemory {
    /// Returns the part that does not depend on the batch.
    #[must_use]
    pub fn state(&self) -> f64 {
        self.weights + self.gradients + self.moments
    }

    /// Returns the sum of all parts.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.state() + self.activations + self.logits
    }
}

/// Bytes that a layer keeps for each token, per channel and per score.
struct Kept {
    channel: f64,
    score: f64,
}

impl Kept {
    /// Returns the bytes for a precision, counted by hand in `block.rs` and `attention.rs`.
    ///
    /// Always in f32, per channel: the stream at the input, its mixture, the stream between attention and MLP, queries
    /// and keys before their norms: 5 numbers. Below f32 also a copy of the embedded token, which all layers share in
    /// f32.
    ///
    /// In the precision, per channel, the inputs of products: of queries, keys and values (1), of scores (2), of the
    /// weighted sum (the values, and half as many of their embeddings: 1.5), of attention's projection (1), of the MLP
    /// (1), and three times its hidden units, four for each channel (12): 18.5 numbers.
    ///
    /// Per score: the inputs of the exponential and of the division in f32, and the weights in the precision.
    fn of(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self {
                channel: 4.0 * (5.0 + 18.5),
                score: 4.0 + 4.0 + 4.0,
            },
            Precision::Bf16 => Self {
                channel: 4.0 * 6.0 + 2.0 * 18.5,
                score: 4.0 + 4.0 + 2.0,
            },
        }
    }
}

/// Bytes per score of the temporary tensors in the backward pass of one layer: five matrices in f32.
const BACKWARD_BYTES_PER_SCORE: f64 = 20.0;

/// Number of f32 tensors of the logits' size that exist at once: scaled and capped logits, their exponentials, and two
/// gradients.
const LOGIT_TENSORS: f64 = 5.0;

impl GptConfig {
    /// Estimates the peak GPU memory of a training step on `rows` sequences of `seq_len` tokens.
    ///
    /// Compared with the CPU in bf16, where most operations are the plain ones: rows of 256 and of 512 tokens took 3 %
    /// more than this, with four layers of width 256. Not counted: fragmentation in the allocator, temporary memory of
    /// kernels, and the driver (about half a GB).
    #[must_use]
    pub fn training_memory(&self, rows: usize, seq_len: usize) -> TrainingMemory {
        let counts = self.num_params();
        let (all, tokens) = (counts.total() as f64, (rows * seq_len) as f64);
        let kept = Kept::of(self.precision);
        let scores = (self.n_head * seq_len) as f64;
        let of_layer = kept.channel * self.n_embd as f64 + kept.score * scores;
        let backward = BACKWARD_BYTES_PER_SCORE * scores;
        let copies = match self.precision {
            Precision::F32 => 0.0,
            Precision::Bf16 => 2.0 * counts.scaling() as f64,
        };
        TrainingMemory {
            weights: 4.0 * all + copies,
            gradients: 4.0 * all,
            moments: 4.0 * (2.0 * all - counts.transformer as f64),
            activations: (self.n_layer as f64 * of_layer + backward) * tokens,
            logits: 4.0 * LOGIT_TENSORS * self.padded_vocab() as f64 * tokens,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: f64 = 1e9;
    /// Memory of an 80 GB card without the driver and the allocator's fragmentation.
    const USABLE: f64 = 72.0 * GB;

    fn depth(n_layer: usize, precision: Precision) -> GptConfig {
        let n_embd = (n_layer * 64).next_multiple_of(128);
        let heads = n_embd / 128;
        let shape = GptConfig {
            n_layer,
            n_embd,
            n_head: heads,
            ..GptConfig::default()
        };
        GptConfig {
            n_kv_head: heads,
            precision,
            ..shape
        }
    }

    /// Returns a row of the table: parameters in millions; GB of state, GB per row of 2048 tokens, and rows that fit.
    fn row(layers: usize) -> String {
        let cells = [Precision::F32, Precision::Bf16].map(|precision| {
            let of = |rows| depth(layers, precision).training_memory(rows, 2048);
            let of_row = of(1).total() - of(0).total();
            let fitting = ((USABLE - of(0).total()) / of_row).floor();
            format!("{:.1} | {:.2} | {fitting}", of(0).total() / GB, of_row / GB)
        });
        let millions = depth(layers, Precision::F32).num_params().total() as f64 / 1e6;
        format!("| {layers} | {millions:.0} | {} | {} |", cells[0], cells[1])
    }

    #[test]
    fn table_in_the_cuda_guide_equals_the_formula() {
        let guide = include_str!("../../../docs/cuda.md");
        for layers in [4, 8, 12, 16, 20, 24, 26] {
            assert!(
                guide.contains(&row(layers)),
                "docs/cuda.md has no row\n{}",
                row(layers)
            );
        }
    }

    #[test]
    fn state_is_three_numbers_per_muon_parameter_and_four_per_other() {
        let memory = depth(12, Precision::F32).training_memory(0, 2048);
        let (muons, all) = (84_935_088.0, 286_261_730.0);
        assert_eq!(memory.total(), 4.0 * (3.0 * muons + 4.0 * (all - muons)));
    }

    #[test]
    fn bf16_takes_between_half_and_all_of_the_memory() {
        let of = |precision| depth(12, precision).training_memory(8, 2048).activations;
        let share = of(Precision::Bf16) / of(Precision::F32);
        assert!((0.5..1.0).contains(&share), "{share}");
    }
}
