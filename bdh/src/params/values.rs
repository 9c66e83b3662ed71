//! Replacement of a model's parameters and gradients.

use super::{ParamTable, ties};
use bdh_ops::upcast_f32;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{FloatDType, GradientCheckpointingStrategy, Tensor};
use std::collections::HashMap;

/// Adds the gradients `more` to `sum`.
pub(crate) fn accumulate<M: Module>(model: &M, sum: &mut GradientsParams, more: GradientsParams) {
    ties::visit(model, &mut Accumulate { sum, more });
}

struct Accumulate<'a> {
    sum: &'a mut GradientsParams,
    more: GradientsParams,
}

impl ModuleVisitor for Accumulate<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(mut grad) = self.more.remove::<D>(param.id) else {
            return;
        };
        if let Some(sum) = self.sum.remove::<D>(param.id) {
            grad = sum + grad;
        }
        self.sum.register(param.id, grad);
    }
}

/// Multiplies every gradient by `factor`, `[1]`, on the device.
pub(crate) fn scale_gradients<M: Module>(
    model: &M,
    grads: &mut GradientsParams,
    factor: Tensor<1>,
) {
    ties::visit(model, &mut Scale { grads, factor });
}

struct Scale<'a> {
    grads: &'a mut GradientsParams,
    factor: Tensor<1>,
}

impl ModuleVisitor for Scale<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.grads.remove::<D>(param.id) {
            let dtype = FloatDType::from(grad.dtype());
            let scaled = upcast_f32(grad) * self.factor.clone().reshape([1; D]); // the factor is in f32
            self.grads.register(param.id, scaled.cast(dtype));
        }
    }
}

/// Replaces the trained parameters of a model without autodiff by `values`, `[elements]` each.
pub(crate) fn replaced<M: Module>(model: M, table: &ParamTable, values: &[Tensor<1>]) -> M {
    assert_eq!(values.len(), table.len(), "a value for each parameter");
    let values = table.iter().map(|param| param.id).zip(values).collect();
    ties::map(model, &mut ReplaceById(values))
}

struct ReplaceById<'a>(HashMap<ParamId, &'a Tensor<1>>);

impl ModuleMapper for ReplaceById<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.0.get(&param.id) {
            Some(value) => param.map(|old| (*value).clone().reshape(old.dims())),
            None => param, // frozen, or a buffer
        }
    }
}

/// Replaces every gradient by the result of `replace`, which gets the index in the table and the gradient as
/// `[elements]`.
pub(crate) fn replace_gradients<M: Module>(
    model: &M,
    grads: &mut GradientsParams,
    replace: &mut dyn FnMut(usize, Tensor<1>) -> Tensor<1>,
) {
    let mut replace = ReplaceGradients {
        grads,
        replace,
        index: 0,
    };
    ties::visit(model, &mut replace);
}

struct ReplaceGradients<'a, 'b> {
    grads: &'a mut GradientsParams,
    replace: &'a mut (dyn FnMut(usize, Tensor<1>) -> Tensor<1> + 'b),
    index: usize,
}

impl ModuleVisitor for ReplaceGradients<'_, '_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !param.is_require_grad() {
            return;
        }
        if let Some(grad) = self.grads.remove::<D>(param.id) {
            let shape = grad.dims();
            let new = (self.replace)(self.index, grad.reshape([-1]));
            self.grads.register(param.id, new.reshape(shape));
        }
        self.index += 1;
    }
}

/// Builds the gradients of a model: `value` returns each, `[elements]`, by its index in the table.
pub(crate) fn put_gradients<M: Module>(
    model: &M,
    value: impl FnMut(usize) -> Option<Tensor<1>>,
) -> GradientsParams {
    let mut put = PutGradients {
        value,
        grads: GradientsParams::new(),
        index: 0,
    };
    ties::visit(model, &mut put);
    put.grads
}

struct PutGradients<F> {
    value: F,
    grads: GradientsParams,
    index: usize,
}

impl<F: FnMut(usize) -> Option<Tensor<1>>> ModuleVisitor for PutGradients<F> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let weight = param.val();
        if !weight.is_require_grad() {
            return;
        }
        if let Some(value) = (self.value)(self.index) {
            let mut grad = value.reshape(weight.dims());
            if grad.dtype() != weight.dtype() {
                grad = grad.cast(FloatDType::from(weight.dtype()));
            }
            self.grads.register(param.id, grad);
        }
        self.index += 1;
    }
}

/// Replaces the trained parameters of a model by `values`, `[elements]` each, and keeps their autodiff settings.
pub(crate) fn with_weights<M: Module>(model: M, values: Vec<Tensor<1>>) -> M {
    ties::map(model, &mut ReplaceInOrder(values.into_iter()))
}

struct ReplaceInOrder(std::vec::IntoIter<Tensor<1>>);

impl ModuleMapper for ReplaceInOrder {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if !param.is_require_grad() {
            return param;
        }
        let value = self.0.next().expect("a vector for each trained parameter");
        param.map(|old| OnTape::of(&old).put(value.reshape(old.dims())))
    }
}

/// Autodiff settings of a parameter, to apply them to its new value.
pub(crate) struct OnTape {
    require_grad: bool,
    /// `None` on a device without autodiff.
    checkpointing: Option<GradientCheckpointingStrategy>,
}

impl OnTape {
    pub(crate) fn of<const D: usize>(param: &Tensor<D>) -> Self {
        Self {
            require_grad: param.is_require_grad(),
            checkpointing: param.gradient_checkpointing_strategy(),
        }
    }

    pub(crate) fn put<const D: usize>(self, value: Tensor<D>) -> Tensor<D> {
        let Some(strategy) = self.checkpointing else {
            return value;
        };
        // burn's optimizer wrapper does the same. Without it the next forward pass would find parameters with two
        // strategies, which is an error of autodiff.
        let value = Tensor::from_inner(value).with_gradient_checkpointing_strategy(strategy);
        value.set_require_grad(self.require_grad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::LinearConfig;
    use burn::tensor::{DType, Device};

    #[test]
    fn clipped_bf16_gradients_stay_bf16() {
        let device = Device::flex();
        let model = LinearConfig::new(3, 2)
            .with_bias(false)
            .init(&device.clone().autodiff());
        let mut grads = GradientsParams::new();
        let sevens = Tensor::<2>::ones([3, 2], &device) * 7.0;
        grads.register(model.weight.id, sevens.cast(FloatDType::BF16));
        scale_gradients(&model, &mut grads, Tensor::from_floats([0.3], &device));
        let clipped = grads.get::<2>(model.weight.id).expect("a gradient");
        assert_eq!(clipped.dtype(), DType::BF16);
        // The bf16 value nearest to 2.1. If the factor were bf16 too, the result would be the next value.
        assert!(
            clipped
                .into_data()
                .iter::<f32>()
                .all(|value| value == 2.093_75)
        );
    }
}
