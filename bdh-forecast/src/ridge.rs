//! Ridge regression, with every leave-one-out fit in closed form.

use super::scale::{Scale, centred};
use crate::cholesky::{backward, cholesky, dot, forward};

/// A linear fit: least squares plus a penalty on the weights of standardized features.
///
/// Leaving a row out changes the fit by a multiple of its residual, so one fit gives all leave-one-out fits:
/// `e_i / (1 - h_i)` is the residual of row i without row i, where `h_i` is its leverage. This is exact for a given
/// penalty and scale. Source: G. Golub, M. Heath and G. Wahba, "Generalized cross-validation", 1979.
#[derive(Debug, Clone)]
pub(super) struct Ridge {
    scale: Scale,
    /// Standardized rows.
    rows: Vec<Vec<f64>>,
    mean: f64,
    solution: Solution,
}

/// The weights for one penalty.
#[derive(Debug, Clone)]
struct Solution {
    /// Sum of the squared leave-one-out residuals.
    error: f64,
    factor: Vec<Vec<f64>>,
    weights: Vec<f64>,
    /// Leave-one-out residual of each row.
    residuals: Vec<f64>,
}

/// Penalties as shares of the number of rows, which is the sum of squares of a standardized feature.
const PENALTIES: [f64; 9] = [1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 10.0];

impl Ridge {
    /// Fits with the penalty whose leave-one-out error is least.
    ///
    /// Rows are `[rows][features]`. `None` if there are fewer than two, or no finite fit.
    pub(super) fn fit(rows: &[&[f64]], values: &[f64]) -> Option<Self> {
        Self::with_least_error(rows, values, &PENALTIES)
    }

    /// Fits least squares without a penalty. Features must be linearly independent.
    pub(super) fn plain(rows: &[&[f64]], values: &[f64]) -> Option<Self> {
        Self::with_least_error(rows, values, &[0.0])
    }

    fn with_least_error(rows: &[&[f64]], values: &[f64], penalties: &[f64]) -> Option<Self> {
        if rows.len() < 2 {
            return None;
        }
        let scale = Scale::of(rows);
        let rows = scale.apply_all(rows);
        let (mean, centred) = centred(values);
        let equations = NormalEquations::of(&rows, &centred, scale.len());
        let solution = equations.with_least_error(penalties)?;
        Some(Self {
            scale,
            rows,
            mean,
            solution,
        })
    }

    pub(super) fn predict(&self, row: &[f64]) -> f64 {
        self.predict_standardized(&self.scale.apply(row))
    }

    fn predict_standardized(&self, row: &[f64]) -> f64 {
        self.mean + dot(&self.solution.weights, row)
    }

    /// Returns, for each training row, what the fit without it predicts for `row`, and its absolute error on that row.
    pub(super) fn without_each(&self, row: &[f64]) -> Vec<(f64, f64)> {
        let here = self.scale.apply(row);
        let value = self.predict_standardized(&here);
        let weights = self.row_weights(&here);
        let mut without = Vec::with_capacity(self.rows.len());
        for (weight, residual) in weights.iter().zip(&self.solution.residuals) {
            without.push((value - weight * residual, residual.abs()));
        }
        without
    }

    /// Returns the weight of each training row's residual in a prediction for a standardized row.
    fn row_weights(&self, here: &[f64]) -> Vec<f64> {
        let factor = &self.solution.factor;
        let pull = backward(factor, forward(factor, here));
        let n = self.rows.len() as f64;
        let mut weights = Vec::with_capacity(self.rows.len());
        for row in &self.rows {
            weights.push(1.0 / n + dot(row, &pull));
        }
        weights
    }
}

/// The normal equations of standardized rows and centred values.
struct NormalEquations<'r> {
    rows: &'r [Vec<f64>],
    values: &'r [f64],
    /// Lower triangle of the products of features, `[features][features]`.
    gram: Vec<Vec<f64>>,
    /// Products of features and values, `[features]`.
    moments: Vec<f64>,
}

impl<'r> NormalEquations<'r> {
    fn of(rows: &'r [Vec<f64>], values: &'r [f64], features: usize) -> Self {
        let mut gram = Vec::with_capacity(features);
        let mut moments = Vec::with_capacity(features);
        for i in 0..features {
            let products = |j: usize| rows.iter().map(|row| row[i] * row[j]).sum::<f64>();
            gram.push((0..=i).map(products).collect());
            moments.push(rows.iter().zip(values).map(|(row, y)| row[i] * y).sum());
        }
        Self {
            rows,
            values,
            gram,
            moments,
        }
    }

    /// Solves the equations with the penalty whose leave-one-out error is least.
    fn with_least_error(&self, penalties: &[f64]) -> Option<Solution> {
        let mut best: Option<Solution> = None;
        for penalty in penalties {
            let Some(solution) = self.solve(*penalty) else {
                continue;
            };
            if best.as_ref().is_none_or(|best| solution.error < best.error) {
                best = Some(solution);
            }
        }
        best
    }

    /// Solves the equations with a penalty; `None` if there is no finite solution.
    fn solve(&self, penalty: f64) -> Option<Solution> {
        let n = self.rows.len() as f64;
        let factor = cholesky(self.moments.len(), |i, j| {
            self.gram[i][j] + if i == j { penalty * n } else { 0.0 }
        })?;
        let weights = backward(&factor, forward(&factor, &self.moments));
        let residuals = self.residuals(&factor, &weights);
        let error = dot(&residuals, &residuals);
        error.is_finite().then_some(Solution {
            error,
            factor,
            weights,
            residuals,
        })
    }

    /// Returns the leave-one-out residual of each row.
    fn residuals(&self, factor: &[Vec<f64>], weights: &[f64]) -> Vec<f64> {
        let n = self.rows.len() as f64;
        let mut residuals = Vec::with_capacity(self.rows.len());
        for (row, y) in self.rows.iter().zip(self.values) {
            let half = forward(factor, row);
            let leverage = 1.0 / n + dot(&half, &half);
            residuals.push((y - dot(weights, row)) / (1.0 - leverage));
        }
        residuals
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{Golden, agree};
    use super::*;

    #[test]
    fn fit_matches_scikit_learn() {
        let golden = Golden::read();
        let fit = Ridge::fit(&golden.rows(), &golden.values).expect("twelve rows");
        let weights = fit.solution.weights.iter().zip(&golden.ridge.weights);
        assert!(
            weights.clone().all(|(ours, theirs)| agree(*ours, *theirs)),
            "{weights:?}"
        );
        assert!(agree(fit.predict(&golden.new), golden.ridge.value));
    }

    /// The reference refits without each row.
    #[test]
    fn closed_form_leave_one_out_equals_refitting() {
        let golden = Golden::read();
        let fit = Ridge::fit(&golden.rows(), &golden.values).expect("twelve rows");
        let ridge = &golden.ridge;
        let theirs = ridge.values_without_each.iter().zip(&ridge.residuals);
        for ((value, miss), (expected, residual)) in
            fit.without_each(&golden.new).iter().zip(theirs)
        {
            assert!(agree(*value, *expected), "{value} and {expected}");
            assert!(agree(*miss, residual.abs()), "{miss} and {residual}");
        }
    }

    /// For y = 1, 2, 4 at x = 0, 1, 2 the slope is 1.5 and the mean 7/3. The line through two of the points misses the
    /// third by 1, 1/2 and 1.
    #[test]
    fn fit_without_a_penalty_is_least_squares() {
        let rows: [&[f64]; 3] = [&[0.0], &[1.0], &[2.0]];
        let fit = Ridge::plain(&rows, &[1.0, 2.0, 4.0]).expect("three rows");
        assert!(agree(fit.predict(&[3.0]), 7.0 / 3.0 + 3.0));
        let misses: Vec<f64> = fit
            .without_each(&[0.0])
            .iter()
            .map(|(_, miss)| *miss)
            .collect();
        assert!(
            misses
                .iter()
                .zip([1.0, 0.5, 1.0])
                .all(|(a, b)| agree(*a, b)),
            "{misses:?}"
        );
        let values: Vec<f64> = fit
            .without_each(&[0.0])
            .iter()
            .map(|(value, _)| *value)
            .collect();
        assert!(
            values
                .iter()
                .zip([0.0, 1.0, 1.0])
                .all(|(a, b)| agree(*a, b)),
            "{values:?}"
        );
    }

    #[test]
    fn constant_and_equal_features_are_handled() {
        let rows: [&[f64]; 4] = [
            &[7.0, 1.0, 1.0],
            &[7.0, 2.0, 2.0],
            &[7.0, 3.0, 3.0],
            &[7.0, 5.0, 5.0],
        ];
        let fit = Ridge::fit(&rows, &[1.0, 2.0, 3.0, 5.0]).expect("a constant and a twin");
        assert!((fit.predict(&[9.0, 4.0, 4.0]) - 4.0).abs() < 0.01);
        let constant = Ridge::plain(&[&[7.0], &[7.0]], &[1.0, 2.0]).expect("a mean");
        assert_eq!(constant.predict(&[100.0]), 1.5);
        assert!(
            Ridge::plain(&rows, &[1.0, 2.0, 3.0, 5.0]).is_none(),
            "twins need a penalty"
        );
        assert!(Ridge::fit(&[&[1.0]], &[1.0]).is_none());
    }
}
