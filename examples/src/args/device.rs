//! Where a run computes, and how large it is by default there.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use serde::{Serialize, Serializer};

use super::values::ValueError;

/// Token ids of the byte tokenizer: 256 bytes, and one for the start of a document.
pub(super) const BYTE_VOCAB: usize = 257;
/// Token ids of nanochat's own BPE tokenizer.
pub(super) const BPE_VOCAB: usize = 32_768;
/// Tokens that nanochat evaluates on.
const NANOCHAT_EVAL_TOKENS: usize = 80 * 524_288;

/// A kind of device, as named on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// The processor.
    Cpu,
    /// An NVIDIA GPU, by its number.
    Cuda(usize),
    /// Any GPU, through WebGPU.
    Wgpu,
    /// Any GPU, through Vulkan.
    Vulkan,
    /// A Mac's GPU; `mps` is understood too.
    Metal,
}

impl DeviceKind {
    /// The cargo feature that brings this device.
    fn feature(self) -> &'static str {
        match self {
            Self::Cpu => "flex",
            Self::Cuda(_) => "cuda",
            Self::Wgpu => "wgpu",
            Self::Vulkan => "vulkan",
            Self::Metal => "metal",
        }
    }

    fn is_built(self) -> bool {
        match self {
            Self::Cpu => cfg!(feature = "flex"),
            Self::Cuda(_) => cfg!(feature = "cuda"),
            Self::Wgpu => cfg!(feature = "wgpu"),
            Self::Vulkan => cfg!(feature = "vulkan"),
            Self::Metal => cfg!(feature = "metal"),
        }
    }
}

impl Default for DeviceKind {
    /// The fastest device that this program was built for: whoever turned a GPU's feature on wants it used.
    fn default() -> Self {
        [Self::Cuda(0), Self::Metal, Self::Vulkan, Self::Wgpu]
            .into_iter()
            .find(|device| device.is_built())
            .unwrap_or(Self::Cpu)
    }
}

impl FromStr for DeviceKind {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            "wgpu" => Ok(Self::Wgpu),
            "vulkan" => Ok(Self::Vulkan),
            "metal" | "mps" => Ok(Self::Metal),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|index| index.parse().ok())
                .map(Self::Cuda)
                .ok_or(ValueError::UnknownDevice),
        }
    }
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            other => f.write_str(match other {
                Self::Cpu => "cpu",
                other => other.feature(),
            }),
        }
    }
}

impl Serialize for DeviceKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

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

/// The defaults on a kind of device: nanochat's own on a GPU, a laptop's on the CPU.
///
/// On the CPU a step is 8 sequences of 256 tokens. 256 is the shortest power of two at which a short window
/// (128 tokens) differs from a long one, so the toy runs the same code as the real thing; 8 sequences are few
/// enough that two layers of width 64 take a fraction of a second each step, and the law's batch (2^15 tokens
/// for them) would take 16 times as long. Learning rates and weight decay still follow from that batch.
pub(super) fn defaults_for(device: DeviceKind) -> Defaults {
    match device {
        DeviceKind::Cpu => Defaults {
            max_seq_len: 256,
            micro_batch: 8,
            one_micro_batch: true,
            eval_tokens: 16 * 8 * 256,
            tokenizer: Tokenizer::Bytes,
        },
        DeviceKind::Cuda(_) | DeviceKind::Wgpu | DeviceKind::Vulkan | DeviceKind::Metal => {
            Defaults {
                max_seq_len: 2048,
                micro_batch: 32,
                one_micro_batch: false,
                eval_tokens: NANOCHAT_EVAL_TOKENS,
                tokenizer: Tokenizer::Bpe,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_print_as_they_are_read() {
        for text in ["cpu", "cuda:0", "cuda:3", "wgpu", "vulkan", "metal"] {
            assert_eq!(
                text.parse::<DeviceKind>().map(|device| device.to_string()),
                Ok(text.to_owned())
            );
        }
        assert_eq!("cuda".parse(), Ok(DeviceKind::Cuda(0)));
        assert_eq!("mps".parse(), Ok(DeviceKind::Metal));
        for text in ["", "CPU", "gpu", "cuda:", "cuda:-1", "cuda:one"] {
            assert_eq!(text.parse::<DeviceKind>(), Err(ValueError::UnknownDevice), "{text}");
        }
    }

    #[test]
    fn the_default_device_is_one_that_was_built() {
        let feature_given = cfg!(any(
            feature = "flex",
            feature = "cuda",
            feature = "wgpu",
            feature = "vulkan",
            feature = "metal"
        ));
        assert_eq!(DeviceKind::default().is_built(), feature_given);
    }

    #[test]
    fn gpus_get_nanochats_sizes() {
        let defaults = defaults_for(DeviceKind::Cuda(0));
        assert_eq!((defaults.max_seq_len, defaults.micro_batch), (2048, 32));
        assert_eq!(defaults.eval_tokens, 41_943_040);
        assert!(!defaults.one_micro_batch);
    }
}
