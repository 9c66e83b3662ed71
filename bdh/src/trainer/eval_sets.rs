//! Eval sets of a run: named data, each evaluated on its own cadence or on the run's.

use crate::cadence::Cadence;
use crate::data::EvalData;
use crate::error::ConfigError;
use crate::failure::{BoxError, panic_text};
use crate::metrics::Metrics;
use crate::names::is_plain_name;
use crate::plan::Metrics as MetricKeys;
use crate::task::Task;
use burn::module::Module;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Data that is evaluated under a name.
pub(crate) struct EvalSet<B> {
    pub(crate) name: String,
    pub(crate) data: Box<dyn EvalData<Batch = B>>,
    /// Steps on which it is evaluated; `None` for the run's `eval` cadence.
    pub(crate) cadence: Option<Cadence>,
}

impl<B> EvalSet<B> {
    pub(crate) fn new(
        name: impl Into<String>,
        data: impl EvalData<Batch = B> + 'static,
        cadence: Option<Cadence>,
    ) -> Self {
        Self {
            name: name.into(),
            data: Box::new(data),
            cadence,
        }
    }
}

/// Returns the names of the eval sets, in order.
pub(super) fn names<B>(sets: &[EvalSet<B>]) -> Vec<String> {
    sets.iter().map(|set| set.name.clone()).collect()
}

/// Checks names and data of the eval sets, so that a bad batch does not end the run at its first eval.
///
/// Batches in memory are checked all, of other data the first one.
pub(super) fn check<T: Task>(
    sets: &[EvalSet<T::Batch>],
    task: &T,
    model: &T::Model,
) -> Result<(), ConfigError> {
    for (index, set) in sets.iter().enumerate() {
        check_name(&set.name)?;
        if sets[..index].iter().any(|earlier| earlier.name == set.name) {
            let problem =
                "two eval sets have this name, which begins the keys of their metrics; rename one";
            return Err(ConfigError::invalid("eval_data", &set.name, problem));
        }
        check_batches(set, task, model)?;
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), ConfigError> {
    if !is_plain_name(name) || name == "train" {
        let problem = "the name of an eval set begins the keys of its metrics; use a plain word, such as `val` or `test`";
        return Err(ConfigError::invalid("eval_data", name, problem));
    }
    Ok(())
}

fn check_batches<T: Task>(
    set: &EvalSet<T::Batch>,
    task: &T,
    model: &T::Model,
) -> Result<(), ConfigError> {
    let refused = |batch, source| ConfigError::EvalData {
        set: set.name.clone(),
        batch,
        source,
    };
    for (batch, data) in set.data.in_memory().iter().enumerate() {
        task.check(model, data)
            .map_err(|source| refused(batch, source))?;
    }
    if !set.data.in_memory().is_empty() {
        return Ok(());
    }
    let Some(first) = set.data.batches().next() else {
        let problem = "it has no batches; leave it out, or give it data (a text shorter than one window gives none)";
        return Err(ConfigError::invalid("eval_data", &set.name, problem));
    };
    let first = first.map_err(|source| refused(0, source))?;
    task.check(model, &first)
        .map_err(|source| refused(0, source))
}

/// Calls a check of names with the keys of all metrics, which are found when they are asked for.
///
/// # Errors
///
/// [`ConfigError::EvalData`] if a set cannot be evaluated: without its metrics the check would report unknown names.
pub(super) fn with_metrics<T: Task, R>(
    sets: &[EvalSet<T::Batch>],
    task: &T,
    model: &T::Model,
    check: impl FnOnce(&MetricKeys<'_>) -> Result<R, ConfigError>,
) -> Result<R, ConfigError> {
    let failed = Cell::new(None);
    let find = || match metric_keys(sets, task, model) {
        Ok(keys) => keys,
        Err(error) => {
            failed.set(Some(error));
            Vec::new()
        }
    };
    let checked = check(&MetricKeys::new(&find));
    match failed.take() {
        Some(error) => Err(error),
        None => checked,
    }
}

/// Returns the keys of all metrics, such as `val/loss`: from the task's list, or from an eval of one batch of each set.
///
/// The eval costs one device read for each set.
fn metric_keys<T: Task>(
    sets: &[EvalSet<T::Batch>],
    task: &T,
    model: &T::Model,
) -> Result<Vec<String>, ConfigError> {
    let mut keys = Vec::new();
    for set in sets {
        let names = match task.metric_names() {
            Some(names) => names,
            None => metrics_of(set, task, model).map_err(|source| ConfigError::EvalData {
                set: set.name.clone(),
                batch: 0,
                source,
            })?,
        };
        for name in names {
            keys.push(format!("{}/{name}", set.name));
        }
    }
    Ok(keys)
}

/// Returns the names of the metrics of a set's first batch.
fn metrics_of<T: Task>(
    set: &EvalSet<T::Batch>,
    task: &T,
    model: &T::Model,
) -> Result<Vec<String>, BoxError> {
    let Some(batch) = set.data.batches().next() else {
        return Ok(Vec::new()); // only data that changes: an empty set was refused before
    };
    let batch = batch?;
    let evaluated = catch_unwind(AssertUnwindSafe(|| {
        let mut metrics = Metrics::default();
        task.eval(&model.valid(), &batch, &mut metrics);
        metrics
    }));
    let metrics = evaluated
        .map_err(|panic| format!("the task or the model panicked: {}", panic_text(&*panic)))?;
    let results = crate::metrics::compute([metrics.read()?])?;
    Ok(results.scalars.into_iter().map(|(name, _)| name).collect())
}
