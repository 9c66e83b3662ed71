//! burn's layers, by the fused operations.

use bdh::burn::module::Param;
use bdh::burn::nn::Linear;
use bdh::burn::tensor::Tensor;
use bdh::ops::linear;

/// Takes `x`, `[…, inputs]`, through a layer.
pub(crate) fn through<const D: usize>(layer: &Linear, x: Tensor<D>) -> Tensor<D> {
    linear(x, layer.weight.val(), layer.bias.as_ref().map(Param::val))
}
