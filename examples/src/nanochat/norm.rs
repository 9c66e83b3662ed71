//! RMS normalisation without weights, as nanochat uses it everywhere.

use bdh::burn::tensor::Tensor;

/// PyTorch's default for float32, the gap between 1 and the next number.
const EPSILON: f32 = f32::EPSILON;

/// Scales the last axis of `x` to a root mean square of 1.
pub(super) fn norm<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let factors = inverse_size(x.clone());
    x * factors
}

/// Scales the last axis of `x` to a root mean square of `size`.
pub(super) fn norm_to<const D: usize>(x: Tensor<D>, size: f64) -> Tensor<D> {
    let factors = inverse_size(x.clone()) * size; // one number a row: here the scale costs nothing
    x * factors
}

/// One over the root mean square of the last axis.
fn inverse_size<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    (x.square().mean_dim(D - 1) + EPSILON).sqrt().recip()
}
