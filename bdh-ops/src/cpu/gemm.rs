//! Matrix products on slices, with the crate that burn's CPU backend uses too.

use rayon::current_num_threads;
use rayon::prelude::*;
use std::ops::Range;

/// Matrix in a slice, with strides of rows and columns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Creates a matrix with contiguous rows.
    pub(crate) fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::with_stride(values, rows, columns, columns)
    }

    /// Creates a matrix whose rows begin `row_stride` elements apart.
    pub(crate) fn with_stride(
        values: &'a [f32],
        rows: usize,
        columns: usize,
        row_stride: usize,
    ) -> Self {
        Self {
            values,
            rows,
            columns,
            row_stride,
            column_stride: 1,
        }
    }

    /// Returns the transposed matrix, without copying.
    pub(crate) fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// Returns some of the rows.
    pub(crate) fn only(self, rows: Range<usize>) -> Self {
        let begin = (rows.start * self.row_stride).min(self.values.len());
        Self {
            values: &self.values[begin..],
            rows: rows.len(),
            ..self
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    fn is_within_its_slice(&self) -> bool {
        reaches(self.rows, self.row_stride, self.columns, self.column_stride) <= self.values.len()
    }
}

/// Returns the number of elements from the first to the last one of a matrix, including both.
fn reaches(rows: usize, row_stride: usize, columns: usize, column_stride: usize) -> usize {
    if rows == 0 || columns == 0 {
        return 0;
    }
    (rows - 1) * row_stride + (columns - 1) * column_stride + 1
}

/// Use of the values that are already in the result.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Before {
    Replaced,
    AddedTo,
    /// `out = kept · out + new · (a · b)`.
    Mixed {
        kept: f32,
        new: f32,
    },
}

impl Before {
    fn factors(self) -> (f32, f32) {
        match self {
            Self::Replaced => (0.0, 1.0),
            Self::AddedTo => (1.0, 1.0),
            Self::Mixed { kept, new } => (kept, new),
        }
    }
}

/// Threads that a product may use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Threads {
    /// Only the current thread.
    One,
    /// All threads, if the product is large enough.
    All,
}

/// Number of multiplications from which a product uses several threads. Source: burn-flex 0.22, `ops/matmul.rs`.
const WORTH_THREADS: usize = 192 * 192 * 192;
/// Multiple for the number of rows of a thread, so that vector registers are full.
const ROWS_AT_ONCE: usize = 32;

/// Computes `out = a · b` or `out += a · b`, depending on `before`. The rows of `out` begin `row_stride` elements
/// apart.
///
/// Each thread computes some rows. The result of a row does not depend on the number of threads.
///
/// # Panics
///
/// If the shapes do not match, or a matrix is larger than its slice.
pub(crate) fn product(
    out: &mut [f32],
    row_stride: usize,
    before: Before,
    a: Matrix<'_>,
    b: Matrix<'_>,
    threads: Threads,
) {
    let is_large = a.rows * b.columns * a.columns >= WORTH_THREADS;
    let threads = if threads == Threads::All && is_large {
        current_num_threads()
    } else {
        1
    };
    let rows = a.rows.div_ceil(threads).next_multiple_of(ROWS_AT_ONCE);
    if threads == 1 || rows >= a.rows {
        return product_here(out, row_stride, before, a, b);
    }
    let parts = out.par_chunks_mut(rows * row_stride).enumerate();
    parts.for_each(|(part, out)| {
        let rows = part * rows..a.rows.min((part + 1) * rows);
        product_here(out, row_stride, before, a.only(rows), b);
    });
}

/// Computes a [`product`] on the current thread.
#[expect(
    unsafe_code,
    reason = "see SAFETY; burn's own product always allocates a tensor, and cannot add to one"
)]
fn product_here(out: &mut [f32], row_stride: usize, before: Before, a: Matrix<'_>, b: Matrix<'_>) {
    let (rows, columns, inner) = (a.rows, b.columns, a.columns);
    assert_eq!(
        inner, b.rows,
        "a row of the first matrix must have the length of a column of the second"
    );
    assert!(
        a.is_within_its_slice() && b.is_within_its_slice(),
        "a matrix is within its slice"
    );
    assert!(
        reaches(rows, row_stride, columns, 1) <= out.len(),
        "the result is within its slice"
    );
    assert!(
        row_stride >= columns || rows <= 1,
        "the rows of the result do not overlap"
    );
    let (kept, new) = before.factors();
    // SAFETY: `gemm` reads `a` and `b`, and reads and writes `out`, only at indices that the assertions above have
    // checked to be within the slices. `out` is borrowed mutably, so it does not overlap `a` or `b`.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            inner,
            out.as_mut_ptr(),
            1,
            row_stride as isize,
            before != Before::Replaced,
            a.values.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.values.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            kept,
            new,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn by_hand(
        a: impl Fn(usize, usize) -> f32,
        b: impl Fn(usize, usize) -> f32,
        inner: usize,
    ) -> impl Fn(usize, usize) -> f32 {
        move |row, column| (0..inner).map(|k| a(row, k) * b(k, column)).sum()
    }

    proptest! {
        #[test]
        fn products_equal_the_definition_for_any_strides(
            (rows, inner, columns) in (1_usize..9, 1_usize..9, 1_usize..9),
            gap in 0_usize..3,
            adds in any::<bool>(),
        ) {
            // Sums of small whole numbers are exact in any order.
            let values = |len: usize, seed: usize| -> Vec<f32> {
                (0..len).map(|k| ((k * 31 + seed) % 7) as f32 - 3.0).collect()
            };
            let (a, b) = (values(rows * (inner + gap), 1), values(columns * (inner + gap), 2));
            let stride = columns + gap;
            let mut out = values(rows * stride, 3);
            let start = out.clone();
            product(
                &mut out,
                stride,
                if adds { Before::AddedTo } else { Before::Replaced },
                Matrix::with_stride(&a, rows, inner, inner + gap),
                Matrix::with_stride(&b, columns, inner, inner + gap).transposed(),
                Threads::One,
            );
            let expected = by_hand(|i, k| a[i * (inner + gap) + k], |k, j| b[j * (inner + gap) + k], inner);
            for row in 0..rows {
                for column in 0..stride {
                    let at = row * stride + column;
                    let added = if adds { start[at] } else { 0.0 };
                    let expected = if column < columns { expected(row, column) + added } else { start[at] };
                    prop_assert_eq!(out[at], expected);
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "a matrix is within its slice")]
    fn matrix_larger_than_its_slice_panics() {
        let (values, mut out) = ([0.0; 5], [0.0; 4]);
        let matrix = Matrix::new(&values, 2, 3);
        product(
            &mut out,
            2,
            Before::Replaced,
            matrix,
            matrix.transposed(),
            Threads::One,
        );
    }

    #[test]
    #[should_panic(expected = "the result is within its slice")]
    fn result_larger_than_its_slice_panics() {
        let (values, mut out) = ([0.0; 6], [0.0; 3]);
        let matrix = Matrix::new(&values, 2, 3);
        product(
            &mut out,
            2,
            Before::Replaced,
            matrix,
            matrix.transposed(),
            Threads::One,
        );
    }
}
