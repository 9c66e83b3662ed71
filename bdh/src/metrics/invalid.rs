//! Refusal of what a metric cannot use.

use super::{Metric, Metrics};
use crate::failure::BoxError;
use crate::record::Value;
use burn::tensor::{Device, Tensor};

impl Metrics {
    /// Adds a fault of a batch or of a setting, which fails the eval when its metrics are computed.
    ///
    /// [`Task::eval`](crate::Task::eval) returns nothing, so it cannot fail at once. `kind` is a name such as `classes`,
    /// and `text` a sentence with the value and a remedy.
    pub(super) fn refuse(&mut self, kind: String, text: String, device: &Device) {
        let nothing = Tensor::zeros([1], &device.clone().inner());
        self.add(Invalid { kind, text }, nothing, 0.0);
    }
}

/// Fault that takes the place of a metric's values.
struct Invalid {
    /// Name in the error. No accumulator with values may have it.
    kind: String,
    text: String,
}

impl Metric for Invalid {
    fn name(&self) -> String {
        self.kind.clone()
    }

    fn compute(&self, _: &[f64], _: f64) -> Result<Vec<(String, Value)>, BoxError> {
        Err(self.text.clone().into())
    }
}
