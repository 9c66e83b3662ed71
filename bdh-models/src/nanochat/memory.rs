//! What training a model of given settings takes of a GPU's memory.
//!
//! Arithmetic on the settings, like `counts.rs`. It is about the way that is taken on GPUs, burn's plain operations, each of
//! which keeps its input for the backward pass; there every layer has whole `[seq_len, seq_len]` matrices. On the CPU
//! most of that is not kept.

use super::config::GptConfig;
use bdh::ops::Precision;

/// Bytes that a training step takes at its peak, by what they are for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrainingMemory {
    /// Parameters in f32; in bf16 also the copies of matrices that products take.
    pub weights: f64,
    /// One number in f32 for each parameter.
    pub gradients: f64,
    /// What optimizers remember, in f32: one number for each parameter of Muon's, two for each of AdamW's.
    pub moments: f64,
    /// What the layers keep for the backward pass, and what the one that is at it takes besides.
    pub activations: f64,
    /// Logits and what the loss makes of them, in f32.
    pub logits: f64,
}

impl TrainingMemory {
    /// What is there whatever the batch is.
    #[must_use]
    pub fn state(&self) -> f64 {
        self.weights + self.gradients + self.moments
    }

    /// All of it.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.state() + self.activations + self.logits
    }
}

/// Bytes that a layer keeps for each token: for each channel, and for each score.
struct Kept {
    channel: f64,
    score: f64,
}

impl Kept {
    /// Counted in `block.rs` and `attention.rs`, whose operations say what they compute in f32.
    ///
    /// For each channel in f32, whatever the precision is: the stream that enters, its mixture, the stream between attention
    /// and MLP, queries and keys before their norms: 5. Below f32 also the embedded token that is mixed in, of which all
    /// layers share one otherwise. In the precision, what enters products: that of queries, keys and values (1), of scores
    /// (2), of what is read (the values, and half as many of their embeddings: 1.5), of attention's end (1), of the MLP (1);
    /// and three times its hidden units, four for each channel (12): 18.5.
    ///
    /// For each score: the inputs of the exponential and of the division in f32, and the weights in the precision.
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

/// Bytes for each score that the backward pass of one layer takes besides: five matrices in f32.
const AT_WORK: f64 = 20.0;

/// Tensors in f32 with an element for each token and id that are alive at once: scaled and bent logits, their exponentials,
/// and two gradients.
const OF_LOGITS: f64 = 5.0;

impl GptConfig {
    /// Memory that a training step on `rows` sequences of `seq_len` tokens takes at its peak on a GPU.
    ///
    /// Held against the CPU in bf16, which most of it is computed by plain operations in: there a row of 256 and of 512 tokens
    /// took 3 % more than this, with four layers of width 256. Not counted is what the allocator holds in pieces that do not
    /// fit, what kernels take for themselves, and the driver's own (half a GB or so).
    #[must_use]
    pub fn training_memory(&self, rows: usize, seq_len: usize) -> TrainingMemory {
        let counts = self.num_params();
        let (all, tokens) = (counts.total() as f64, (rows * seq_len) as f64);
        let kept = Kept::of(self.precision);
        let scores = (self.n_head * seq_len) as f64;
        let of_layer = kept.channel * self.n_embd as f64 + kept.score * scores;
        let copies = match self.precision {
            Precision::F32 => 0.0,
            Precision::Bf16 => 2.0 * counts.scaling() as f64,
        };
        TrainingMemory {
            weights: 4.0 * all + copies,
            gradients: 4.0 * all,
            moments: 4.0 * (2.0 * all - counts.transformer as f64),
            activations: (self.n_layer as f64 * of_layer + AT_WORK * scores) * tokens,
            logits: 4.0 * OF_LOGITS * self.padded_vocab() as f64 * tokens,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: f64 = 1e9;
    /// What a card of 80 GB has left beside the driver and what does not fit together.
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

    /// Parameters of the model in millions; GB of its state, of each row of 2048 tokens, and rows that fit.
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
    fn the_table_of_the_guide_is_what_the_formula_gives() {
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
    fn the_state_of_depth_12_is_four_numbers_a_parameter_and_three_a_parameter_of_muons() {
        let memory = depth(12, Precision::F32).training_memory(0, 2048);
        let (muons, all) = (84_935_088.0, 286_261_730.0);
        assert_eq!(memory.total(), 4.0 * (3.0 * muons + 4.0 * (all - muons)));
    }

    #[test]
    fn half_the_precision_takes_less_but_not_half() {
        let of = |precision| depth(12, precision).training_memory(8, 2048).activations;
        let share = of(Precision::Bf16) / of(Precision::F32);
        assert!((0.5..1.0).contains(&share), "{share}");
    }
}
