//! Other values in the place of a model's parameters and gradients.

use super::ParamTable;
use bdh_ops::widened;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{FloatDType, GradientCheckpointingStrategy, Tensor};
use std::collections::HashMap;

/// Adds `more` to `sum`, parameter by parameter.
pub(crate) fn accumulate<M: Module>(model: &M, sum: &mut GradientsParams, more: GradientsParams) {
    struct Sum<'a>(&'a mut GradientsParams, GradientsParams);
    impl ModuleVisitor for Sum<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(more) = self.1.remove::<D>(param.id) {
                let grad = match self.0.remove::<D>(param.id) {
                    Some(sum) => sum + more,
                    None => more,
                };
                self.0.register(param.id, grad);
            }
        }
    }
    model.visit(&mut Sum(sum, more));
}

/// Multiplies every gradient by `factor`, `[1]`, on the device.
pub(crate) fn scale_gradients<M: Module>(
    model: &M,
    grads: &mut GradientsParams,
    factor: Tensor<1>,
) {
    struct Scale<'a>(&'a mut GradientsParams, Tensor<1>);
    impl ModuleVisitor for Scale<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(grad) = self.0.remove::<D>(param.id) {
                let given = FloatDType::from(grad.dtype());
                let scaled = widened(grad) * self.1.clone().reshape([1; D]); // the factor is in f32
                self.0.register(param.id, scaled.cast(given));
            }
        }
    }
    model.visit(&mut Scale(grads, factor));
}

/// `model`, which has no tape, with other values in the place of its parameters: `[elements]` each.
pub(crate) fn replaced<M: Module>(model: M, table: &ParamTable, values: &[Tensor<1>]) -> M {
    struct Replaced<'a>(HashMap<ParamId, &'a Tensor<1>>);
    impl ModuleMapper for Replaced<'_> {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            match self.0.get(&param.id) {
                Some(value) => param.map(|old| (*value).clone().reshape(old.dims())),
                None => param, // frozen, or a buffer
            }
        }
    }
    assert_eq!(values.len(), table.len(), "a value for each parameter");
    let values = table.iter().map(|param| param.id).zip(values).collect();
    model.map(&mut Replaced(values))
}

/// Replaces every gradient by what `replace` makes of it, given the index in the table and the gradient
/// as `[elements]`.
pub(crate) fn replace_gradients<M: Module>(
    model: &M,
    grads: &mut GradientsParams,
    replace: &mut dyn FnMut(usize, Tensor<1>) -> Tensor<1>,
) {
    struct Replace<'a, 'b> {
        grads: &'a mut GradientsParams,
        make: &'a mut (dyn FnMut(usize, Tensor<1>) -> Tensor<1> + 'b),
        index: usize,
    }
    impl ModuleVisitor for Replace<'_, '_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if !param.is_require_grad() {
                return;
            }
            if let Some(grad) = self.grads.remove::<D>(param.id) {
                let shape = grad.dims();
                let grad = (self.make)(self.index, grad.reshape([-1])).reshape(shape);
                self.grads.register(param.id, grad);
            }
            self.index += 1;
        }
    }
    model.visit(&mut Replace {
        grads,
        make: replace,
        index: 0,
    });
}

/// Gradients of `model`'s parameters: `value` gives each one's, `[elements]`, by the index in the table.
pub(crate) fn put_gradients<M: Module>(
    model: &M,
    value: impl FnMut(usize) -> Option<Tensor<1>>,
) -> GradientsParams {
    struct Put<F> {
        value: F,
        grads: GradientsParams,
        index: usize,
    }
    impl<F: FnMut(usize) -> Option<Tensor<1>>> ModuleVisitor for Put<F> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let weight = param.val();
            if !weight.is_require_grad() {
                return;
            }
            if let Some(value) = (self.value)(self.index) {
                let grad = value.reshape(weight.dims());
                let is_narrow = grad.dtype() != weight.dtype();
                let grad = if is_narrow {
                    grad.cast(FloatDType::from(weight.dtype()))
                } else {
                    grad
                };
                self.grads.register(param.id, grad);
            }
            self.index += 1;
        }
    }
    let mut put = Put {
        value,
        grads: GradientsParams::new(),
        index: 0,
    };
    model.visit(&mut put);
    put.grads
}

/// `model` with other values in the place of its trained parameters, `[elements]` each, on the tape as they were.
pub(crate) fn with_weights<M: Module>(model: M, values: Vec<Tensor<1>>) -> M {
    struct Put(std::vec::IntoIter<Tensor<1>>);
    impl ModuleMapper for Put {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if !param.is_require_grad() {
                return param;
            }
            let value = self.0.next().expect("a vector for each trained parameter");
            param.map(|old| OnTape::of(&old).put(value.reshape(old.dims())))
        }
    }
    model.map(&mut Put(values.into_iter()))
}

/// How a parameter stands on the tape, so that a new value can take its place there.
pub(crate) struct OnTape {
    require_grad: bool,
    /// `None` of a tensor on a device without autodiff.
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
        // As burn's own optimizer wrapper does: without the strategy the next forward pass would meet
        // parameters under two strategies, which autodiff refuses.
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
    fn a_gradient_in_bf16_is_clipped_and_stays_in_bf16() {
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
        // The bf16 nearest to 2.1; with the factor in bf16, too, it would be the next.
        assert!(
            clipped
                .into_data()
                .iter::<f32>()
                .all(|value| value == 2.093_75)
        );
    }
}
