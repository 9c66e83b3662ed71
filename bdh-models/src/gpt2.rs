//! GPT-2.
//!
//! | file           | contents                                                                |
//! |----------------|-------------------------------------------------------------------------|
//! | `config.rs`    | the settings, their checks, parameters and FLOPs                        |
//! | `model.rs`     | the model: two tables, blocks, a head that is the token table           |
//! | `block.rs`     | one layer: attention, MLP                                               |
//! | `optimizer.rs` | parameter groups and the learning rate schedule                         |
//! | `load.rs`      | weights from safetensors files, including Hugging Face's                |
//! | `settings.rs`  | settings from Hugging Face's `config.json`                              |
//!
//! Logits, gradients and optimizer steps agree with karpathy/nanoGPT at 3adf61e in float32: see `tests/gpt2.rs`.
//!
//! # Examples
//!
//! ```
//! use bdh::burn::{module::Module, tensor::Device};
//! use bdh_models::gpt2::Gpt2Config;
//!
//! let config = Gpt2Config { block_size: 64, vocab_size: 257, ..Gpt2Config::sized(2, 2, 64) };
//! let model = config.init(1337, &Device::flex())?;
//! assert_eq!(model.num_params(), config.num_params());
//! assert_eq!(Gpt2Config::default().num_params(), 124_439_808);
//! # Ok::<(), bdh_models::gpt2::Gpt2ConfigError>(())
//! ```

mod block;
mod config;
mod load;
mod model;
mod optimizer;
mod settings;

pub use block::{Attention, Block, Mlp};
pub use config::{Gelu, Gpt2Config, Gpt2ConfigError};
pub use load::{Gpt2LoadError, Misfits};
pub use model::{Gpt2, Transformer};
pub use optimizer::{groups, schedule};
