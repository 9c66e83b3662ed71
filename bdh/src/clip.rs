//! Clipping of gradients by their global norm.

use crate::deferred::Deferred;
use crate::stats::Stats;
use burn::tensor::{Device, Tensor};

/// Gradient norm and clipping factor, on the device.
pub(crate) struct ClipFactor {
    pub(crate) norm: Deferred,
    pub(crate) coefficient: Deferred,
    /// Factor for every gradient, `[1]`; at most 1.
    pub(crate) factor: Tensor<1>,
}

impl ClipFactor {
    /// Computes the factor that limits the gradient norm to `max`, without a device read.
    ///
    /// Source: PyTorch's `clip_grad_norm_`, including its `1e-6`.
    pub(crate) fn new(max: f64, gradients: &Stats<'_>, device: &Device) -> Self {
        let norm = gradients.l2_on(&device.clone().inner());
        let factor = ((norm + 1e-6).recip() * max).clamp_max(1.0);
        Self {
            norm: gradients.l2(),
            coefficient: Deferred::from(factor.clone()),
            factor,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::ParamTable;
    use burn::nn::LinearConfig;
    use std::sync::Arc;

    #[test]
    fn clipping_and_statistics_need_no_device_read() {
        let model = LinearConfig::new(3, 2).init(&Device::flex().autodiff());
        let table = Arc::new(ParamTable::of(&model));
        let device = Device::capture(); // computes nothing, so a device read would panic
        let graph = device.capture_scope(|scope| {
            let gradients = Stats::new(&table, || {
                let matrix = Tensor::<2>::ones([3, 2], &device) * 2.0;
                let bias = Tensor::<1>::ones([2], &device) * 2.0;
                vec![Some(Box::new(matrix)), Some(Box::new(bias))]
            });
            let clipping = ClipFactor::new(1.0, &gradients, &device);
            let _ = clipping.factor * 2.0;
            let _ = gradients
                .iter()
                .map(|param| param.std() / param.l2())
                .collect::<Vec<_>>();
            scope.complete([], [])
        });
        assert!(graph.expect("a capture device").graph.operations.len() > 10);
    }
}
