//! Direction of a metric.

use serde::Deserialize;

/// Whether lower or higher values of a metric are better.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Goal {
    /// Lower is better.
    #[default]
    Minimize,
    /// Higher is better.
    Maximize,
}

impl Goal {
    /// Returns a number to minimize; a missing or non-finite value is the worst.
    pub(crate) fn rank(self, value: Option<f64>) -> f64 {
        match value {
            Some(value) if value.is_finite() => self.sign() * value,
            _ => f64::INFINITY,
        }
    }

    /// Returns the factor that turns a value into one to minimize.
    pub(crate) fn sign(self) -> f64 {
        match self {
            Self::Maximize => -1.0,
            Self::Minimize => 1.0,
        }
    }
}
