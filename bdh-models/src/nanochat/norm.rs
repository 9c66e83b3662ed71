//! RMS normalization without weights, which nanochat uses everywhere.

use bdh::burn::tensor::Tensor;
use bdh::ops::rms_norm;

/// Added to mean squares. PyTorch's default for float32: the difference between 1 and the next larger number.
const EPSILON: f64 = f32::EPSILON as f64;

/// Scales the last axis of `x` to a root mean square of 1.
pub(super) fn norm<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    rms_norm(x, 1.0, EPSILON)
}
