//! Metrics of an eval: named accumulators on the device, read once at the end of the eval.
//!
//! | method                            | metrics                                                       |
//! |-----------------------------------|---------------------------------------------------------------|
//! | [`mean`](Metrics::mean)           | a mean of anything                                            |
//! | [`accuracy`](Metrics::accuracy)   | share of rows whose largest logit is the target's             |
//! | [`classes`](Metrics::classes)     | accuracy, top-k, precision, recall, F1, confusion matrix      |
//! | [`ranks`](Metrics::ranks)         | area under the ROC curve, average precision                   |
//! | [`errors`](Metrics::errors)       | mean absolute error, root mean squared error, R²              |
//! | [`add`](Metrics::add)             | a [`Metric`] of your own                                      |

mod classes;
mod errors;
mod invalid;
mod ranks;

pub use classes::Classes;

use crate::deferred::{self, Deferred, Leaf};
use crate::device_read::DeviceError;
use crate::error::MetricError;
use crate::failure::BoxError;
use crate::record::Value;
use bdh_ops::upcast_f32;
use burn::tensor::Tensor;
use std::fmt;
use std::sync::Arc;

/// A quantity that is accumulated over the batches of an eval.
///
/// [`Metrics::add`] adds a batch's values, on the device. After the last batch they are read once, and
/// [`compute`](Self::compute) makes the results from them.
///
/// # Examples
///
/// ```
/// use bdh::BoxError;
/// use bdh::burn::tensor::Tensor;
/// use bdh::metrics::{Metric, Metrics};
/// use bdh::record::Value;
///
/// /// Geometric mean of positive numbers.
/// struct GeometricMean;
///
/// impl Metric for GeometricMean {
///     fn name(&self) -> String {
///         "geometric_mean".to_owned()
///     }
///
///     fn compute(&self, sums: &[f64], weight: f64) -> Result<Vec<(String, Value)>, BoxError> {
///         Ok(vec![(self.name(), Value::Scalar((sums[0] / weight).exp()))])
///     }
/// }
///
/// fn eval_batch(numbers: Tensor<1>, metrics: &mut Metrics) {
///     let count = numbers.dims()[0] as f64;
///     metrics.add(GeometricMean, numbers.log().sum(), count);
/// }
/// ```
pub trait Metric: Send + 'static {
    /// Returns the name of the accumulator. The values of two metrics of one name are accumulated together.
    fn name(&self) -> String;

    /// Whether the values of all batches are kept, one after the other, instead of their sum. Defaults to no.
    fn keeps_all(&self) -> bool {
        false
    }

    /// Computes the results from the accumulated values and the sum of their weights.
    ///
    /// Scalars become metrics of the eval, such as `val/<name>`. Other values, such as a table, are recorded under
    /// their names.
    ///
    /// # Errors
    ///
    /// If the values are invalid, such as a class that does not exist. The run then fails with this text.
    fn compute(&self, values: &[f64], weight: f64) -> Result<Vec<(String, Value)>, BoxError>;
}

/// Accumulators of one eval, still on the device.
#[derive(Default)]
pub struct Metrics(Vec<Accumulator>);

struct Accumulator {
    metric: Box<dyn Metric>,
    values: Values,
    weight: f64,
}

/// Values of a metric so far, `[values]` each.
enum Values {
    Sum(Box<Tensor<1>>),
    /// The values of each batch.
    All(Vec<Tensor<1>>),
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().map(|known| known.metric.name());
        f.debug_list().entries(names).finish()
    }
}

impl Metrics {
    /// Adds the values of a batch, `[values]`, to a metric; `weight` is the batch's number of observations.
    ///
    /// Costs no device read. The eval fails with a sentence if the values of a metric that sums them do not have one length
    /// in all batches.
    pub fn add(&mut self, metric: impl Metric, values: Tensor<1>, weight: f64) {
        let values = upcast_f32(values.inner());
        let name = metric.name();
        let Some(known) = self.0.iter_mut().find(|known| known.metric.name() == name) else {
            return self.0.push(Accumulator::new(metric, values, weight));
        };
        if let Some(text) = known.misfit(&values) {
            return self.refuse(format!("sum of {name}"), text, &values.device());
        }
        known.add(values, weight);
    }

    /// Adds `sum`, `[1]`, over `weight` observations (tokens, images, bits) to the mean of this name.
    ///
    /// Several values, such as a loss of each row, `[batch]`, are added up first. The metric is the sum of all sums divided
    /// by the sum of all weights; NaN if that is 0.
    pub fn mean(&mut self, name: impl Into<String>, sum: Tensor<1>, weight: f64) {
        let sum = if sum.dims() == [1] { sum } else { sum.sum() };
        self.add(Mean(name.into()), sum, weight);
    }

    /// Returns the accumulated values, to be read with other values of the step.
    pub(crate) fn into_pending(self) -> Vec<PendingMetric> {
        let mut pending = Vec::new();
        for Accumulator {
            metric,
            values,
            weight,
        } in self.0
        {
            let values = match values {
                Values::Sum(sum) => *sum,
                Values::All(parts) => Tensor::cat(parts, 0),
            };
            pending.push(PendingMetric {
                metric,
                values: Leaf::new(values),
                weight,
            });
        }
        pending
    }

    /// Reads the accumulated values to the host, in one device read.
    pub(crate) fn read(self) -> Result<Vec<HostMetric>, DeviceError> {
        let pending = self.into_pending();
        let inputs: Vec<_> = pending.iter().map(PendingMetric::input).collect();
        deferred::fetch(inputs.iter())?;
        Ok(pending.into_iter().map(PendingMetric::into_host).collect())
    }
}

impl Accumulator {
    fn new(metric: impl Metric, values: Tensor<1>, weight: f64) -> Self {
        Self {
            values: if metric.keeps_all() {
                Values::All(vec![values])
            } else {
                Values::Sum(Box::new(values))
            },
            metric: Box::new(metric),
            weight,
        }
    }

    /// Returns the reason why values cannot be added, if there is one.
    fn misfit(&self, more: &Tensor<1>) -> Option<String> {
        let Values::Sum(sum) = &self.values else {
            return None;
        };
        let ([had], [has]) = (sum.dims(), more.dims());
        (had != has).then(|| {
            format!("a batch has {has} values, and the batches before it have {had}; add one number of values, or let `keeps_all` return true")
        })
    }

    fn add(&mut self, more: Tensor<1>, weight: f64) {
        match &mut self.values {
            Values::Sum(sum) => **sum = Tensor::clone(sum) + more,
            Values::All(parts) => parts.push(more),
        }
        self.weight += weight;
    }
}

/// A mean: a sum divided by its weight.
struct Mean(String);

impl Metric for Mean {
    fn name(&self) -> String {
        self.0.clone()
    }

    fn compute(&self, sums: &[f64], weight: f64) -> Result<Vec<(String, Value)>, BoxError> {
        let sum = sums.first().copied().unwrap_or(f64::NAN);
        Ok(vec![(self.name(), Value::Scalar(sum / weight))])
    }
}

/// Accumulated values that are read with the next device read.
pub(crate) struct PendingMetric {
    metric: Box<dyn Metric>,
    values: Arc<Leaf>,
    weight: f64,
}

impl PendingMetric {
    /// Returns a number that is known once the values have been read.
    pub(crate) fn input(&self) -> Deferred {
        Deferred::element(&self.values, 0)
    }

    /// Returns the values, which have been read.
    pub(crate) fn into_host(self) -> HostMetric {
        HostMetric {
            metric: self.metric,
            values: self.values.values().unwrap_or_default().to_vec(),
            weight: self.weight,
        }
    }
}

/// Accumulated values of one device, on the host.
pub(crate) struct HostMetric {
    metric: Box<dyn Metric>,
    values: Vec<f64>,
    weight: f64,
}

/// Results of an eval.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Results {
    /// Metrics by name.
    pub(crate) scalars: Vec<(String, f64)>,
    /// Other values by name, such as a confusion matrix.
    pub(crate) others: Vec<(String, Value)>,
}

impl Results {
    fn has(&self, name: &str) -> bool {
        self.scalars.iter().any(|(known, _)| known == name)
            || self.others.iter().any(|(known, _)| known == name)
    }
}

/// Computes the results from the accumulated values of all devices.
pub(crate) fn compute(
    devices: impl IntoIterator<Item = Vec<HostMetric>>,
) -> Result<Results, MetricError> {
    let mut results = Results::default();
    for HostMetric {
        metric,
        values,
        weight,
    } in merge(devices)
    {
        let computed = metric
            .compute(&values, weight)
            .map_err(|source| MetricError {
                metric: metric.name(),
                source,
            })?;
        for (name, value) in computed {
            if results.has(&name) {
                let metric = metric.name();
                let source = format!("another metric is called `{name}` too; rename one").into();
                return Err(MetricError { metric, source });
            }
            match value {
                Value::Scalar(scalar) => results.scalars.push((name, scalar)),
                other => results.others.push((name, other)),
            }
        }
    }
    Ok(results)
}

fn merge(devices: impl IntoIterator<Item = Vec<HostMetric>>) -> Vec<HostMetric> {
    let mut merged: Vec<HostMetric> = Vec::new();
    for more in devices.into_iter().flatten() {
        let name = more.metric.name();
        match merged.iter_mut().find(|known| known.metric.name() == name) {
            Some(known) => known.merge(more),
            None => merged.push(more),
        }
    }
    merged
}

impl HostMetric {
    fn merge(&mut self, more: Self) {
        self.weight += more.weight;
        if self.metric.keeps_all() {
            self.values.extend(more.values);
            return;
        }
        for (sum, more) in self.values.iter_mut().zip(more.values) {
            *sum += more;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn on_device(values: &[f32]) -> Tensor<1> {
        Tensor::from_floats(values, &Device::flex())
    }

    fn results(devices: Vec<Metrics>) -> Vec<(String, f64)> {
        let read = devices
            .into_iter()
            .map(|metrics| metrics.read().expect("the CPU reads"));
        compute(read).expect("valid values").scalars
    }

    #[test]
    fn means_are_sums_over_weights_of_all_batches_and_devices() {
        let (mut first, mut second) = (Metrics::default(), Metrics::default());
        first.mean("loss", on_device(&[3.0]), 2.0);
        first.mean("loss", on_device(&[1.0]), 2.0);
        second.mean("loss", on_device(&[5.0]), 1.0);
        second.mean("only here", on_device(&[1.0]), 4.0);
        let expected = [("loss".to_owned(), 1.8), ("only here".to_owned(), 0.25)];
        assert_eq!(results(vec![first, second]), expected);
    }

    #[test]
    fn losses_of_rows_are_added_up_for_a_mean() {
        let mut metrics = Metrics::default();
        metrics.mean("loss", on_device(&[1.0, 2.0, 3.0]), 3.0);
        metrics.mean("loss", on_device(&[4.0]), 1.0);
        assert_eq!(results(vec![metrics]), [("loss".to_owned(), 2.5)]);
    }

    /// Sum of the first values.
    struct First;

    impl Metric for First {
        fn name(&self) -> String {
            "first".to_owned()
        }

        fn compute(&self, sums: &[f64], _: f64) -> Result<Vec<(String, Value)>, BoxError> {
            Ok(vec![(self.name(), Value::Scalar(sums[0]))])
        }
    }

    #[test]
    fn sums_of_other_lengths_are_refused() {
        let mut metrics = Metrics::default();
        metrics.add(First, on_device(&[1.0, 2.0]), 1.0);
        metrics.add(First, on_device(&[1.0, 2.0, 3.0]), 1.0);
        let computed = compute([metrics.read().expect("the CPU reads")]);
        let error = computed.expect_err("3 values are not 2").to_string();
        assert!(
            error.contains("`sum of first`")
                && error.contains("has 3 values, and the batches before it have 2"),
            "{error}"
        );
    }

    /// Largest value, from all values.
    struct Largest;

    impl Metric for Largest {
        fn name(&self) -> String {
            "largest".to_owned()
        }

        fn keeps_all(&self) -> bool {
            true
        }

        fn compute(&self, values: &[f64], _: f64) -> Result<Vec<(String, Value)>, BoxError> {
            let largest = values.iter().copied().reduce(f64::max).ok_or("no values")?;
            Ok(vec![(self.name(), Value::Scalar(largest))])
        }
    }

    #[test]
    fn kept_values_of_any_lengths_are_computed_together() {
        let (mut first, mut second) = (Metrics::default(), Metrics::default());
        first.add(Largest, on_device(&[3.0, 4.0]), 2.0);
        first.add(Largest, on_device(&[1.0]), 1.0);
        second.add(Largest, on_device(&[9.0, 2.0, 3.0]), 3.0);
        assert_eq!(results(vec![first, second]), [("largest".to_owned(), 9.0)]);
    }
}
