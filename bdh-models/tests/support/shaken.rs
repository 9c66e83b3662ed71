//! Models whose parameters are all different from their first values.

use bdh::burn::module::{Module, ModuleMapper, Param};
use bdh::burn::tensor::Tensor;

/// Mapper that adds a wave to every parameter, because the zeros of an untrained model could hide mistakes.
struct Shake;

impl ModuleMapper for Shake {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| {
            let (shape, device) = (tensor.dims(), tensor.device());
            let count = shape.iter().product::<usize>() as i64;
            let wave = Tensor::arange(0..count, &device).float();
            tensor + (wave * 0.37).sin().reshape(shape) * 0.1
        })
    }
}

/// Returns the model with a wave added to every parameter.
pub(crate) fn shaken<M: Module>(model: M) -> M {
    model.map(&mut Shake)
}
