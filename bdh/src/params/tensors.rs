//! One tensor of any rank per parameter: weights, updates or gradients.

use super::ties;
use bdh_ops::upcast_f32;
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Tensor};

/// Tensor of any rank, as an object; its statistics are computed in `f32` or wider.
pub(crate) trait AnyRank: Send {
    /// Returns all elements, `[elements]`, in their own type.
    fn flat(&self) -> Tensor<1>;
    /// Computes the sum of squares, `[1]`.
    fn sum_of_squares(&self) -> Tensor<1>;
    /// Computes the mean, `[1]`.
    fn mean(&self) -> Tensor<1>;
    /// Computes the variance with `n - 1` in the denominator, `[1]`; 0 for a single element.
    fn variance(&self) -> Tensor<1>;
    /// Computes the largest magnitude, `[1]`.
    fn abs_max(&self) -> Tensor<1>;
    /// Counts the elements that are NaN or infinite, `[1]`.
    fn non_finite(&self) -> Tensor<1>;
}

impl<const D: usize> AnyRank for Tensor<D> {
    fn flat(&self) -> Tensor<1> {
        self.clone().reshape([-1])
    }

    fn sum_of_squares(&self) -> Tensor<1> {
        upcast_f32(self.clone()).square().sum()
    }

    fn mean(&self) -> Tensor<1> {
        upcast_f32(self.clone()).mean()
    }

    fn variance(&self) -> Tensor<1> {
        // Around the mean: E[x²] − E[x]² loses all digits where the mean is large against the spread.
        let elements = self.shape().num_elements().max(2) as f64;
        let values = upcast_f32(self.clone());
        let mean = values.clone().mean().reshape([1; D]);
        (values - mean).square().sum() / (elements - 1.0)
    }

    fn abs_max(&self) -> Tensor<1> {
        upcast_f32(self.clone()).abs().max()
    }

    fn non_finite(&self) -> Tensor<1> {
        self.clone().is_finite().bool_not().int().sum().float()
    }
}

/// Optional tensor per parameter, in the table's order.
pub(crate) type PerParam = Vec<Option<Box<dyn AnyRank>>>;

/// Returns the values of the trained parameters, without autodiff.
pub(crate) fn weights<M: Module>(model: &M) -> PerParam {
    struct Weights(PerParam);
    impl ModuleVisitor for Weights {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if param.is_require_grad() {
                self.0.push(Some(Box::new(param.val().inner())));
            }
        }
    }
    let mut weights = Weights(Vec::new());
    ties::visit(model, &mut weights);
    weights.0
}

/// Returns the update of each parameter: the difference between two states of a model.
pub(crate) fn updates<M: Module>(before: &M, after: &M) -> PerParam {
    let mut updates = PerParam::new();
    for (after, before) in weights(after).into_iter().zip(weights(before)) {
        let Some((after, before)) = after.zip(before) else {
            updates.push(None);
            continue;
        };
        let update = upcast_f32(after.flat()) - upcast_f32(before.flat());
        updates.push(Some(Box::new(update)));
    }
    updates
}

/// Returns the gradient of each parameter, if it has one.
pub(crate) fn gradients<M: Module>(model: &M, grads: &GradientsParams) -> PerParam {
    struct Gradients<'a>(&'a GradientsParams, PerParam);
    impl ModuleVisitor for Gradients<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if param.is_require_grad() {
                let grad = self.0.get::<D>(param.id);
                self.1.push(grad.map(|grad| Box::new(grad) as _));
            }
        }
    }
    let mut gradients = Gradients(grads, Vec::new());
    ties::visit(model, &mut gradients);
    gradients.1
}

/// Returns whether all trained parameters are `f32`.
pub(crate) fn are_f32<M: Module>(model: &M) -> bool {
    struct Check(bool);
    impl ModuleVisitor for Check {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0 &= !param.is_require_grad() || param.val().dtype() == DType::F32;
        }
    }
    let mut check = Check(true);
    ties::visit(model, &mut check);
    check.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, FloatDType};

    #[test]
    fn statistics_of_bf16_are_sums_in_f32() {
        let values: Vec<f32> = (0..1000).map(|value| (value % 7) as f32 - 1.0).collect();
        let exact = Tensor::<1>::from_floats(values.as_slice(), &Device::flex());
        let narrow = exact.clone().cast(FloatDType::BF16);
        let all = |tensor: &dyn AnyRank| {
            let rows = [
                tensor.sum_of_squares(),
                tensor.mean(),
                tensor.variance(),
                tensor.abs_max(),
                tensor.non_finite(),
            ];
            Tensor::cat(rows.into(), 0).into_data() // `cat` requires one dtype
        };
        assert_eq!(all(&narrow), all(&exact));
    }
}
