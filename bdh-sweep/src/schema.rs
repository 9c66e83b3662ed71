//! `sweep.yaml`, read strictly.

use crate::distribution::Distribution;
use crate::error::SweepError;
use crate::goal::Goal;
use crate::hyperband::Hyperband;
use crate::parameter::Parameter;
use crate::space::Space;
use crate::yaml;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::str::FromStr;

/// A sweep file: a search, and the program whose runs are searched.
///
/// The keys are W&B's, so that `wandb sweep` accepts the same file. Keys that only a server can use (`project`,
/// `entity`, `controller`, `job` …) are accepted and ignored.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Sweep {
    /// Method for choosing the next trial.
    pub method: Method,
    /// Metric that trials are judged by; `bayes` and early termination need it.
    #[serde(default)]
    pub metric: Option<Metric>,
    /// Parameters to search, by name.
    #[serde(default, deserialize_with = "yaml::without_repeats")]
    pub(crate) parameters: BTreeMap<String, Parameter>,
    /// Command line that starts a trial, including macros such as `${args}`.
    #[serde(default)]
    pub command: Option<Vec<String>>,
    /// Program, for the macro `${program}`.
    #[serde(default)]
    pub program: Option<String>,
    /// Name of the sweep, for people.
    #[serde(default)]
    pub name: Option<String>,
    /// Largest number of trials.
    #[serde(default)]
    pub run_cap: Option<u64>,
    /// Early termination of unpromising trials.
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

/// Method for choosing the next trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Method {
    /// All combinations, in order.
    Grid,
    /// Independent random draws.
    Random,
    /// Points where an improvement is expected: [`Bayes`](crate::Bayes).
    Bayes,
}

/// Metric that trials are judged by.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Metric {
    /// Key in the records.
    pub name: String,
    /// Whether lower or higher is better.
    #[serde(default)]
    pub goal: Goal,
    // A trial without a value counts as the worst, which is W&B's default.
    #[serde(default, rename = "impute")]
    _impute: IgnoredAny,
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

    /// Returns the search space of all parameters.
    #[must_use]
    pub fn space(&self) -> Space {
        let mut dimensions = Vec::new();
        flatten(&self.parameters, &mut Vec::new(), &mut dimensions);
        Space::new(dimensions)
    }

    /// Reads the file of an existing folder, without the checks that newer versions have added.
    pub(crate) fn of_folder(text: &str) -> Result<Self, SweepError> {
        Ok(serde_norway::from_str(yaml::without_mark(text))?)
    }

    /// Whether another file draws the same trials.
    pub(crate) fn draws_as(&self, other: &Self) -> bool {
        self.method == other.method
            && self.metric == other.metric
            && self.parameters == other.parameters
    }

    fn check(&self) -> Result<(), SweepError> {
        if let Some(mistake) = self.mistake() {
            return Err(SweepError::Invalid(mistake.to_owned()));
        }
        if self.method == Method::Grid
            && let Err(error) = self.space().grid()
        {
            return Err(SweepError::Invalid(error.to_string()));
        }
        Ok(())
    }

    /// Returns the first contradiction between the settings.
    fn mistake(&self) -> Option<&'static str> {
        if self.parameters.is_empty() {
            return Some(
                "`parameters` is empty: give at least one, such as `lr: { min: 0.0001, max: 0.01 }`",
            );
        }
        if self.metric.is_none() && self.method == Method::Bayes {
            return Some("method `bayes` needs `metric: { name: …, goal: minimize }`");
        }
        if self.metric.is_none() && self.early_terminate.is_some() {
            return Some("`early_terminate` needs `metric: { name: …, goal: minimize }`");
        }
        if let Some(command) = &self.command
            && !command.iter().any(|word| passes_values(word))
        {
            return Some(
                "`command` passes no values, so that all trials would be the same: add the word '${args}'",
            );
        }
        None
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

/// Whether a word of `command` passes the values of a trial.
fn passes_values(word: &str) -> bool {
    word.starts_with("${args") && word.ends_with('}')
}

/// Collects all parameters with their paths of names, in alphabetical order on every level.
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
