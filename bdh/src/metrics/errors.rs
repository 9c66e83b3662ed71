//! Metrics of a regression: mean absolute error, root mean squared error and R².

use super::{Metric, Metrics};
use crate::failure::BoxError;
use crate::record::Value;
use burn::tensor::{DType, FloatDType, Tensor};

impl Metrics {
    /// Adds a batch of a regression to `mae`, `rmse` and `r2`: predictions and targets of one shape, such as `[batch]` or
    /// `[batch, outputs]`.
    ///
    /// They equal scikit-learn's `mean_absolute_error`, `root_mean_squared_error` and `r2_score` of all elements as one
    /// list; `mae` and `rmse` have the unit of the targets. If all targets are equal, `r2` is 1 for errors of 0 and
    /// otherwise 0. It is NaN for fewer than two elements.
    ///
    /// Sums are in f32 within a batch and in f64 across batches, around the batch's mean, so targets with a large mean
    /// lose no digits. Costs no device read. The eval fails with a sentence if the shapes differ.
    ///
    /// # Examples
    ///
    /// ```
    /// use bdh::burn::tensor::Tensor;
    /// use bdh::metrics::Metrics;
    ///
    /// /// Takes predicted and true prices, `[batch]`, and distances, `[batch, 2]`.
    /// fn eval_batch(prices: [Tensor<1>; 2], distances: [Tensor<2>; 2], metrics: &mut Metrics) {
    ///     let ([price, true_price], [distance, true_distance]) = (prices, distances);
    ///     metrics.errors(price, true_price); // mae, rmse, r2
    ///     metrics.errors_of("distance", distance, true_distance); // distance_mae, …
    /// }
    /// ```
    pub fn errors<const D: usize>(&mut self, predictions: Tensor<D>, targets: Tensor<D>) {
        self.add_errors(String::new(), predictions, targets);
    }

    /// Adds a batch of one of several outputs to `<output>_mae`, `<output>_rmse` and `<output>_r2`.
    ///
    /// See [`errors`](Self::errors).
    pub fn errors_of<const D: usize>(
        &mut self,
        output: &str,
        predictions: Tensor<D>,
        targets: Tensor<D>,
    ) {
        self.add_errors(format!("{output}_"), predictions, targets);
    }

    fn add_errors<const D: usize>(
        &mut self,
        prefix: String,
        predictions: Tensor<D>,
        targets: Tensor<D>,
    ) {
        let (shape, other) = (predictions.dims(), targets.dims());
        if shape != other {
            let kind = format!("{prefix}errors");
            let text = format!(
                "predictions have the shape {shape:?} and targets {other:?}; use one shape"
            );
            return self.refuse(kind, text, &predictions.device());
        }
        let count = shape.iter().product::<usize>();
        if count > 0 {
            let row = row(flat(predictions), flat(targets), count);
            self.add(Errors { prefix }, row, count as f64);
        }
    }
}

fn flat<const D: usize>(values: Tensor<D>) -> Tensor<1> {
    values.inner().cast(FloatDType::F32).reshape([-1])
}

/// Numbers of a row, one for each batch.
const ROW: usize = 6;

/// Returns the row of a batch: count, sums of absolute and squared errors, a center of the targets, and the sums of
/// the deviations from it and of their squares.
fn row(predictions: Tensor<1>, targets: Tensor<1>, count: usize) -> Tensor<1> {
    let errors = predictions - targets.clone();
    let center = center(&targets);
    let deviations = targets - center.clone();
    let count = Tensor::full([1], count as f64, (&errors.device(), DType::F32));
    Tensor::cat(
        vec![
            count,
            errors.clone().abs().sum(),
            errors.square().sum(),
            center,
            deviations.clone().sum(),
            deviations.square().sum(),
        ],
        0,
    )
}

/// Returns the mean of the targets, about, `[1]`: any center gives exact sums of squares, a near one in few digits.
///
/// A rounded mean of equal targets may differ from them. In their range it does not, and their deviations are zero.
fn center(targets: &Tensor<1>) -> Tensor<1> {
    let (least, greatest) = (targets.clone().min(), targets.clone().max());
    targets.clone().mean().max_pair(least).min_pair(greatest)
}

/// Accumulator of [`Metrics::errors`]: the rows of all batches, one after the other.
struct Errors {
    prefix: String,
}

impl Metric for Errors {
    fn name(&self) -> String {
        format!("{0}mae, {0}rmse, {0}r2", self.prefix)
    }

    fn keeps_all(&self) -> bool {
        true
    }

    fn compute(&self, values: &[f64], weight: f64) -> Result<Vec<(String, Value)>, BoxError> {
        let (mut absolute, mut squared) = (0.0, 0.0);
        let mut spread = Spread::default();
        for row in values.chunks_exact(ROW) {
            absolute += row[1];
            squared += row[2];
            spread = spread.with(Spread::around(row[3], row[0], [row[4], row[5]]));
        }
        let scores = [
            ("mae", absolute / weight),
            ("rmse", (squared / weight).sqrt()),
            ("r2", r2(squared, spread)),
        ];
        let key = |name| format!("{}{name}", self.prefix);
        Ok(scores
            .map(|(name, score)| (key(name), Value::Scalar(score)))
            .into())
    }
}

/// Mean of targets, and sum of squared deviations from it.
#[derive(Debug, Clone, Copy, Default)]
struct Spread {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Spread {
    /// Computes the spread of `count` targets from the sums of their deviations from a center and of the squares.
    fn around(center: f64, count: f64, [sum, squares]: [f64; 2]) -> Self {
        let offset = sum / count;
        Self {
            count,
            mean: center + offset,
            squares: (squares - sum * offset).clamp(0.0, f64::INFINITY), // not below 0 by rounding; NaN stays
        }
    }

    /// Returns the spread of both sets of targets.
    ///
    /// Source: Chan, Golub, LeVeque, 1979, *Updating formulae and a pairwise algorithm for computing sample variances*.
    fn with(self, more: Self) -> Self {
        let count = self.count + more.count;
        let share = more.count / count;
        let delta = more.mean - self.mean;
        Self {
            count,
            mean: self.mean + delta * share,
            squares: self.squares + more.squares + delta * delta * self.count * share,
        }
    }
}

/// Returns 1 minus the share of the targets' squared deviations that the squared errors are.
fn r2(squared: f64, spread: Spread) -> f64 {
    if spread.count < 2.0 {
        return f64::NAN;
    }
    if spread.squares == 0.0 {
        return if squared == 0.0 { 1.0 } else { 0.0 };
    }
    1.0 - squared / spread.squares
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::MetricError;
    use crate::metrics::{Results, compute};
    use burn::tensor::Device;

    fn computed(batches: &[(&[f32], &[f32])]) -> Result<Results, MetricError> {
        let device = Device::flex();
        let mut metrics = Metrics::default();
        for (predictions, targets) in batches {
            let predictions = Tensor::<1>::from_floats(*predictions, &device);
            metrics.errors(predictions, Tensor::from_floats(*targets, &device));
        }
        compute([metrics.read().expect("the CPU reads")])
    }

    fn scores(batches: &[(&[f32], &[f32])]) -> [f64; 3] {
        let scalars = computed(batches).expect("valid batches").scalars;
        let names: Vec<_> = scalars.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["mae", "rmse", "r2"]);
        [scalars[0].1, scalars[1].1, scalars[2].1]
    }

    #[test]
    fn scores_are_those_of_scikit_learn_over_all_batches() {
        // The example of the three functions in scikit-learn's documentation; R² is 0.948…
        let [mae, rmse, r2] = scores(&[(&[2.5, 0.0], &[3.0, -0.5]), (&[2.0, 8.0], &[2.0, 7.0])]);
        assert_eq!((mae, rmse), (0.5, 0.375_f64.sqrt()));
        assert!((r2 - (1.0 - 1.5 / 29.1875)).abs() < 1e-12, "{r2}");
    }

    #[test]
    fn targets_with_a_large_mean_lose_no_digits() {
        let near = |targets: &[f32]| {
            targets
                .iter()
                .map(|target| target + 0.25)
                .collect::<Vec<_>>()
        };
        let (first, second) = ([1e6, 1e6 + 1.0, 1e6 + 2.0], [1e6 + 3.0, 1e6 + 4.0]);
        let [_, _, r2] = scores(&[(&near(&first), &first), (&near(&second), &second)]);
        assert!((r2 - (1.0 - 5.0 * 0.0625 / 10.0)).abs() < 1e-12, "{r2}");
    }

    #[test]
    fn equal_targets_have_an_r2_of_1_or_0() {
        let targets: &[f32] = &[0.1; 7]; // whose sum is not 0.7
        assert_eq!(scores(&[(targets, targets), (targets, targets)])[2], 1.0);
        assert_eq!(scores(&[(&[0.2; 7], targets)])[2], 0.0);
    }

    #[test]
    fn one_element_has_no_r2() {
        let [mae, rmse, r2] = scores(&[(&[1.0], &[3.0])]);
        assert_eq!((mae, rmse), (2.0, 2.0));
        assert!(r2.is_nan());
    }

    #[test]
    fn nan_and_infinities_show_in_the_scores() {
        let [mae, rmse, r2] = scores(&[(&[f32::NAN, 1.0], &[1.0, 2.0])]);
        assert!(mae.is_nan() && rmse.is_nan() && r2.is_nan());
        let [mae, _, r2] = scores(&[(&[f32::INFINITY, 1.0], &[1.0, 2.0])]);
        assert_eq!((mae, r2), (f64::INFINITY, f64::NEG_INFINITY));
        assert!(scores(&[(&[1.0, 1.0], &[f32::NAN, 2.0])])[2].is_nan());
    }

    #[test]
    fn shapes_that_differ_are_refused_not_broadcast() {
        let device = Device::flex();
        let mut metrics = Metrics::default();
        metrics.errors_of(
            "age",
            Tensor::<2>::zeros([4, 1], &device),
            Tensor::zeros([1, 4], &device),
        );
        let computed = compute([metrics.read().expect("the CPU reads")]);
        assert_eq!(
            computed.expect_err("other shapes").to_string(),
            "the metric `age_errors` cannot be computed: \
             predictions have the shape [4, 1] and targets [1, 4]; use one shape"
        );
    }

    #[test]
    fn outputs_are_apart_and_empty_batches_add_nothing() {
        let device = Device::flex();
        let mut metrics = Metrics::default();
        let ones = || Tensor::<2>::ones([2, 3], &device);
        metrics.errors_of("age", ones(), ones() * 3.0);
        metrics.errors(
            Tensor::<1>::zeros([0], &device),
            Tensor::zeros([0], &device),
        );
        let scalars = compute([metrics.read().expect("the CPU reads")])
            .expect("valid batches")
            .scalars;
        assert_eq!(scalars[0], ("age_mae".to_owned(), 2.0));
        assert_eq!(scalars.len(), 3);
    }
}
