//! Taps on activations: a model shows intermediate tensors to the callbacks that are due.

use crate::deferred::DeferredHistogram;
use bdh_ops::upcast_f32;
use burn::tensor::Tensor;
use std::cell::RefCell;
use std::fmt::Display;

/// Activation that a model showed during the forward pass of the last micro-batch.
#[derive(Debug, Clone)]
pub struct Tap {
    /// Name given by the model, such as `h.0.mlp`.
    pub name: String,
    /// Values, flattened to `[elements]` and detached from autodiff. Half precision is converted to f32, since
    /// statistics are sums over the values.
    pub values: Tensor<1>,
    /// Size of the last dimension: `values.reshape([-1, units])` has a row for each token.
    pub units: usize,
}

impl Tap {
    /// Returns a histogram of the values, in `bins` bins of equal width.
    #[must_use]
    pub fn histogram(&self, bins: usize) -> DeferredHistogram {
        DeferredHistogram::of(self.values.clone(), bins)
    }
}

/// Collector of activations while a task computes its loss.
///
/// burn has no forward hooks, so a model shows its activations with [`tap`](Self::tap). A tap costs one branch if no
/// callback is due.
///
/// # Examples
///
/// ```
/// use bdh::Probe;
/// use bdh::burn::tensor::{Device, Tensor};
///
/// let hidden = Tensor::<2>::zeros([4, 8], &Device::flex());
/// Probe::off().tap("hidden", &hidden); // keeps nothing
/// ```
#[derive(Debug)]
pub struct Probe<'a> {
    taps: Option<&'a RefCell<Vec<Tap>>>,
}

impl Probe<'static> {
    /// Returns a probe that keeps nothing, for evaluation, generation and tests.
    #[must_use]
    pub fn off() -> Self {
        Self { taps: None }
    }
}

impl<'a> Probe<'a> {
    /// Creates a probe that adds activations to `taps`, in the order of the forward pass.
    #[must_use]
    pub fn into_taps(taps: &'a RefCell<Vec<Tap>>) -> Self {
        Self { taps: Some(taps) }
    }

    /// Returns whether activations are kept. If not, a model can skip computations that only a tap needs.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.taps.is_some()
    }

    /// Adds an activation of any shape under a name, such as `format_args!("h.{layer}.mlp")`.
    pub fn tap<const D: usize>(&self, name: impl Display, activation: &Tensor<D>) {
        if let Some(taps) = self.taps {
            let values = upcast_f32(activation.clone().inner().reshape([-1]));
            let units = activation.dims()[D - 1];
            taps.borrow_mut().push(Tap {
                name: name.to_string(),
                values,
                units,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{DType, Device, Distribution};

    #[test]
    fn half_precision_activations_are_kept_in_f32() {
        let taps = RefCell::default();
        let shown = Tensor::<2>::random([3, 5], Distribution::Default, &Device::flex());
        for dtype in [DType::BF16, DType::F16, DType::F32, DType::F64] {
            let shown = shown.clone().cast(dtype);
            Probe::into_taps(&taps).tap("shown", &shown);
            let Tap { values, units, .. } = taps.borrow_mut().pop().expect("a tap");
            let kept = if dtype == DType::F64 {
                DType::F64
            } else {
                DType::F32
            };
            assert_eq!((values.dtype(), units), (kept, 5));
            let same = shown.cast(kept).reshape([-1]).into_data();
            assert_eq!(values.into_data(), same);
        }
    }
}
