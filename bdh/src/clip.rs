//! Clipping of gradients by their global norm.

use crate::Deferred;
use crate::stats::Stats;
use burn::tensor::{Device, Tensor};

/// What clipping does, on the device.
pub(crate) struct Clipping {
    pub(crate) norm: Deferred,
    pub(crate) coefficient: Deferred,
    /// What every gradient is to be multiplied by, `[1]`.
    pub(crate) factor: Tensor<1>,
}

impl Clipping {
    /// The factor that brings gradients down to a norm of `max`, without waiting for the norm they have.
    ///
    /// Source: PyTorch's `clip_grad_norm_`, its `1e-6` included.
    pub(crate) fn to(max: f64, gradients: &Stats<'_>, device: &Device) -> Self {
        let norm = gradients.l2_on(&device.clone().inner());
        let factor = ((norm + 1e-6).recip() * max).clamp_max(1.0);
        Self { norm: gradients.l2(), coefficient: Deferred::from(factor.clone()), factor }
    }
}
