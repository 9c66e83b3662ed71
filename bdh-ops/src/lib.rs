//! Fused operations of language models, each as one function for any burn model.
//!
//! On the CPU each operation is a single vectorized pass with its own backward pass, on all cores. On other devices it
//! uses burn's plain operations, which a GPU's compiler fuses. Both give the same values and gradients up to rounding
//! (`tests/equals_plain.rs`), so a model is written once:
//!
//! ```
//! use bdh_ops::{gelu, layer_norm, linear};
//! use burn::tensor::{Device, Distribution, Tensor};
//!
//! let device = Device::flex().autodiff();
//! let x = Tensor::<3>::random([2, 8, 16], Distribution::Default, &device);
//! let weight = Tensor::<2>::random([16, 64], Distribution::Default, &device).require_grad();
//!
//! let hidden = gelu(linear(layer_norm(x, None, None, 1e-5), weight.clone(), None));
//! let gradients = hidden.sum().backward();
//! assert_eq!(weight.grad(&gradients).expect("of a leaf").dims(), [16, 64]);
//! ```
//!
//! The CPU kernels are used for `f32` tensors on burn's `flex` device, with the feature `flex`. Sums are cut into
//! pieces of one fixed size, so results do not depend on the number of threads.
//!
//! # Precision
//!
//! The activations decide the precision. An operation computes in the type of its first argument, casts weights to it
//! in the forward pass, and returns their gradients in the type of the weights. Sums over many numbers, and parts that
//! have to be exact, are computed in `f32` if activations have less, and cast back; the docs of each operation list
//! them. A model that casts its activations to `bf16` therefore trains with weights, gradients and optimizer in `f32`
//! ([`Precision`]).
//!
//! # Compared with burn's operations
//!
//! burn's operations are correct and general, and each makes a tensor. A GELU with its backward pass takes about
//! fifteen of them on a CPU, each a pass over newly allocated memory. docs/performance.md has the figures.
//!
//! # Features
//!
//! | feature | adds | default |
//! |---|---|---|
//! | `flex` | the CPU kernels, with matrix products in AVX-512 on processors that have it | yes |

#![allow(
    clippy::inline_always,
    reason = "vector code must be one function with all its calls inlined (src/cpu/threads.rs)"
)]

mod activation;
mod adamw;
mod attention;
#[cfg(feature = "flex")]
mod cpu;
mod gated;
mod heads;
mod linear;
mod loss;
mod moments;
mod muon;
mod norm;
mod precision;
mod residual;
mod rotary;

pub use activation::{gelu, gelu_tanh, relu, relu_squared, soft_cap};
pub use adamw::{AdamW, AdamWState};
pub use attention::{Mask, attention, linear_attention, self_attention};
pub use gated::gated;
pub use heads::{relu_heads, sum_heads};
pub use linear::{linear, tied_head};
pub use loss::{IGNORED, token_nll};
pub use moments::Moments;
pub use muon::{MuonStep, muon_step};
pub use norm::{layer_norm, rms_norm};
pub use precision::{Precision, UnknownPrecision, upcast_f32};
pub use residual::residual_mix;
pub use rotary::rotary;

/// Starts the threads of the CPU kernels, unless they are running.
///
/// Without this call, the first operation starts them, and panics if the system refuses.
///
/// # Errors
///
/// If the system refuses to start a thread, in this call or in an earlier one.
#[cfg(feature = "flex")]
pub fn start_threads() -> std::io::Result<()> {
    cpu::start_threads()
}

/// The README's code compiles.
#[cfg(all(doctest, feature = "flex"))]
#[doc = include_str!("../README.md")]
struct Readme;
