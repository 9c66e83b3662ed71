//! Activation functions.

#[cfg(feature = "flex")]
use crate::cpu;
use crate::precision::in_f32;
use burn::tensor::Tensor;
use burn::tensor::activation;

/// Computes the GELU `x · Φ(x)` with the error function, like PyTorch's default.
///
/// Below f32 it computes in f32 and casts the result back.
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

/// Computes the approximate GELU `x/2 · (1 + tanh(√(2/π)·(x + 0.044715 x³)))`.
///
/// GPT-2 was trained with it; in PyTorch it is `approximate="tanh"`. Below f32 it computes in f32 and casts the result
/// back.
#[must_use]
pub fn gelu_tanh<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    in_f32(x, |x| {
        #[cfg(feature = "flex")]
        if cpu::takes(&x) {
            return Tensor::from_dispatch(cpu::activation::gelu_tanh(x.into_dispatch()));
        }
        // (1 + tanh(y)) / 2 is the sigmoid of 2y.
        let cubic = x.clone().square() * 0.044_715 + 1.0;
        x.clone() * activation::sigmoid(x * cubic * TWICE_SQRT_2_OVER_PI)
    })
}

/// `2·√(2/π)`.
pub(crate) const TWICE_SQRT_2_OVER_PI: f32 = 1.595_769_2;

/// Computes `max(x, 0)`, in place if `x` is not shared.
#[must_use]
pub fn relu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if cpu::takes(&x) {
        return Tensor::from_dispatch(cpu::activation::relu(x.into_dispatch()));
    }
    activation::relu(x)
}

/// Computes `max(x, 0)²`, nanochat's activation.
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

/// Limits `x` smoothly to the range from `-cap` to `cap`, as `cap · tanh(x / cap)`.
///
/// Below f32 it computes in f32 and casts the result back.
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
