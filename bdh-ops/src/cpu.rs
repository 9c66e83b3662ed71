//! CPU kernels on slices, with backward passes for burn's autodiff.
//!
//! Functions here are not generic over the caller's types, such as the rank of a tensor. A generic function is compiled
//! in the calling crate, with that crate's optimization level, which is 0 in a debug build.

pub(crate) mod activation;
mod array;
pub(crate) mod attention;
pub(crate) mod gated;
mod gemm;
pub(crate) mod heads;
pub(crate) mod linear;
pub(crate) mod linear_attention;
pub(crate) mod loss;
mod math;
pub(crate) mod moments;
pub(crate) mod muon;
pub(crate) mod norm;
pub(crate) mod residual;
pub(crate) mod rotary;
pub(crate) mod step;
mod tape;
mod threads;

pub(crate) use threads::start as start_threads;

use burn::tensor::{DType, Device, Tensor};

/// Returns whether the kernels accept a tensor: `f32`, in this process's memory, and not empty.
pub(crate) fn takes<const D: usize>(x: &Tensor<D>) -> bool {
    is_here(x) && x.dims().iter().all(|axis| *axis > 0)
}

/// Returns whether a tensor is `f32` in this process's memory.
pub(crate) fn is_here<const D: usize>(x: &Tensor<D>) -> bool {
    x.dtype() == DType::F32 && x.device().inner() == Device::flex()
}
