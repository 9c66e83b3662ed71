//! Ridge regression, with every leave-one-out fit in closed form.

use super::scale::Scale;
use crate::cholesky::{backward, cholesky, dot, forward};

/// A line (or plane) through rows: least squares plus a penalty on the weights of standardized features.
///
/// Leaving a row out changes the fit by a multiple of its residual, so all leave-one-out fits come with the one fit:
/// `e_i / (1 - h_i)` is the residual of row i without row i, where `h_i` is its leverage. Exact for a given penalty and
/// scale. Source: G. Golub, M. Heath and G. Wahba, "Generalized cross-validation", 1979.
#[derive(Debug, Clone)]
pub(super) struct Ridge {
    scale: Scale,
    /// Standardized.
    rows: Vec<Vec<f64>>,
    mean: f64,
    weights: Vec<f64>,
    factor: Vec<Vec<f64>>,
    /// Of each row without itself.
    residuals: Vec<f64>,
}

/// Penalties as shares of the number of rows, which is the variance that a standardized feature adds up to.
const PENALTIES: [f64; 9] = [1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 10.0];

impl Ridge {
    /// The fit with the penalty whose leave-one-out error is least. Rows are `[rows][features]`; `None` if there are
    /// fewer than two, or no fit in 64 bits.
    pub(super) fn fit(rows: &[&[f64]], values: &[f64]) -> Option<Self> {
        Self::with_least_error(rows, values, &PENALTIES)
    }

    /// Least squares without a penalty. Features must not depend on each other.
    pub(super) fn plain(rows: &[&[f64]], values: &[f64]) -> Option<Self> {
        Self::with_least_error(rows, values, &[0.0])
    }

    fn with_least_error(rows: &[&[f64]], values: &[f64], penalties: &[f64]) -> Option<Self> {
        let n = rows.len() as f64;
        if rows.len() < 2 {
            return None;
        }
        let scale = Scale::of(rows);
        let rows: Vec<Vec<f64>> = rows.iter().map(|row| scale.apply(row)).collect();
        let mean = values.iter().sum::<f64>() / n;
        let products = |i: usize, j: usize| rows.iter().map(|row| row[i] * row[j]).sum::<f64>();
        let gram: Vec<Vec<f64>> = (0..scale.len())
            .map(|i| (0..=i).map(|j| products(i, j)).collect())
            .collect();
        let moment = |i: usize| {
            rows.iter()
                .zip(values)
                .map(|(row, y)| row[i] * (y - mean))
                .sum()
        };
        let moments: Vec<f64> = (0..scale.len()).map(moment).collect();
        let solve = |penalty: &f64| {
            let entry = |i: usize, j: usize| gram[i][j] + if i == j { penalty * n } else { 0.0 };
            let factor = cholesky(scale.len(), entry)?;
            let weights = backward(&factor, forward(&factor, &moments));
            let residual = |(row, y): (&Vec<f64>, &f64)| {
                let half = forward(&factor, row);
                let leverage = 1.0 / n + dot(&half, &half);
                (y - mean - dot(&weights, row)) / (1.0 - leverage)
            };
            let residuals: Vec<f64> = rows.iter().zip(values).map(residual).collect();
            let error = dot(&residuals, &residuals);
            error
                .is_finite()
                .then_some((error, factor, weights, residuals))
        };
        let fits = penalties.iter().filter_map(solve);
        let (_, factor, weights, residuals) = fits.min_by(|a, b| a.0.total_cmp(&b.0))?;
        Some(Self {
            scale,
            rows,
            mean,
            weights,
            factor,
            residuals,
        })
    }

    pub(super) fn predict(&self, row: &[f64]) -> f64 {
        self.at(&self.scale.apply(row))
    }

    fn at(&self, standardized: &[f64]) -> f64 {
        self.mean + dot(&self.weights, standardized)
    }

    /// For each row that was fitted: what the fit without it predicts here, and by how much it misses that row.
    pub(super) fn without_each(&self, row: &[f64]) -> Vec<(f64, f64)> {
        let here = self.scale.apply(row);
        let value = self.at(&here);
        let pull = backward(&self.factor, forward(&self.factor, &here));
        let without = |(row, residual): (&Vec<f64>, &f64)| {
            let weight = 1.0 / self.rows.len() as f64 + dot(row, &pull);
            (value - weight * residual, residual.abs())
        };
        self.rows.iter().zip(&self.residuals).map(without).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{Golden, agree};
    use super::*;

    #[test]
    fn the_fit_is_that_of_scikit_learn() {
        let golden = Golden::read();
        let fit = Ridge::fit(&golden.rows(), &golden.values).expect("twelve rows");
        let weights = fit.weights.iter().zip(&golden.ridge.weights);
        assert!(
            weights.clone().all(|(ours, theirs)| agree(*ours, *theirs)),
            "{weights:?}"
        );
        assert!(agree(fit.predict(&golden.new), golden.ridge.value));
    }

    /// The judge has fitted anew without each row.
    #[test]
    fn leaving_out_in_closed_form_equals_fitting_anew() {
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

    /// y = 1, 2, 4 at x = 0, 1, 2: the slope is 1.5, the mean 7/3. By the line through two of them, the third misses by
    /// -1 (0 at x = 2 … 4 - 3), 1/2 and -1.
    #[test]
    fn without_a_penalty_it_is_the_line_of_least_squares() {
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
    fn features_that_say_nothing_are_no_trouble() {
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
