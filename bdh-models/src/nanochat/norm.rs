//! RMS normalisation without weights, as nanochat uses it everywhere.

use bdh::burn::tensor::Tensor;
use bdh::ops::rms_norm;

/// PyTorch's default for float32, the gap between 1 and the next number.
const EPSILON: f64 = f32::EPSILON as f64;

/// Scales the last axis of `x` to a root mean square of 1.
pub(super) fn norm<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    rms_norm(x, 1.0, EPSILON)
}
