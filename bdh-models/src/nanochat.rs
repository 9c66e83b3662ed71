//! nanochat's GPT and its optimizer.
//!
//! | file           | contents                                                                |
//! |----------------|-------------------------------------------------------------------------|
//! | `config.rs`    | the settings and their checks                                           |
//! | `counts.rs`    | parameters and FLOPs, from the settings alone                           |
//! | `memory.rs`    | the GPU memory of training, from the settings alone                     |
//! | `gpt.rs`       | the model: embedding and smear, blocks, backout, head                   |
//! | `block.rs`     | one layer: attention, MLP                                               |
//! | `attention.rs` | value embeddings, normed queries and keys                               |
//! | `rope.rs`      | rotary positions, from tables computed once                             |
//! | `mask.rs`      | which tokens a query may see                                            |
//! | `stream.rs`    | the model token by token, with a cache of keys and values               |
//! | `norm.rs`      | RMS normalization without weights                                       |
//! | `groups.rs`    | optimizer and learning rate of each parameter                           |
//! | `muon.rs`      | the optimizer of the matrices                                           |
//! | `schedule.rs`  | learning rates, and Muon's momentum and weight decay, by step           |
//! | `checkpoint/`  | checkpoints of the original, read and written                           |
//!
//! Logits, gradients and optimizer steps agree with karpathy/nanochat at 92d63d4 in float32: see
//! `tests/nanochat_golden.rs` and `tests/nanochat_fixtures.rs`.
//!
//! # Examples
//!
//! ```
//! use bdh::burn::{module::Module, tensor::Device};
//! use bdh_models::nanochat::{GptConfig, LearningRates, MuonSchedule, groups};
//!
//! let config = GptConfig {
//!     sequence_len: 64,
//!     vocab_size: 256,
//!     n_layer: 2,
//!     n_head: 1,
//!     n_kv_head: 1,
//!     n_embd: 64,
//!     window_pattern: "L".into(),
//!     ..GptConfig::default()
//! };
//! let model = config.init(1337, &Device::flex())?;
//! assert_eq!(model.num_params(), config.num_params().total());
//! for group in groups(&config, LearningRates::default(), 0.1, Some(MuonSchedule::new(500))) {
//!     eprintln!("{group}");
//! }
//! # Ok::<(), bdh_models::nanochat::GptConfigError>(())
//! ```

mod attention;
mod block;
mod checkpoint;
mod config;
mod counts;
mod gpt;
mod groups;
mod mask;
mod memory;
mod muon;
mod norm;
mod rope;
mod schedule;
mod stream;

pub use attention::Attention;
pub use block::{Block, Mlp};
pub use checkpoint::{
    ImportError, LoopState, Meta, ModelConfig, NanochatCheckpoint, export_nanochat,
};
pub(crate) use config::SMEAR_GATE_CHANNELS;
pub use config::{GptConfig, GptConfigError, NanochatVersion, SHORT_SEQ_LEN, UnknownVersion};
pub use counts::ParamCounts;
pub use gpt::{Gpt, Transformer};
pub use groups::{GroupSpec, LearningRates, Rule, groups};
pub use memory::TrainingMemory;
pub use muon::{Muon, MuonState};
pub use schedule::{LrSchedule, MuonSchedule};
