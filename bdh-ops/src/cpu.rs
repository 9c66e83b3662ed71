//! The CPU's way: kernels on slices, put on burn's tape.
//!
//! Nothing in here is generic over what a caller chooses, such as the rank of a tensor: a generic function is compiled with
//! the crate that calls it, and with that crate's optimization level, which in a debug build is none.

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

/// Whether a tensor is one that the kernels take: of `f32`, in this process's memory, with elements.
pub(crate) fn takes<const D: usize>(x: &Tensor<D>) -> bool {
    is_here(x) && x.dims().iter().all(|axis| *axis > 0)
}

/// Whether a tensor is of `f32` in this process's memory.
pub(crate) fn is_here<const D: usize>(x: &Tensor<D>) -> bool {
    x.dtype() == DType::F32 && x.device().inner() == Device::flex()
}
