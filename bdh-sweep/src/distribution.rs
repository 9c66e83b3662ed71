//! Distributions of one parameter's values.

use serde_json::{Number, Value};
use statrs::distribution::{Beta, ContinuousCDF, Normal};
use std::ops::RangeInclusive;

/// The values of one parameter, each with its probability.
///
/// Each distribution is given by its quantile function: [`value`](Self::value) turns a number between 0 and 1 into a
/// value, so that a point of the unit cube is a point of any search space.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Distribution {
    /// One fixed value.
    Constant(Value),
    /// Equally likely values.
    Categorical(Vec<Value>),
    /// Values with their probabilities, which sum to 1.
    Weighted(Vec<(Value, f64)>),
    /// Equally likely whole numbers from `min` to `max`, both included.
    IntUniform {
        /// Smallest value.
        min: i64,
        /// Largest value.
        max: i64,
    },
    /// A number from a continuous law.
    Continuous {
        /// Law of the number.
        law: Law,
        /// If set, the number is rounded to a multiple of this, half to even; a whole step gives whole numbers.
        step: Option<Number>,
    },
}

/// Continuous law of a number.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Law {
    /// Uniform.
    Uniform {
        /// Smallest value.
        min: f64,
        /// Largest value.
        max: f64,
    },
    /// Uniform in the logarithm.
    LogUniform {
        /// Natural logarithm of the smallest value.
        min: f64,
        /// Natural logarithm of the largest value.
        max: f64,
    },
    /// Uniform in the logarithm of the inverse: the values of [`Self::LogUniform`] in reverse order.
    InvLogUniform {
        /// Natural logarithm of the inverse of the largest value.
        min: f64,
        /// Natural logarithm of the inverse of the smallest value.
        max: f64,
    },
    /// Normal.
    Normal {
        /// Mean.
        mu: f64,
        /// Standard deviation.
        sigma: f64,
    },
    /// Normal in the logarithm.
    LogNormal {
        /// Mean of the logarithm.
        mu: f64,
        /// Standard deviation of the logarithm.
        sigma: f64,
    },
    /// Beta, between 0 and 1.
    Beta {
        /// Weight towards 1.
        a: f64,
        /// Weight towards 0.
        b: f64,
    },
}

impl Distribution {
    /// Returns the value below which a share `p` of the probability lies; `p` is clamped to 0..=1.
    #[must_use]
    pub fn value(&self, p: f64) -> Value {
        let p = p.clamp(0.0, 1.0);
        match self {
            Self::Constant(value) => value.clone(),
            Self::Categorical(values) => values[quantile(p, values.len() as u64) as usize].clone(),
            Self::Weighted(values) => weighted(values, p),
            Self::IntUniform { min, max } => {
                let count = max.abs_diff(*min).saturating_add(1);
                min.saturating_add_unsigned(quantile(p, count)).into()
            }
            Self::Continuous { law, step } => rounded(law.quantile(p), step.as_ref()),
        }
    }

    /// Whether all values are finite numbers, the only ones that JSON has.
    pub(crate) fn is_finite(&self) -> bool {
        // A quantile function increases, so values that are finite at the ends and in the middle are finite everywhere.
        [0.0, f64::EPSILON, 0.5, 1.0 - f64::EPSILON, 1.0]
            .iter()
            .all(|p| self.value(*p).is_number())
    }

    /// Whether there is only one value, so that there is nothing to search.
    #[must_use]
    pub fn is_constant(&self) -> bool {
        matches!(self, Self::Constant(_))
    }

    /// Returns the number of values on a grid; `None` if they cannot be counted.
    ///
    /// A grid takes the values of a list, whole numbers, or a uniform law in steps, without its upper bound.
    #[must_use]
    pub fn grid_len(&self) -> Option<u64> {
        match self {
            Self::Constant(_) => Some(1),
            Self::Categorical(values) => Some(values.len() as u64),
            Self::IntUniform { min, max } => Some(max.abs_diff(*min).saturating_add(1)),
            Self::Continuous {
                law: Law::Uniform { min, max },
                step: Some(step),
            } => Some(((max - min) / step.as_f64()?).ceil() as u64),
            Self::Weighted(_) | Self::Continuous { .. } => None,
        }
    }

    /// Returns the value with this index, from 0, in the order of a grid.
    pub(crate) fn grid_value(&self, index: u64) -> Value {
        match self {
            Self::Categorical(values) => values[index as usize].clone(),
            Self::IntUniform { min, .. } => min.saturating_add_unsigned(index).into(),
            Self::Continuous {
                law: Law::Uniform { min, .. },
                step: Some(step),
            } => {
                let value = min + index as f64 * step.as_f64().unwrap_or(1.0);
                number(value, step.is_i64() && min.fract() == 0.0)
            }
            _ => self.value(0.5),
        }
    }
}

/// Returns which of `count` equal parts `p` lies in; a bound belongs to the part below it.
fn quantile(p: f64, count: u64) -> u64 {
    let index = (p * count as f64).ceil() as u64;
    let index = index.clamp(1, count) - 1;
    // Rounding may have moved `p * count` just beyond a bound.
    if index > 0 && index as f64 / count as f64 >= p {
        index - 1
    } else {
        index
    }
}

fn weighted(values: &[(Value, f64)], p: f64) -> Value {
    let (mut sum, mut last) = (0.0, &Value::Null);
    for (value, probability) in values {
        sum += probability;
        if p < sum {
            return value.clone();
        }
        if *probability > 0.0 {
            last = value;
        }
    }
    // Rounding may leave the sum below 1.
    last.clone()
}

fn rounded(x: f64, step: Option<&Number>) -> Value {
    let Some(step) = step else { return x.into() };
    let width = step.as_f64().unwrap_or(1.0);
    let multiple = (x / width).round_ties_even() * width;
    number(multiple, step.is_i64() || step.is_u64())
}

/// Returns a number in JSON, as an integer if it is whole.
fn number(x: f64, is_whole: bool) -> Value {
    if is_whole {
        (x as i64).into()
    } else {
        x.into()
    }
}

impl Law {
    /// Weights of a beta distribution whose quantiles can be computed in 64-bit floats.
    pub(crate) const BETA: RangeInclusive<f64> = 1e-3..=1e6;

    /// Returns the number below which a share `p` of the probability lies.
    fn quantile(self, p: f64) -> f64 {
        match self {
            Self::Uniform { min, max } => min + p * (max - min),
            Self::LogUniform { min, max } => (min + p * (max - min)).exp(),
            Self::InvLogUniform { min, max } => (-(min + (1.0 - p) * (max - min))).exp(),
            Self::Normal { mu, sigma } => mu + sigma * standard_normal(p),
            Self::LogNormal { mu, sigma } => (mu + sigma * standard_normal(p)).exp(),
            Self::Beta { a, b } => Beta::new(a, b).map_or(f64::NAN, |beta| beta.inverse_cdf(p)),
        }
    }
}

fn standard_normal(p: f64) -> f64 {
    // The quantile is infinite at 0 and 1; a draw can be 0, once in 2^53.
    let p = p.clamp(f64::EPSILON / 2.0, 1.0 - f64::EPSILON / 2.0);
    Normal::standard().inverse_cdf(p)
}
