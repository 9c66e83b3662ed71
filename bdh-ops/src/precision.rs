//! Precision of a model's activations.

use burn::tensor::{DType, FloatDType, Tensor};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Precision of a model's activations. Parameters, gradients and optimizer state are always `f32`.
///
/// A model casts its activations once, after the embedding. The operations of this crate then cast each weight to the
/// activations' precision in the forward pass, so that its gradient is in `f32`. Sums over many numbers (norms,
/// softmax, cross-entropy) are computed in `f32`; a model uses [`upcast_f32`] for its own sums.
///
/// # Examples
///
/// ```
/// use bdh_ops::{Precision, linear};
/// use burn::tensor::{DType, Device, Distribution, Tensor};
///
/// let device = Device::flex().autodiff();
/// let weight = Tensor::<2>::random([4, 4], Distribution::Default, &device).require_grad();
/// let embedded = Tensor::<2>::random([2, 4], Distribution::Default, &device);
///
/// let x = Precision::Bf16.cast(embedded);
/// let y = linear(x, weight.clone(), None);
/// assert_eq!(y.dtype(), DType::BF16);
/// let gradients = y.cast(DType::F32).sum().backward();
/// assert_eq!(weight.grad(&gradients).expect("of a leaf").dtype(), DType::F32);
/// # assert_eq!("bf16".parse(), Ok(Precision::Bf16));
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 24 bits of significand, about 7 digits.
    #[default]
    F32,
    /// 8 bits of significand and the range of `f32`: half the memory, and matrix units on NVIDIA's GPUs since Ampere.
    Bf16,
}

impl Precision {
    /// Returns burn's type, for example for [`Device::supports_dtype`](burn::tensor::Device::supports_dtype).
    #[must_use]
    pub fn dtype(self) -> FloatDType {
        match self {
            Self::F32 => FloatDType::F32,
            Self::Bf16 => FloatDType::BF16,
        }
    }

    /// Casts `x` to this precision.
    #[must_use]
    pub fn cast<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        x.cast(self.dtype())
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}

/// Error of a text that is not a [`Precision`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownPrecision(String);

impl fmt::Display for UnknownPrecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown precision `{}`: use f32 or bf16", self.0)
    }
}

impl std::error::Error for UnknownPrecision {}

impl FromStr for Precision {
    type Err = UnknownPrecision;

    /// Parses `f32` or `bf16`, or PyTorch's names `float32` and `bfloat16`.
    fn from_str(text: &str) -> Result<Self, UnknownPrecision> {
        match text {
            "f32" | "float32" => Ok(Self::F32),
            "bf16" | "bfloat16" => Ok(Self::Bf16),
            _ => Err(UnknownPrecision(text.to_owned())),
        }
    }
}

/// Casts `bf16` and `f16` to `f32`, and returns other tensors unchanged. The gradient has the precision of `x`.
#[must_use]
pub fn upcast_f32<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    match x.dtype() {
        DType::BF16 | DType::F16 => x.cast(FloatDType::F32),
        _ => x,
    }
}

/// Computes a function in `f32` at least, and casts the result to the precision of `x`.
pub(crate) fn in_f32<const D: usize>(
    x: Tensor<D>,
    function: impl FnOnce(Tensor<D>) -> Tensor<D>,
) -> Tensor<D> {
    let given = x.dtype();
    function(upcast_f32(x)).cast(given)
}
