//! Why a request cannot be turned into a run.

use super::Request;
use crate::nanochat::SMEAR_GATE_CHANNELS as MIN_WIDTH;

/// Largest size that is still taken for a size rather than for a slip of the keyboard.
///
/// It also keeps every product of the shape arithmetic within 64 bits.
const MAX_SIZE: usize = 1 << 20;
const MAX_DEPTH: usize = 10_000;
const MAX_TOKENS: usize = 1 << 40;

/// Why no run can be made of a [`Request`].
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// A count that must be at least one is zero.
    #[error("{name} is 0; it must be at least 1")]
    Zero {
        /// What was counted.
        name: &'static str,
    },
    /// A size is beyond anything that can be trained.
    #[error("{name} is {value}; at most {max} is supported")]
    TooLarge {
        /// What was counted.
        name: &'static str,
        /// What was asked for.
        value: usize,
        /// What is supported.
        max: usize,
    },
    /// A number that must be above zero is not, or is not finite.
    #[error("{name} is {value}; it must be a finite number above 0")]
    NotPositive {
        /// What it sets.
        name: &'static str,
        /// What was asked for.
        value: f64,
    },
    /// The weight decay is below zero or not finite.
    #[error("weight decay is {value}; it must be a finite number, 0 or more (0 turns it off)")]
    WeightDecay {
        /// What was asked for.
        value: f64,
    },
    /// Rotary embeddings turn pairs of channels.
    #[error("head size {head_dim} is odd, and rotary embeddings turn pairs of channels: use {}", .head_dim + 1)]
    OddHead {
        /// Channels of one head.
        head_dim: usize,
    },
    /// Heads do not fill the width.
    #[error("width {width} is not a multiple of the head size {head_dim}: use {}, or another --head-dim", nearest(*.width, *.head_dim))]
    Width {
        /// Channels of the model.
        width: usize,
        /// Channels of one head.
        head_dim: usize,
    },
    /// The smear gate reads more channels than there are.
    #[error("width {width} is below {MIN_WIDTH}, the channels that the smear gate reads: use {}", MIN_WIDTH.next_multiple_of(*.head_dim))]
    Narrow {
        /// Channels of the model.
        width: usize,
        /// Channels of one head.
        head_dim: usize,
    },
    /// The window pattern holds something other than `S` and `L`.
    #[error(
        "window pattern `{pattern}` must be made of the letters S (short) and L (long), such as SSSL or L"
    )]
    WindowPattern {
        /// What was asked for.
        pattern: String,
    },
    /// Micro-batches do not fill a step exactly.
    #[error(
        "a total batch of {total} tokens is not made of whole micro-batches of {micro_batch} x {sequence_len} = {} tokens{}: \
         use --total-batch-size {}, or another --device-batch-size or --max-seq-len",
        .micro_batch * .sequence_len, on_each(*.devices), nearest(*.total, .micro_batch * .sequence_len * .devices)
    )]
    UnevenBatch {
        /// Tokens of one step.
        total: usize,
        /// Sequences of one micro-batch.
        micro_batch: usize,
        /// Tokens of one sequence.
        sequence_len: usize,
        /// Devices that take as many micro-batches each.
        devices: usize,
    },
    /// The data or the compute asked for is less than half a step.
    #[error(
        "the training horizon ends before its first step of {total_batch_size} tokens: \
         lower --total-batch-size, or say how many steps with --num-iterations"
    )]
    ShortHorizon {
        /// Tokens of one step.
        total_batch_size: usize,
    },
}

impl Request {
    /// Checks each value by itself; what they mean together is checked where they meet.
    pub(super) fn check(&self) -> Result<(), RecipeError> {
        size("depth", self.depth, MAX_DEPTH)?;
        size("vocabulary size", self.vocab_size, MAX_SIZE * 64)?;
        size("context length", self.sequence_len, MAX_SIZE)?;
        size("aspect ratio", self.aspect_ratio, MAX_SIZE)?;
        size("micro-batch", self.micro_batch.sequences(), MAX_SIZE)?;
        size(
            "total batch size",
            self.total_batch_size.unwrap_or(1),
            MAX_TOKENS,
        )?;
        if self.num_iterations == Some(0) {
            return Err(RecipeError::Zero {
                name: "number of steps",
            });
        }
        positive("data to parameter ratio", self.target_param_data_ratio)?;
        positive("target FLOPs", self.target_flops.unwrap_or(1.0))?;
        positive("learning rate", self.lr.unwrap_or(1.0))?;
        positive("embedding learning rate", self.rates.embedding)?;
        positive("unembedding learning rate", self.rates.unembedding)?;
        positive("matrix learning rate", self.rates.matrix)?;
        positive("scalar learning rate", self.rates.scalar)?;
        match self.weight_decay {
            Some(value) if !(value.is_finite() && value >= 0.0) => {
                Err(RecipeError::WeightDecay { value })
            }
            _ => Ok(()),
        }
    }
}

/// Checks that heads fill a width, and that the gates can read it.
pub(super) fn width(width: usize, head_dim: usize) -> Result<(), RecipeError> {
    size("width", width, MAX_SIZE)?;
    size("head size", head_dim, MAX_SIZE)?;
    if !head_dim.is_multiple_of(2) {
        Err(RecipeError::OddHead { head_dim })
    } else if !width.is_multiple_of(head_dim) {
        Err(RecipeError::Width { width, head_dim })
    } else if width < MIN_WIDTH {
        Err(RecipeError::Narrow { width, head_dim })
    } else {
        Ok(())
    }
}

fn size(name: &'static str, value: usize, max: usize) -> Result<(), RecipeError> {
    match value {
        0 => Err(RecipeError::Zero { name }),
        _ if value > max => Err(RecipeError::TooLarge { name, value, max }),
        _ => Ok(()),
    }
}

fn positive(name: &'static str, value: f64) -> Result<(), RecipeError> {
    if value.is_finite() && value > 0.0 {
        Ok(())
    } else {
        Err(RecipeError::NotPositive { name, value })
    }
}

/// The end of a sentence about what every device does.
fn on_each(devices: usize) -> String {
    if devices == 1 {
        String::new()
    } else {
        format!(" on each of {devices} devices")
    }
}

/// The multiples of `unit` around `value`, as a suggestion.
fn nearest(value: usize, unit: usize) -> String {
    match value / unit {
        0 => unit.to_string(),
        times => format!("{} or {}", times * unit, (times + 1) * unit),
    }
}
