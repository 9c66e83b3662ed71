//! Kernels of linear layers, with one product over all rows.

use super::array::Array;
use super::gemm::{Before, Matrix, Threads, product};
use super::tape::{Kernel, run};
use super::threads::{add_up, on_tasks, rows_of_piece};
use burn::backend::DispatchTensor;

pub(crate) fn linear(
    x: DispatchTensor,
    weight: DispatchTensor,
    bias: Option<DispatchTensor>,
) -> DispatchTensor {
    match bias {
        Some(bias) => run(Biased, [x, weight, bias]),
        None => run(Linear { transposed: false }, [x, weight]),
    }
}

pub(crate) fn tied_head(x: DispatchTensor, table: DispatchTensor) -> DispatchTensor {
    run(Linear { transposed: true }, [x, table])
}

/// Linear layer without a bias.
#[derive(Debug)]
struct Linear {
    /// Whether the weight is `[outputs, inputs]`.
    transposed: bool,
}

impl Kernel<2> for Linear {
    type Saved = [Array; 2];

    fn forward(&self, [x, weight]: [Array; 2]) -> (Array, Self::Saved) {
        let out = outputs(&x, self.weights(&weight), None);
        (out, [x, weight])
    }

    fn backward(
        &self,
        [x, weight]: Self::Saved,
        gradient: Array,
        [of_x, of_weight]: [bool; 2],
    ) -> [Option<Array>; 2] {
        [
            of_x.then(|| gradient_of_x(&x, self.weights(&weight), &gradient)),
            of_weight.then(|| self.gradient_of_weight(&x, &weight, &gradient)),
        ]
    }
}

impl Linear {
    /// Returns the weight as `[inputs, outputs]`.
    fn weights<'a>(&self, weight: &'a Array) -> Matrix<'a> {
        let matrix = matrix(weight);
        if self.transposed {
            matrix.transposed()
        } else {
            matrix
        }
    }

    /// Computes the gradient of the weight, in the weight's own layout.
    fn gradient_of_weight(&self, x: &Array, weight: &Array, gradient: &Array) -> Array {
        let (x, gradient) = (matrix(x), matrix(gradient));
        let (left, right) = if self.transposed {
            (gradient, x)
        } else {
            (x, gradient)
        };
        let mut out = vec![0.0; weight.values().len()];
        product(
            &mut out,
            weight.width(),
            Before::Replaced,
            left.transposed(),
            right,
            Threads::All,
        );
        Array::of(out, weight.shape())
    }
}

/// Linear layer with a bias.
#[derive(Debug)]
struct Biased;

impl Kernel<3> for Biased {
    type Saved = [Array; 2];

    fn forward(&self, [x, weight, bias]: [Array; 3]) -> (Array, Self::Saved) {
        let out = outputs(&x, matrix(&weight), Some(bias.values()));
        (out, [x, weight])
    }

    fn backward(
        &self,
        saved: Self::Saved,
        gradient: Array,
        [of_x, of_weight, of_bias]: [bool; 3],
    ) -> [Option<Array>; 3] {
        let of_bias = of_bias.then(|| {
            let width = gradient.width();
            Array::of(sums_of_columns(gradient.values(), width, |x| x), &[width])
        });
        let unbiased = Linear { transposed: false };
        let [of_x, of_weight] = unbiased.backward(saved, gradient, [of_x, of_weight]);
        [of_x, of_weight, of_bias]
    }
}

/// Returns an array as a matrix, with all axes except the last as rows.
fn matrix(array: &Array) -> Matrix<'_> {
    let width = array.width();
    Matrix::new(array.values(), array.values().len() / width.max(1), width)
}

fn outputs(x: &Array, weights: Matrix<'_>, bias: Option<&[f32]>) -> Array {
    let rows = x.values().len() / x.width().max(1);
    let width = weights.columns();
    let (mut out, before) = match bias {
        Some(bias) => (bias.repeat(rows), Before::AddedTo),
        None => (vec![0.0; rows * width], Before::Replaced),
    };
    product(&mut out, width, before, matrix(x), weights, Threads::All);
    Array::of(out, &with_width(x.shape(), width))
}

fn gradient_of_x(x: &Array, weights: Matrix<'_>, gradient: &Array) -> Array {
    let mut out = vec![0.0; x.values().len()];
    let weights = weights.transposed();
    product(
        &mut out,
        x.width(),
        Before::Replaced,
        matrix(gradient),
        weights,
        Threads::All,
    );
    Array::of(out, x.shape())
}

/// Returns the shape with another last axis.
fn with_width(shape: &[usize], width: usize) -> Vec<usize> {
    let mut shape = shape.to_vec();
    if let Some(last) = shape.last_mut() {
        *last = width;
    }
    shape
}

/// Sums `term` over each column of rows of `width`.
pub(super) fn sums_of_columns(
    values: &[f32],
    width: usize,
    term: impl Fn(f32) -> f32 + Sync,
) -> Vec<f32> {
    let piece = rows_of_piece(width) * width;
    let sums = on_tasks(
        values.len().div_ceil(piece).max(1),
        #[inline(always)]
        |task| {
            let values = &values[task * piece..values.len().min((task + 1) * piece)];
            let mut sums = vec![0.0; width];
            for row in values.chunks_exact(width) {
                for (sum, value) in sums.iter_mut().zip(row) {
                    *sum += term(*value);
                }
            }
            sums
        },
    );
    add_up(sums)
}
