//! burn's layers, computed by the fused operations of `bdh-ops`.

use bdh::burn::module::Param;
use bdh::burn::nn::Linear;
use bdh::burn::tensor::Tensor;
use bdh::ops::linear;

/// Applies `layer` to `x`: `[…, inputs]` to `[…, outputs]`.
pub(crate) fn apply_linear<const D: usize>(layer: &Linear, x: Tensor<D>) -> Tensor<D> {
    linear(x, layer.weight.val(), layer.bias.as_ref().map(Param::val))
}
