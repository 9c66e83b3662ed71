//! Direction of a metric.

use serde::Deserialize;

/// Whether less or more is better.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Goal {
    /// Less is better.
    #[default]
    Minimize,
    /// More is better.
    Maximize,
}

impl Goal {
    /// A number of which less is better; what is no finite value is the worst.
    pub(crate) fn rank(self, value: Option<f64>) -> f64 {
        value
            .filter(|value| value.is_finite())
            .map_or(f64::INFINITY, |value| self.sign() * value)
    }

    /// What makes less the better of a value.
    pub(crate) fn sign(self) -> f64 {
        if self == Self::Maximize { -1.0 } else { 1.0 }
    }
}
