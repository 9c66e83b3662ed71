//! Presets of model, batch and duration.

use bdh_models::bdh_model::BdhConfig;
use clap::ValueEnum;
use serde::Serialize;

/// Named sizes of the model, its batches and its duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Preset {
    /// 0.4M parameters, 400 steps of 512 tokens: under a minute on two cores.
    Tiny,
    /// 1.6M parameters, 1000 steps of 1024 tokens: minutes on two cores.
    Small,
    /// 25M parameters, 3000 steps of 16384 tokens, like the original. Needs a GPU with 140 GB, or 80 GB with half the
    /// batch.
    Paper,
}

/// Sizes of a preset.
pub(crate) struct Sizes {
    pub(crate) n_layer: usize,
    pub(crate) n_embd: usize,
    pub(crate) multiplier: usize,
    pub(crate) block_size: usize,
    pub(crate) batch_size: usize,
    pub(crate) max_iters: u64,
}

impl Preset {
    /// Returns the default on the CPU or on a GPU.
    pub(crate) fn default_on(is_cpu: bool) -> Self {
        if is_cpu { Self::Tiny } else { Self::Paper }
    }

    pub(crate) fn sizes(self) -> Sizes {
        let BdhConfig {
            n_layer,
            n_embd,
            mlp_internal_dim_multiplier: multiplier,
            context,
            ..
        } = BdhConfig::default();
        match self {
            Self::Tiny => Sizes {
                n_layer: 3,
                n_embd: 64,
                multiplier: 32,
                block_size: 64,
                batch_size: 8,
                max_iters: 400,
            },
            Self::Small => Sizes {
                n_layer: 4,
                n_embd: 128,
                multiplier: 32,
                block_size: 128,
                batch_size: 8,
                max_iters: 1_000,
            },
            Self::Paper => Sizes {
                n_layer,
                n_embd,
                multiplier,
                block_size: context,
                batch_size: 32,
                max_iters: 3_000,
            },
        }
    }
}
