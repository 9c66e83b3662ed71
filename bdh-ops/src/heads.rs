//! Products with one weight for each head.

#[cfg(feature = "flex")]
use crate::cpu;
use burn::tensor::Tensor;
use burn::tensor::activation;

/// Computes `max(x · weight, 0)` for each head.
///
/// `x` is `[heads, rows, width]`, or `[1, rows, width]` for all heads; the weight is `[heads, width, neurons]`. The
/// result is `[heads, rows, neurons]` in the precision of `x`, to which the weight is cast.
///
/// On the CPU the ReLU is applied to products while they are still in a core's cache.
#[must_use]
pub fn relu_heads(x: Tensor<3>, weight: Tensor<3>) -> Tensor<3> {
    let weight = weight.cast(x.dtype());
    #[cfg(feature = "flex")]
    if cpu::takes(&x) && cpu::takes(&weight) {
        return cpu::heads::relu_heads(x, weight);
    }
    activation::relu(x.matmul(weight))
}

/// Computes the sum of `x · weight` over all heads.
///
/// `x` is `[heads, rows, neurons]`, the weight is `[heads, neurons, width]`. The result is `[1, rows, width]` in the
/// precision of `x`, to which the weight is cast.
#[must_use]
pub fn sum_heads(x: Tensor<3>, weight: Tensor<3>) -> Tensor<3> {
    let weight = weight.cast(x.dtype());
    #[cfg(feature = "flex")]
    if cpu::takes(&x) && cpu::takes(&weight) {
        return cpu::heads::sum_heads(x, weight);
    }
    x.matmul(weight).sum_dim(0)
}
