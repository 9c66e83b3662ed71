//! BDH, the Baby Dragon Hatchling, to the numbers of the original.
//!
//! | file            | what it has                                                            |
//! |-----------------|------------------------------------------------------------------------|
//! | `config.rs`     | the settings, their checks, parameters, FLOPs and memory               |
//! | `model.rs`      | the model: one set of weights, gone through once for each layer        |
//! | `pairs.rs`      | the order of neurons in which turning their pairs is cheap             |
//! | `rope.rs`       | the rotations, from tables computed once                               |
//! | `recurrent.rs`  | the same model one token at a time, at a constant cost                 |
//!
//! Logits, gradients and optimizer steps agree with pathwaycom/bdh at 714bc80 in float32: see `tests/hatchling.rs`.
//!
//! # Examples
//!
//! ```
//! use bdh::burn::{module::Module, tensor::Device};
//! use bdh_models::hatchling::BdhConfig;
//!
//! let config = BdhConfig { n_layer: 3, n_embd: 64, mlp_internal_dim_multiplier: 32, ..BdhConfig::default() };
//! let model = config.init(1337, &Device::flex())?;
//! assert_eq!(model.num_params(), 425_984); // however many layers go through them
//! assert_eq!(BdhConfig::default().num_params(), 25_296_896);
//! # Ok::<(), bdh_models::hatchling::BdhConfigError>(())
//! ```

mod config;
mod model;
mod pairs;
mod recurrent;
mod rope;

pub use config::{BdhConfig, BdhConfigError};
pub use model::Bdh;
pub use recurrent::Recurrent;
