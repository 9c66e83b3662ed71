//! `sweep.yaml`, read strictly.

use crate::checked::checked;
use crate::distribution::{Distribution, Law};
use crate::error::SweepError;
use crate::goal::Goal;
use crate::hyperband::Hyperband;
use crate::space::Space;
use crate::yaml;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::{Number, Value};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::str::FromStr;

/// What a sweep file says: a search, and the program whose runs are searched.
///
/// The keys are W&B's, so that `wandb sweep` takes the same file. What only a server can use (`project`, `entity`,
/// `controller`, `job` …) is accepted and kept out of the way.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Sweep {
    /// How the next trial is chosen.
    pub method: Method,
    /// What a trial is judged by; `bayes` and early termination need it.
    #[serde(default)]
    pub metric: Option<Metric>,
    /// What is searched, by name.
    #[serde(default, deserialize_with = "yaml::without_repeats")]
    pub(crate) parameters: BTreeMap<String, Parameter>,
    /// The words that start a trial, macros such as `${args}` included.
    #[serde(default)]
    pub command: Option<Vec<String>>,
    /// The program, for the macro `${program}`.
    #[serde(default)]
    pub program: Option<String>,
    /// What people call the sweep.
    #[serde(default)]
    pub name: Option<String>,
    /// No more trials than this.
    #[serde(default)]
    pub run_cap: Option<u64>,
    /// Ends trials that are not worth their next steps.
    #[serde(default)]
    pub early_terminate: Option<Hyperband>,
    #[serde(default, rename = "apiVersion")]
    _api_version: IgnoredAny,
    #[serde(default, rename = "controller")]
    _controller: IgnoredAny,
    #[serde(default, rename = "description")]
    _description: IgnoredAny,
    #[serde(default, rename = "entity")]
    _entity: IgnoredAny,
    #[serde(default, rename = "image_uri")]
    _image_uri: IgnoredAny,
    #[serde(default, rename = "job")]
    _job: IgnoredAny,
    #[serde(default, rename = "kind")]
    _kind: IgnoredAny,
    #[serde(default, rename = "project")]
    _project: IgnoredAny,
    #[serde(default, rename = "scheduler")]
    _scheduler: IgnoredAny,
}

/// How the next trial is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Method {
    /// Every combination, in order.
    Grid,
    /// Each drawn on its own.
    Random,
    /// Where an improvement is to be expected: [`Bayes`](crate::Bayes).
    Bayes,
}

/// What a trial is judged by.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Metric {
    /// Its key in the records.
    pub name: String,
    /// Whether less or more is better.
    #[serde(default)]
    pub goal: Goal,
    #[serde(default, rename = "impute")]
    _impute: IgnoredAny, // a trial without a value counts as the worst, as by default
    #[serde(default, rename = "impute_while_running")]
    _impute_while_running: IgnoredAny,
    #[serde(default, rename = "target")]
    _target: IgnoredAny,
}

impl Sweep {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// [`SweepError`], with the key, the line, and what would be valid there.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, SweepError> {
        let path = path.as_ref();
        let text = fs::read_to_string(path).map_err(|source| SweepError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        text.parse()
    }

    /// The parameters as one space.
    #[must_use]
    pub fn space(&self) -> Space {
        let mut dimensions = Vec::new();
        flatten(&self.parameters, &mut Vec::new(), &mut dimensions);
        Space::new(dimensions)
    }

    /// Reads the file that a folder was begun with, without the checks that came later.
    pub(crate) fn of_folder(text: &str) -> Result<Self, SweepError> {
        Ok(serde_norway::from_str(yaml::without_mark(text))?)
    }

    /// Whether the trials of another file are drawn from the same.
    pub(crate) fn draws_as(&self, other: &Self) -> bool {
        let of = |sweep: &Self| (sweep.method, sweep.metric.clone(), sweep.parameters.clone());
        of(self) == of(other)
    }

    fn check(&self) -> Result<(), SweepError> {
        let invalid = |what: String| Err(SweepError::Invalid(what));
        if self.parameters.is_empty() {
            return invalid("`parameters` is empty: give at least one, such as `lr: { min: 0.0001, max: 0.01 }`".to_owned());
        }
        if self.metric.is_none() && self.method == Method::Bayes {
            return invalid(
                "method `bayes` needs `metric: { name: …, goal: minimize }`".to_owned(),
            );
        }
        if self.metric.is_none() && self.early_terminate.is_some() {
            return invalid(
                "`early_terminate` needs `metric: { name: …, goal: minimize }`".to_owned(),
            );
        }
        if self
            .command
            .as_ref()
            .is_some_and(|words| !words.iter().any(|word| passes_values(word)))
        {
            return invalid(
                "`command` passes no values, so that all trials would be the same: add the word '${args}'".to_owned(),
            );
        }
        if self.method == Method::Grid {
            self.space()
                .grid()
                .map_err(|error| SweepError::Invalid(error.to_string()))?;
        }
        Ok(())
    }
}

impl FromStr for Sweep {
    type Err = SweepError;

    fn from_str(text: &str) -> Result<Self, SweepError> {
        let sweep: Self = yaml::read(text)?;
        sweep.check()?;
        Ok(sweep)
    }
}

/// One entry of `parameters`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Parameter {
    One(Distribution),
    Nested(BTreeMap<String, Parameter>),
}

impl<'de> Deserialize<'de> for Parameter {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        checked::<Words, _, _>(
            from,
            "the settings of a parameter, such as `{ value: 0.1 }`",
        )
    }
}

/// Whether a word of `command` carries the values of a trial.
fn passes_values(word: &str) -> bool {
    word.starts_with("${args") && word.ends_with('}')
}

/// Parameters below parameters have the names of both; in alphabetical order on every level.
fn flatten(
    parameters: &BTreeMap<String, Parameter>,
    path: &mut Vec<String>,
    dimensions: &mut Vec<(Vec<String>, Distribution)>,
) {
    for (name, parameter) in parameters {
        path.push(name.clone());
        match parameter {
            Parameter::One(distribution) => dimensions.push((path.clone(), distribution.clone())),
            Parameter::Nested(below) => flatten(below, path, dimensions),
        }
        path.pop();
    }
}

/// All that can be said of a parameter.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Words {
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

/// `null` is a value too.
fn given<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(from).map(Some)
}

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
    /// What a parameter without a distribution has, by what it says.
    fn of(words: &Words) -> Result<Self, String> {
        let whole =
            |number: &Option<Number>| number.as_ref().is_some_and(|n| n.is_i64() || n.is_u64());
        Ok(match words {
            Words { value: Some(_), .. } => Self::Constant,
            Words {
                values: Some(_),
                probabilities: Some(_),
                ..
            } => Self::CategoricalWProbabilities,
            Words {
                values: Some(_), ..
            } => Self::Categorical,
            Words {
                min: Some(_),
                max: Some(_),
                ..
            } if whole(&words.min) && whole(&words.max) => Self::IntUniform,
            Words {
                min: Some(_),
                max: Some(_),
                ..
            } => Self::Uniform,
            _ => {
                return Err("a parameter needs `value`, `values`, `min` and `max`, `distribution` or `parameters`".to_owned());
            }
        })
    }

    /// The keys that it takes beside `distribution`.
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

    /// Whether the number is rounded.
    fn has_step(self) -> bool {
        self.takes().contains(&"q")
    }
}

impl Words {
    /// The keys that were said.
    fn said(&self) -> impl Iterator<Item = &'static str> {
        let said = [
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
        ];
        said.into_iter()
            .filter(|(_, is_said)| *is_said)
            .map(|(key, _)| key)
    }

    /// `min` and `max`.
    fn bounds(&self) -> Result<(f64, f64), String> {
        let (Some(min), Some(max)) = (&self.min, &self.max) else {
            return Err("it needs `min` and `max`".to_owned());
        };
        let (low, high) = (
            min.as_f64().unwrap_or(f64::NAN),
            max.as_f64().unwrap_or(f64::NAN),
        );
        if low < high {
            Ok((low, high))
        } else {
            Err(format!("min {min} is not less than max {max}"))
        }
    }

    /// The logarithms of `min` and `max`.
    fn log_bounds(&self) -> Result<(f64, f64), String> {
        let (low, high) = self.bounds()?;
        if low > 0.0 {
            Ok((low.ln(), high.ln()))
        } else {
            Err(format!("min {low} has no logarithm: it must be above 0"))
        }
    }

    /// `min` and `max` as exponents of e.
    fn exponents(&self) -> Result<(f64, f64), String> {
        let (low, high) = self.bounds()?;
        if low > 0.0 && low < 1.0 {
            return Err(format!(
                "min {low} is an exponent of e, and e^{low} is {:.4}; the values themselves are given with \
                 `distribution: log_uniform_values`",
                low.exp()
            ));
        }
        if low.abs().max(high.abs()) < f64::MAX.ln() {
            return Ok((low, high));
        }
        Err(format!(
            "min {low} and max {high} are exponents of e, and e^{high} is no number; the values themselves are given with \
             `distribution: log_uniform_values`"
        ))
    }

    fn spread(&self) -> Result<(f64, f64), String> {
        let (mu, sigma) = (self.mu.unwrap_or(0.0), self.sigma.unwrap_or(1.0));
        if sigma >= 0.0 && sigma.is_finite() && mu.is_finite() {
            Ok((mu, sigma))
        } else {
            Err(format!(
                "mu {mu} must be a number and sigma {sigma} not below 0"
            ))
        }
    }

    fn law(&self, kind: Kind) -> Result<Law, String> {
        Ok(match kind {
            Kind::Uniform | Kind::QUniform => {
                let (min, max) = self.bounds()?;
                Law::Uniform { min, max }
            }
            Kind::LogUniform | Kind::QLogUniform => {
                let (min, max) = self.exponents()?;
                Law::LogUniform { min, max }
            }
            Kind::LogUniformValues | Kind::QLogUniformValues => {
                let (min, max) = self.log_bounds()?;
                Law::LogUniform { min, max }
            }
            Kind::InvLogUniform => {
                let (min, max) = self.exponents()?;
                Law::InvLogUniform { min, max }
            }
            Kind::InvLogUniformValues => {
                let (min, max) = self.log_bounds()?;
                Law::InvLogUniform {
                    min: -max,
                    max: -min,
                }
            }
            Kind::Normal | Kind::QNormal => {
                let (mu, sigma) = self.spread()?;
                Law::Normal { mu, sigma }
            }
            Kind::LogNormal | Kind::QLogNormal => {
                let (mu, sigma) = self.spread()?;
                Law::LogNormal { mu, sigma }
            }
            _ => {
                let (a, b) = (self.a.unwrap_or(1.0), self.b.unwrap_or(1.0));
                if !(Law::BETA.contains(&a) && Law::BETA.contains(&b)) {
                    let (low, high) = (Law::BETA.start(), Law::BETA.end());
                    return Err(format!("a {a} and b {b} must be from {low} to {high}"));
                }
                Law::Beta { a, b }
            }
        })
    }

    fn weighted(self) -> Result<Distribution, String> {
        let (values, shares) = (
            self.values.unwrap_or_default(),
            self.probabilities.unwrap_or_default(),
        );
        if values.len() != shares.len() {
            return Err(format!(
                "there are {} values and {} probabilities",
                values.len(),
                shares.len()
            ));
        }
        let sum: f64 = shares.iter().sum();
        let is_share = |share: &f64| *share >= 0.0;
        if !(shares.iter().all(is_share) && (sum - 1.0).abs() <= 1e-5) {
            return Err(format!(
                "the probabilities {shares:?} sum to {sum} and not to 1"
            ));
        }
        Ok(Distribution::Weighted(
            values.into_iter().zip(shares).collect(),
        ))
    }

    fn distribution(self, kind: Kind) -> Result<Distribution, String> {
        Ok(match kind {
            Kind::Constant => Distribution::Constant(self.value.ok_or("it needs `value`")?),
            Kind::Categorical => {
                let values = self.values.filter(|values| !values.is_empty());
                Distribution::Categorical(values.ok_or("it needs `values`, at least one")?)
            }
            Kind::CategoricalWProbabilities => self.weighted()?,
            Kind::IntUniform => {
                self.bounds()?;
                let whole = |number: Option<Number>| number.and_then(|number| number.as_i64());
                let (Some(min), Some(max)) = (whole(self.min), whole(self.max)) else {
                    return Err("min and max must be whole numbers".to_owned());
                };
                Distribution::IntUniform { min, max }
            }
            _ => {
                let law = self.law(kind)?;
                let step = self
                    .q
                    .unwrap_or_else(|| Number::from_f64(1.0).expect("1 is finite"));
                if kind.has_step() && step.as_f64() <= Some(0.0) {
                    return Err(format!("q {step} must be above 0"));
                }
                let step = kind.has_step().then_some(step);
                Distribution::Continuous { law, step }.if_finite()?
            }
        })
    }
}

impl TryFrom<Words> for Parameter {
    type Error = String;

    fn try_from(mut words: Words) -> Result<Self, String> {
        if let Some(below) = words.parameters.take() {
            return match words.said().next() {
                None if words.distribution.is_none() => Ok(Self::Nested(below)),
                _ => Err("a parameter with `parameters` has nothing else".to_owned()),
            };
        }
        let kind = words.distribution.map_or_else(|| Kind::of(&words), Ok)?;
        let takes = kind.takes();
        if let Some(key) = words.said().find(|key| !takes.contains(key)) {
            return Err(format!(
                "`{key}` is not for this distribution, which takes {}",
                takes.join(", ")
            ));
        }
        words.distribution(kind).map(Self::One)
    }
}
