//! Errors of requests that describe no run.

use super::Request;
use crate::nanochat::SMEAR_GATE_CHANNELS as MIN_WIDTH;

/// Largest accepted size. Larger values are most likely typing errors.
///
/// The limit also keeps every product of the shape arithmetic within 64 bits.
const MAX_SIZE: usize = 1 << 20;
const MAX_DEPTH: usize = 10_000;
const MAX_TOKENS: usize = 1 << 40;

/// Error of a [`Request`] that describes no run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// A count is 0.
    #[error("{name} is 0: it must be at least 1")]
    Zero {
        /// Name of the setting.
        name: &'static str,
    },
    /// A size is too large to train.
    #[error("{name} is {value}: at most {max} is supported")]
    TooLarge {
        /// Name of the setting.
        name: &'static str,
        /// Requested value.
        value: usize,
        /// Largest supported value.
        max: usize,
    },
    /// A number that must be positive is 0, negative or not finite.
    #[error("{name} is {value}: it must be a finite number above 0")]
    NotPositive {
        /// Name of the setting.
        name: &'static str,
        /// Requested value.
        value: f64,
    },
    /// The weight decay is negative or not finite.
    #[error("weight decay is {value}: it must be a finite number, 0 or more (0 turns it off)")]
    WeightDecay {
        /// Requested value.
        value: f64,
    },
    /// The head size is odd, and rotary embeddings rotate pairs of channels.
    #[error("head size {head_dim} is odd, and rotary embeddings rotate pairs of channels: use {}", .head_dim + 1)]
    OddHead {
        /// Channels of one head.
        head_dim: usize,
    },
    /// The width is not a multiple of the head size.
    #[error("width {width} is not a multiple of the head size {head_dim}: use {}, or another --head-dim", nearest(*.width, *.head_dim))]
    Width {
        /// Channels of the model.
        width: usize,
        /// Channels of one head.
        head_dim: usize,
    },
    /// The width is smaller than the number of channels that the smear gate reads.
    #[error("width {width} is below {MIN_WIDTH}, the number of channels that the smear gate reads: use {}", MIN_WIDTH.next_multiple_of(*.head_dim))]
    Narrow {
        /// Channels of the model.
        width: usize,
        /// Channels of one head.
        head_dim: usize,
    },
    /// The window pattern is empty, or has letters other than `S` and `L`.
    #[error(
        "window pattern `{pattern}` must consist of the letters S (short) and L (long), such as SSSL or L"
    )]
    WindowPattern {
        /// Requested pattern.
        pattern: String,
    },
    /// A step is not a whole number of micro-batches.
    #[error(
        "total batch size {total} is not a multiple of the micro-batch of {micro_batch} x {sequence_len} = {} tokens{}: \
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
        /// Devices, which get the same number of micro-batches each.
        devices: usize,
    },
    /// A number of steps alone does not decide the tokens of a run of nanochat's next version.
    #[error(
        "{steps} steps need a --total-batch-size: in nanochat's next version the batch follows from the tokens of the run"
    )]
    StepsWithoutBatch {
        /// Requested steps.
        steps: u64,
    },
    /// The tokens or operations of the run are not enough for one step.
    #[error(
        "the run is shorter than one step of {total_batch_size} tokens: \
         lower --total-batch-size, or set the number of steps with --num-iterations"
    )]
    NoSteps {
        /// Tokens of one step.
        total_batch_size: usize,
    },
}

impl Request {
    /// Checks each value by itself; combinations are checked where they are used.
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
        positive("learning rate", self.lr_override.unwrap_or(1.0))?;
        positive("embedding learning rate", self.rates.embedding)?;
        positive("unembedding learning rate", self.rates.unembedding)?;
        positive("matrix learning rate", self.rates.matrix)?;
        positive("scalar learning rate", self.rates.scalar)?;
        size("short window", self.short_seq_len, MAX_SIZE)?;
        for value in [Some(self.weight_decay), self.weight_decay_override] {
            match value {
                Some(value) if !(value.is_finite() && value >= 0.0) => {
                    return Err(RecipeError::WeightDecay { value });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Checks that a width is a multiple of the head size, and large enough for the smear gate.
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

/// Returns the words about devices at the end of a clause, or nothing for one device.
fn on_each(devices: usize) -> String {
    if devices == 1 {
        String::new()
    } else {
        format!(" on each of {devices} devices")
    }
}

/// Returns the multiples of `unit` next to `value`, as a suggestion.
fn nearest(value: usize, unit: usize) -> String {
    match value / unit {
        0 => unit.to_string(),
        times => format!("{} or {}", times * unit, (times + 1) * unit),
    }
}
