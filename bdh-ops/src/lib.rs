//! The operations that language models are made of, each as one function that any burn model may call.
//!
//! On the CPU each is a single vectorized pass with a backward pass of its own, on all cores; elsewhere it is burn's
//! plain operations, which a GPU's compiler fuses. Both give the same values and gradients up to rounding
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
//! The fast way is taken for `f32` tensors on burn's `flex` device, with the feature `flex`. What is summed is cut into
//! pieces of one size whatever the number of threads is, so results do not depend on it.
//!
//! # Precision
//!
//! The activations decide: an operation computes in what its first argument is in, casts weights to that in the forward
//! pass, and gives their gradients back in what they are in. What sums over many numbers, or has to be exact, is computed
//! in `f32` where activations are in less, and cast back; each operation says which it is. So a model trains in `bf16`
//! with weights, gradients and optimizer in `f32` once it has cast its activations ([`Precision`]).
//!
//! # Why not burn's own
//!
//! burn's operations are right and general, and each makes a tensor: a GELU with its backward pass is some fifteen of
//! them on a CPU, each a pass over memory that was just obtained from the system. docs/performance.md has the figures.
//!
//! # Features
//!
//! | feature | brings | default |
//! |---|---|---|
//! | `flex` | the CPU kernels, with matrix products in AVX-512 where the processor has it | yes |

#![allow(
    clippy::inline_always,
    reason = "vector code is one function with everything it calls inside (src/cpu/threads.rs)"
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
pub use loss::{IGNORED, token_nats};
pub use moments::Moments;
pub use muon::{MuonStep, muon_step};
pub use norm::{layer_norm, rms_norm};
pub use precision::{Precision, UnknownPrecision, widened};
pub use residual::mix;
pub use rotary::rotary;

/// Starts the threads that the CPU computes on, if they have not been started: whatever is computed later would panic
/// where the system has none to give.
///
/// # Errors
///
/// If the system refused, the first time or now.
#[cfg(feature = "flex")]
pub fn start_threads() -> std::io::Result<()> {
    cpu::start_threads()
}

/// The README's code compiles.
#[cfg(all(doctest, feature = "flex"))]
#[doc = include_str!("../README.md")]
struct Readme;
