//! What stands between two products.

#[cfg(feature = "flex")]
use crate::cpu;
use crate::precision::in_f32;
use burn::tensor::Tensor;
use burn::tensor::activation;

/// `x · Φ(x)`, with the error function: PyTorch's default GELU. Computed in f32 where `x` is in less, and given back in
/// what `x` is in.
///
/// Source: Hendrycks and Gimpel, 2016, *Gaussian Error Linear Units* (arXiv:1606.08415).
#[must_use]
pub fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    in_f32(x, |x| {
        #[cfg(feature = "flex")]
        if cpu::takes(&x) {
            return Tensor::from_dispatch(cpu::activation::gelu(x.into_dispatch()));
        }
        activation::gelu(x)
    })
}

/// `x/2 · (1 + tanh(√(2/π)·(x + 0.044715 x³)))`, the GELU of GPT-2's first weights; PyTorch's `approximate="tanh"`.
/// Computed in f32 where `x` is in less, and given back in what `x` is in.
#[must_use]
pub fn gelu_tanh<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    in_f32(x, |x| {
        #[cfg(feature = "flex")]
        if cpu::takes(&x) {
            return Tensor::from_dispatch(cpu::activation::gelu_tanh(x.into_dispatch()));
        }
        // Written with the sigmoid, as the tangent of half of what that is of.
        let cubic = x.clone().square() * 0.044_715 + 1.0;
        x.clone() * activation::sigmoid(x * cubic * TWICE_SQRT_2_OVER_PI)
    })
}

/// `2·√(2/π)`.
pub(crate) const TWICE_SQRT_2_OVER_PI: f32 = 1.595_769_2;

/// `max(x, 0)`, in place where nobody else holds `x`; in what `x` is in.
#[must_use]
pub fn relu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if cpu::takes(&x) {
        return Tensor::from_dispatch(cpu::activation::relu(x.into_dispatch()));
    }
    activation::relu(x)
}

/// `max(x, 0)²`, as nanochat has it; in what `x` is in.
///
/// Source: So et al., 2021, *Primer* (arXiv:2109.08668).
#[must_use]
pub fn relu_squared<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if cpu::takes(&x) {
        return Tensor::from_dispatch(cpu::activation::relu_squared(x.into_dispatch()));
    }
    activation::relu(x).square()
}

/// `cap · tanh(x / cap)`: bends `x` smoothly into plus and minus `cap`. Computed in f32 where `x` is in less, and given
/// back in what `x` is in.
#[must_use]
pub fn soft_cap<const D: usize>(x: Tensor<D>, cap: f64) -> Tensor<D> {
    in_f32(x, |x| {
        #[cfg(feature = "flex")]
        if cpu::takes(&x) {
            return Tensor::from_dispatch(cpu::activation::soft_cap(x.into_dispatch(), cap as f32));
        }
        (x / cap).tanh() * cap
    })
}
