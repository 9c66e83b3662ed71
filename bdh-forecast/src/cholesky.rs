//! Cholesky factorization of small matrices.
//!
//! Matrices have at most a few hundred rows, so plain loops are fast enough. Source: G. Golub and C. Van Loan, "Matrix
//! Computations", 4th edition, algorithm 4.2.2.

/// Returns the lower triangular factor `L` of a symmetric matrix `L Lᵀ`; `None` if the matrix is not positive definite.
#[must_use]
pub fn cholesky(size: usize, matrix: impl Fn(usize, usize) -> f64) -> Option<Vec<Vec<f64>>> {
    let mut rows: Vec<Vec<f64>> = Vec::with_capacity(size);
    for i in 0..size {
        let mut row: Vec<f64> = Vec::with_capacity(i + 1);
        for (j, above) in rows.iter().enumerate() {
            row.push((matrix(i, j) - dot(&row, above)) / above[j]);
        }
        let rest = matrix(i, i) - dot(&row, &row);
        if rest <= 0.0 || rest.is_nan() {
            return None;
        }
        row.push(rest.sqrt());
        rows.push(row);
    }
    Some(rows)
}

/// Solves `factor * x = right`.
#[must_use]
pub fn forward(factor: &[Vec<f64>], right: &[f64]) -> Vec<f64> {
    let mut x: Vec<f64> = Vec::with_capacity(right.len());
    for (row, right) in factor.iter().zip(right) {
        x.push((right - dot(row, &x)) / row[x.len()]);
    }
    x
}

/// Solves `transposed(factor) * x = right`.
#[must_use]
pub fn backward(factor: &[Vec<f64>], mut right: Vec<f64>) -> Vec<f64> {
    for i in (0..right.len()).rev() {
        right[i] /= factor[i][i];
        let solved = right[i];
        for (j, entry) in factor[i][..i].iter().enumerate() {
            right[j] -= entry * solved;
        }
    }
    right
}

/// Returns the inner product of two vectors, ignoring the surplus entries of the longer one.
#[must_use]
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
