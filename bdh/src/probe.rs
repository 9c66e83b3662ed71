//! Taps on activations: what a model shows of its insides to whoever is due on this step.

use crate::deferred::DeferredHistogram;
use bdh_ops::widened;
use burn::tensor::Tensor;
use std::cell::RefCell;
use std::fmt::Display;

/// An activation that a model offered during the forward pass of the last micro-batch.
#[derive(Debug, Clone)]
pub struct Tap {
    /// The name the model gave it, such as `h.0.mlp`.
    pub name: String,
    /// Its values, flattened to `[elements]` and detached from the tape; in f32 if the model had them in less, since
    /// statistics are sums over them.
    pub values: Tensor<1>,
    /// The size of its last dimension: `values.reshape([-1, units])` has a row for each token.
    pub units: usize,
}

impl Tap {
    /// The distribution of its values, in `bins` bins of one width.
    #[must_use]
    pub fn histogram(&self, bins: usize) -> DeferredHistogram {
        DeferredHistogram::of(self.values.clone(), bins)
    }
}

/// Collects activations while a task computes its loss.
///
/// burn has no forward hooks, so a model offers what is worth watching with [`tap`](Self::tap). A tap
/// costs one branch when nobody is due.
///
/// # Examples
///
/// ```
/// use bdh::Probe;
/// use bdh::burn::tensor::{Device, Tensor};
///
/// let hidden = Tensor::<2>::zeros([4, 8], &Device::flex());
/// Probe::off().tap("hidden", &hidden); // nobody listens: nothing is kept
/// ```
#[derive(Debug)]
pub struct Probe<'a> {
    taps: Option<&'a RefCell<Vec<Tap>>>,
}

impl Probe<'static> {
    /// A probe that keeps nothing, for evaluation, generation and tests.
    #[must_use]
    pub fn off() -> Self {
        Self { taps: None }
    }
}

impl<'a> Probe<'a> {
    /// A probe that keeps what it is shown in `taps`, in the order of the forward pass.
    #[must_use]
    pub fn into_taps(taps: &'a RefCell<Vec<Tap>>) -> Self {
        Self { taps: Some(taps) }
    }

    /// Whether anybody is due: what has to be computed for a tap alone need not be otherwise.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.taps.is_some()
    }

    /// Shows an activation of any shape under a name, such as `format_args!("h.{layer}.mlp")`.
    pub fn tap<const D: usize>(&self, name: impl Display, activation: &Tensor<D>) {
        if let Some(taps) = self.taps {
            let values = widened(activation.clone().inner().reshape([-1]));
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
    fn what_is_shown_in_less_than_f32_is_kept_in_f32_and_is_the_same() {
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
