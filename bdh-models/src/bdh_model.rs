//! BDH, the Baby Dragon Hatchling.
//!
//! | file            | contents                                                               |
//! |-----------------|------------------------------------------------------------------------|
//! | `config.rs`     | the settings, their checks, parameters, FLOPs and memory               |
//! | `model.rs`      | the model: all layers share one set of weights                         |
//! | `pairs.rs`      | the order of neurons that makes rotating their pairs cheap             |
//! | `rope.rs`       | the rotations, from tables computed once                               |
//! | `recurrent.rs`  | the model one token at a time, at a constant cost per token            |
//!
//! Logits, gradients and optimizer steps agree with pathwaycom/bdh at 714bc80 in float32: see `tests/bdh_model.rs`.
//!
//! # Examples
//!
//! ```
//! use bdh::burn::{module::Module, tensor::Device};
//! use bdh_models::bdh_model::BdhConfig;
//!
//! let config = BdhConfig { n_layer: 3, n_embd: 64, mlp_internal_dim_multiplier: 32, ..BdhConfig::default() };
//! let model = config.init(1337, &Device::flex())?;
//! assert_eq!(model.num_params(), 425_984); // for any number of layers, which share them
//! assert_eq!(BdhConfig::default().num_params(), 25_296_896);
//! # Ok::<(), bdh_models::bdh_model::BdhConfigError>(())
//! ```

mod config;
mod model;
mod pairs;
mod recurrent;
mod rope;

pub use config::{BdhConfig, BdhConfigError};
pub use model::Bdh;
pub use recurrent::Recurrent;
