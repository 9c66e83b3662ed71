//! Products with a weight for each head.

#[cfg(feature = "flex")]
use crate::cpu;
use burn::tensor::Tensor;
use burn::tensor::activation;

/// `max(x · weight, 0)` for each head: `x` is `[heads, rows, width]`, or `[1, rows, width]` for all heads, the weight
/// `[heads, width, neurons]`; what comes back is `[heads, rows, neurons]`.
///
/// Computed in what `x` is in, to which the weight is cast.
///
/// On the CPU the products are bent while they are still in a core's cache.
#[must_use]
pub fn relu_heads(x: Tensor<3>, weight: Tensor<3>) -> Tensor<3> {
    let weight = weight.cast(x.dtype());
    #[cfg(feature = "flex")]
    if cpu::takes(&x) && cpu::takes(&weight) {
        return cpu::heads::relu_heads(x, weight);
    }
    activation::relu(x.matmul(weight))
}

/// The sum over heads of `x · weight`: `x` is `[heads, rows, neurons]`, the weight `[heads, neurons, width]`; what comes
/// back is `[1, rows, width]`.
///
/// Computed in what `x` is in, to which the weight is cast.
#[must_use]
pub fn sum_heads(x: Tensor<3>, weight: Tensor<3>) -> Tensor<3> {
    let weight = weight.cast(x.dtype());
    #[cfg(feature = "flex")]
    if cpu::takes(&x) && cpu::takes(&weight) {
        return cpu::heads::sum_heads(x, weight);
    }
    x.matmul(weight).sum_dim(0)
}
