//! One entry of `parameters` in a sweep file.

use crate::checked::checked;
use crate::distribution::{Distribution, Law};
use crate::yaml;
use serde::{Deserialize, Deserializer};
use serde_json::{Number, Value};
use std::collections::BTreeMap;

/// One entry of `parameters`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Parameter {
    One(Distribution),
    Nested(BTreeMap<String, Parameter>),
}

impl<'de> Deserialize<'de> for Parameter {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        checked::<RawParameter, _, _>(
            from,
            "the settings of a parameter, such as `{ value: 0.1 }`",
        )
    }
}

/// The keys of a parameter.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawParameter {
    distribution: Option<Kind>,
    #[serde(default, deserialize_with = "given")]
    value: Option<Value>,
    values: Option<Vec<Value>>,
    probabilities: Option<Vec<f64>>,
    min: Option<Number>,
    max: Option<Number>,
    q: Option<Number>,
    mu: Option<f64>,
    sigma: Option<f64>,
    a: Option<f64>,
    b: Option<f64>,
    #[serde(default, deserialize_with = "yaml::given_without_repeats")]
    parameters: Option<BTreeMap<String, Parameter>>,
}

/// Reads a value that is present; `null` is a value too.
fn given<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(from).map(Some)
}

/// Errors in the settings of a parameter.
#[derive(Debug, thiserror::Error)]
enum ParameterError {
    #[error("a parameter needs `value`, `values`, `min` and `max`, `distribution` or `parameters`")]
    Empty,
    #[error("a parameter with `parameters` cannot have other keys")]
    NestedAndMore,
    #[error("`{key}` is not for this distribution, which takes {takes}")]
    UnusedKey { key: &'static str, takes: String },
    #[error("this distribution needs {0}")]
    Missing(&'static str),
    #[error("min {min} is not less than max {max}")]
    Bounds { min: Number, max: Number },
    #[error("min and max must be whole numbers")]
    NotWhole,
    #[error("min {0} has no logarithm: it must be above 0")]
    NoLogarithm(f64),
    #[error(
        "min {min} is an exponent of e, and e^{min} is {power:.4}; the values themselves are given with \
         `distribution: log_uniform_values`"
    )]
    ValueAsExponent { min: f64, power: f64 },
    #[error(
        "min {min} and max {max} are exponents of e, and e^{max} is too large for a number; the values themselves are \
         given with `distribution: log_uniform_values`"
    )]
    Exponents { min: f64, max: f64 },
    #[error("mu {mu} must be finite, and sigma {sigma} finite and not below 0")]
    Spread { mu: f64, sigma: f64 },
    #[error("a {a} and b {b} must be from {} to {}", Law::BETA.start(), Law::BETA.end())]
    Beta { a: f64, b: f64 },
    #[error("q {0} must be above 0")]
    Step(Number),
    #[error(
        "there are {values} values and {probabilities} probabilities: give each value a probability"
    )]
    Lengths { values: usize, probabilities: usize },
    #[error("the probabilities {probabilities:?} sum to {sum} and not to 1")]
    Probabilities { probabilities: Vec<f64>, sum: f64 },
    #[error("some values are beyond the largest number of 64 bits: use smaller bounds")]
    TooLarge,
}

/// Names of distributions in a sweep file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Constant,
    Categorical,
    CategoricalWProbabilities,
    IntUniform,
    Uniform,
    QUniform,
    LogUniform,
    LogUniformValues,
    QLogUniform,
    QLogUniformValues,
    InvLogUniform,
    InvLogUniformValues,
    Normal,
    QNormal,
    LogNormal,
    QLogNormal,
    Beta,
    QBeta,
}

impl Kind {
    /// Returns the distribution of a parameter that names none, which follows from its keys.
    fn of(raw: &RawParameter) -> Result<Self, ParameterError> {
        if raw.value.is_some() {
            return Ok(Self::Constant);
        }
        if raw.values.is_some() {
            return Ok(match raw.probabilities {
                Some(_) => Self::CategoricalWProbabilities,
                None => Self::Categorical,
            });
        }
        match (&raw.min, &raw.max) {
            (Some(min), Some(max)) if is_whole(min) && is_whole(max) => Ok(Self::IntUniform),
            (Some(_), Some(_)) => Ok(Self::Uniform),
            _ => Err(ParameterError::Empty),
        }
    }

    /// Returns the keys that the distribution takes in addition to `distribution`.
    fn takes(self) -> &'static [&'static str] {
        match self {
            Self::Constant => &["value"],
            Self::Categorical => &["values"],
            Self::CategoricalWProbabilities => &["values", "probabilities"],
            Self::IntUniform
            | Self::Uniform
            | Self::LogUniform
            | Self::LogUniformValues
            | Self::InvLogUniform
            | Self::InvLogUniformValues => &["min", "max"],
            Self::QUniform | Self::QLogUniform | Self::QLogUniformValues => &["min", "max", "q"],
            Self::Normal | Self::LogNormal => &["mu", "sigma"],
            Self::QNormal | Self::QLogNormal => &["mu", "sigma", "q"],
            Self::Beta => &["a", "b"],
            Self::QBeta => &["a", "b", "q"],
        }
    }

    /// Whether values are rounded.
    fn has_step(self) -> bool {
        self.takes().contains(&"q")
    }
}

fn is_whole(number: &Number) -> bool {
    number.is_i64() || number.is_u64()
}

impl RawParameter {
    /// Returns the keys that are given, except `distribution`.
    fn keys(&self) -> Vec<&'static str> {
        let mut keys = Vec::new();
        for (key, is_given) in [
            ("value", self.value.is_some()),
            ("values", self.values.is_some()),
            ("probabilities", self.probabilities.is_some()),
            ("min", self.min.is_some()),
            ("max", self.max.is_some()),
            ("q", self.q.is_some()),
            ("mu", self.mu.is_some()),
            ("sigma", self.sigma.is_some()),
            ("a", self.a.is_some()),
            ("b", self.b.is_some()),
            ("parameters", self.parameters.is_some()),
        ] {
            if is_given {
                keys.push(key);
            }
        }
        keys
    }

    fn distribution(self, kind: Kind) -> Result<Distribution, ParameterError> {
        match kind {
            Kind::Constant => match self.value {
                Some(value) => Ok(Distribution::Constant(value)),
                None => Err(ParameterError::Missing("`value`")),
            },
            Kind::Categorical => match self.values {
                Some(values) if !values.is_empty() => Ok(Distribution::Categorical(values)),
                _ => Err(ParameterError::Missing("`values`, at least one")),
            },
            Kind::CategoricalWProbabilities => self.weighted(),
            Kind::IntUniform => self.int_uniform(),
            _ => self.continuous(kind),
        }
    }

    fn weighted(self) -> Result<Distribution, ParameterError> {
        let values = self.values.unwrap_or_default();
        let probabilities = self.probabilities.unwrap_or_default();
        if values.len() != probabilities.len() {
            return Err(ParameterError::Lengths {
                values: values.len(),
                probabilities: probabilities.len(),
            });
        }
        let sum: f64 = probabilities.iter().sum();
        let are_shares = probabilities.iter().all(|share| *share >= 0.0);
        if !are_shares || (sum - 1.0).abs() > 1e-5 || sum.is_nan() {
            return Err(ParameterError::Probabilities { probabilities, sum });
        }
        let weighted = values.into_iter().zip(probabilities).collect();
        Ok(Distribution::Weighted(weighted))
    }

    fn int_uniform(&self) -> Result<Distribution, ParameterError> {
        self.bounds()?;
        let min = self.min.as_ref().and_then(Number::as_i64);
        let max = self.max.as_ref().and_then(Number::as_i64);
        match (min, max) {
            (Some(min), Some(max)) => Ok(Distribution::IntUniform { min, max }),
            _ => Err(ParameterError::NotWhole),
        }
    }

    fn continuous(self, kind: Kind) -> Result<Distribution, ParameterError> {
        let law = self.law(kind)?;
        let step = match self.q {
            Some(step) if step.as_f64() <= Some(0.0) => return Err(ParameterError::Step(step)),
            Some(step) => Some(step),
            // Not a whole number, so that values stay numbers with a fraction, as W&B's do.
            None if kind.has_step() => Number::from_f64(1.0),
            None => None,
        };
        let distribution = Distribution::Continuous { law, step };
        if !distribution.is_finite() {
            return Err(ParameterError::TooLarge);
        }
        Ok(distribution)
    }

    fn law(&self, kind: Kind) -> Result<Law, ParameterError> {
        match kind {
            Kind::Normal | Kind::QNormal => {
                let (mu, sigma) = self.spread()?;
                Ok(Law::Normal { mu, sigma })
            }
            Kind::LogNormal | Kind::QLogNormal => {
                let (mu, sigma) = self.spread()?;
                Ok(Law::LogNormal { mu, sigma })
            }
            Kind::Beta | Kind::QBeta => self.beta(),
            _ => self.uniform(kind),
        }
    }

    /// Returns a law with bounds, which the log laws take as exponents or as values.
    fn uniform(&self, kind: Kind) -> Result<Law, ParameterError> {
        let (min, max) = match kind {
            Kind::LogUniform | Kind::QLogUniform | Kind::InvLogUniform => self.exponents()?,
            Kind::LogUniformValues | Kind::QLogUniformValues => self.log_bounds()?,
            Kind::InvLogUniformValues => {
                // The largest value has the smallest inverse.
                let (low, high) = self.log_bounds()?;
                (-high, -low)
            }
            _ => self.bounds()?,
        };
        Ok(match kind {
            Kind::InvLogUniform | Kind::InvLogUniformValues => Law::InvLogUniform { min, max },
            Kind::Uniform | Kind::QUniform => Law::Uniform { min, max },
            _ => Law::LogUniform { min, max },
        })
    }

    /// Returns `min` and `max`.
    fn bounds(&self) -> Result<(f64, f64), ParameterError> {
        let (Some(min), Some(max)) = (&self.min, &self.max) else {
            return Err(ParameterError::Missing("`min` and `max`"));
        };
        match (min.as_f64(), max.as_f64()) {
            (Some(low), Some(high)) if low < high => Ok((low, high)),
            _ => Err(ParameterError::Bounds {
                min: min.clone(),
                max: max.clone(),
            }),
        }
    }

    /// Returns the logarithms of `min` and `max`.
    fn log_bounds(&self) -> Result<(f64, f64), ParameterError> {
        let (low, high) = self.bounds()?;
        if low <= 0.0 {
            return Err(ParameterError::NoLogarithm(low));
        }
        Ok((low.ln(), high.ln()))
    }

    /// Returns `min` and `max` as exponents of e.
    fn exponents(&self) -> Result<(f64, f64), ParameterError> {
        let (min, max) = self.bounds()?;
        // A learning rate by mistake: as an exponent it would mean values near 1.
        if min > 0.0 && min < 1.0 {
            return Err(ParameterError::ValueAsExponent {
                min,
                power: min.exp(),
            });
        }
        if min.abs().max(max.abs()) >= f64::MAX.ln() {
            return Err(ParameterError::Exponents { min, max });
        }
        Ok((min, max))
    }

    /// Returns `mu` and `sigma`, by default 0 and 1.
    fn spread(&self) -> Result<(f64, f64), ParameterError> {
        let (mu, sigma) = (self.mu.unwrap_or(0.0), self.sigma.unwrap_or(1.0));
        if sigma >= 0.0 && sigma.is_finite() && mu.is_finite() {
            Ok((mu, sigma))
        } else {
            Err(ParameterError::Spread { mu, sigma })
        }
    }

    fn beta(&self) -> Result<Law, ParameterError> {
        let (a, b) = (self.a.unwrap_or(1.0), self.b.unwrap_or(1.0));
        if Law::BETA.contains(&a) && Law::BETA.contains(&b) {
            Ok(Law::Beta { a, b })
        } else {
            Err(ParameterError::Beta { a, b })
        }
    }
}

impl TryFrom<RawParameter> for Parameter {
    type Error = ParameterError;

    fn try_from(mut raw: RawParameter) -> Result<Self, ParameterError> {
        if let Some(below) = raw.parameters.take() {
            if raw.distribution.is_some() || !raw.keys().is_empty() {
                return Err(ParameterError::NestedAndMore);
            }
            return Ok(Self::Nested(below));
        }
        let kind = match raw.distribution {
            Some(kind) => kind,
            None => Kind::of(&raw)?,
        };
        for key in raw.keys() {
            if !kind.takes().contains(&key) {
                return Err(ParameterError::UnusedKey {
                    key,
                    takes: kind.takes().join(", "),
                });
            }
        }
        raw.distribution(kind).map(Self::One)
    }
}
