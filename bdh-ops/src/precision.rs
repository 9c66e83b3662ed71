//! What a model computes in.

use burn::tensor::{DType, FloatDType, Tensor};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What a model computes in; its parameters, their gradients and the optimizer's memory are `f32` either way.
///
/// A model casts its activations once, behind the embedding; from there on the operations of this crate cast each weight
/// to what they are given, in the forward pass, so that its gradient comes back in `f32`. What sums over many numbers
/// (norms, softmax, cross-entropy) is computed in `f32` all the same; [`widened`] is for a model's own sums.
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
    /// 24 bits of significand: 7 digits.
    #[default]
    F32,
    /// 8 bits of significand, the range of `f32`: half the memory, and the matrix units of NVIDIA's GPUs since Ampere.
    Bf16,
}

impl Precision {
    /// burn's name for it, for instance for [`Device::supports_dtype`](burn::tensor::Device::supports_dtype).
    #[must_use]
    pub fn dtype(self) -> FloatDType {
        match self {
            Self::F32 => FloatDType::F32,
            Self::Bf16 => FloatDType::BF16,
        }
    }

    /// `x` in this precision.
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

/// A text that names no [`Precision`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownPrecision(String);

impl fmt::Display for UnknownPrecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown precision `{}`; use f32 or bf16", self.0)
    }
}

impl std::error::Error for UnknownPrecision {}

impl FromStr for Precision {
    type Err = UnknownPrecision;

    /// `f32` or `bf16`, or PyTorch's `float32` and `bfloat16`.
    fn from_str(text: &str) -> Result<Self, UnknownPrecision> {
        match text {
            "f32" | "float32" => Ok(Self::F32),
            "bf16" | "bfloat16" => Ok(Self::Bf16),
            _ => Err(UnknownPrecision(text.to_owned())),
        }
    }
}

/// `x` in `f32` if it is in less, `bf16` or `f16`; as it is otherwise. Its gradient comes back in what `x` has.
#[must_use]
pub fn widened<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    match x.dtype() {
        DType::BF16 | DType::F16 => x.cast(FloatDType::F32),
        _ => x,
    }
}

/// Computes in `f32` what is given in less, and gives the result back in what `x` has.
pub(crate) fn in_f32<const D: usize>(
    x: Tensor<D>,
    function: impl FnOnce(Tensor<D>) -> Tensor<D>,
) -> Tensor<D> {
    let given = x.dtype();
    function(widened(x)).cast(given)
}
