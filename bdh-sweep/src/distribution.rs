//! Where the values of one parameter come from.

use serde_json::{Number, Value};
use statrs::distribution::{Beta, ContinuousCDF, Normal};
use std::ops::RangeInclusive;

/// A parameter's values, each with its probability.
///
/// Every distribution is told by its quantile function: [`value`](Self::value) turns a number between 0 and 1 into a
/// value, so that a point of the unit cube is a point of any search space.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Distribution {
    /// Always this.
    Constant(Value),
    /// One of these, all as likely.
    Categorical(Vec<Value>),
    /// One of these, with these probabilities, which sum to 1.
    Weighted(Vec<(Value, f64)>),
    /// A whole number from `min` to `max`, both included.
    IntUniform {
        /// The smallest.
        min: i64,
        /// The largest.
        max: i64,
    },
    /// A number.
    Continuous {
        /// How it is distributed.
        law: Law,
        /// It is rounded to a multiple of this, half to even; a whole step gives whole numbers.
        step: Option<Number>,
    },
}

/// How a number is distributed.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Law {
    /// Evenly.
    Uniform {
        /// The smallest.
        min: f64,
        /// The largest.
        max: f64,
    },
    /// Its logarithm evenly.
    LogUniform {
        /// The logarithm, to the base e, of the smallest.
        min: f64,
        /// That of the largest.
        max: f64,
    },
    /// The logarithm of its inverse evenly: the same numbers, in the other order.
    InvLogUniform {
        /// The logarithm of the inverse of the largest.
        min: f64,
        /// That of the smallest.
        max: f64,
    },
    /// Normally.
    Normal {
        /// The mean.
        mu: f64,
        /// The standard deviation.
        sigma: f64,
    },
    /// Its logarithm normally.
    LogNormal {
        /// The mean of the logarithm.
        mu: f64,
        /// Its standard deviation.
        sigma: f64,
    },
    /// Between 0 and 1 with a beta distribution.
    Beta {
        /// The weight towards 1.
        a: f64,
        /// The weight towards 0.
        b: f64,
    },
}

impl Distribution {
    /// The value below which a share `p` of the probability lies; `p` is held between 0 and 1.
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

    /// The distribution, if all its values are numbers that JSON has.
    pub(crate) fn if_finite(self) -> Result<Self, String> {
        // A quantile function rises: what is finite at the ends and in the middle is finite.
        let probes = [0.0, f64::EPSILON, 0.5, 1.0 - f64::EPSILON, 1.0];
        if probes.into_iter().all(|p| self.value(p).is_number()) {
            Ok(self)
        } else {
            Err(
                "some of its values are beyond the largest number of 64 bits: use smaller bounds"
                    .to_owned(),
            )
        }
    }

    /// Whether it has but one value, so that there is nothing to search.
    #[must_use]
    pub fn is_constant(&self) -> bool {
        matches!(self, Self::Constant(_))
    }

    /// How many values a grid has of it, if they can be counted: those of a list, whole numbers, or an even
    /// distribution in steps, whose upper bound is not one of them.
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

    /// The value with this number, from 0, in the order of a grid.
    pub(crate) fn grid_value(&self, index: u64) -> Value {
        match self {
            Self::Categorical(values) => values[index as usize].clone(),
            Self::IntUniform { min, .. } => min.saturating_add_unsigned(index).into(),
            Self::Continuous {
                law: Law::Uniform { min, .. },
                step: Some(step),
            } => {
                let value = min + index as f64 * step.as_f64().unwrap_or(1.0);
                let is_whole = step.is_i64() && min.fract() == 0.0;
                if is_whole {
                    (value as i64).into()
                } else {
                    value.into()
                }
            }
            _ => self.value(0.5),
        }
    }
}

/// Which of `count` equal parts `p` lies in, a bound belonging to the part below it.
fn quantile(p: f64, count: u64) -> u64 {
    let index = (p * count as f64).ceil() as u64;
    let index = index.clamp(1, count) - 1;
    // Rounding may have carried `p * count` just beyond a bound.
    if index > 0 && index as f64 / count as f64 >= p {
        index - 1
    } else {
        index
    }
}

fn weighted(values: &[(Value, f64)], p: f64) -> Value {
    let mut sum = 0.0;
    let hit = values.iter().find(|(_, probability)| {
        sum += probability;
        p < sum
    });
    // Rounding may leave the sum below 1.
    let hit = hit.or_else(|| values.iter().rfind(|(_, probability)| *probability > 0.0));
    hit.map_or(Value::Null, |(value, _)| value.clone())
}

fn rounded(x: f64, step: Option<&Number>) -> Value {
    let Some(step) = step else { return x.into() };
    let width = step.as_f64().unwrap_or(1.0);
    let multiple = (x / width).round_ties_even() * width;
    if step.is_i64() || step.is_u64() {
        (multiple as i64).into()
    } else {
        multiple.into()
    }
}

impl Law {
    /// Weights of a beta distribution whose quantiles are found in 64 bits.
    pub(crate) const BETA: RangeInclusive<f64> = 1e-3..=1e6;

    /// The number below which a share `p` of the probability lies.
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
    // At 0 and 1 it is infinite; a draw can be 0, once in 2^53.
    let p = p.clamp(f64::EPSILON / 2.0, 1.0 - f64::EPSILON / 2.0);
    Normal::standard().inverse_cdf(p)
}
