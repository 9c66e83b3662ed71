//! Kernels of products with one weight for each head.

use super::activation::relu_backward;
use super::array::Array;
use super::gemm::{Before, Matrix, Threads, product};
use super::tape::{Kernel, run};
use super::threads::on_rows;
use burn::tensor::Tensor;

pub(crate) fn relu_heads(x: Tensor<3>, weight: Tensor<3>) -> Tensor<3> {
    let ([given, _, width], [heads, inputs, _]) = (x.dims(), weight.dims());
    assert!(
        given == heads || given == 1,
        "x must have {heads} heads, or 1 for all"
    );
    assert_eq!(
        width, inputs,
        "a row of x must have the length of a column of the weight"
    );
    Tensor::from_dispatch(run(ReluHeads, [x.into_dispatch(), weight.into_dispatch()]))
}

pub(crate) fn sum_heads(x: Tensor<3>, weight: Tensor<3>) -> Tensor<3> {
    let ([heads, _, neurons], [heads_too, inputs, _]) = (x.dims(), weight.dims());
    assert_eq!(
        (heads, neurons),
        (heads_too, inputs),
        "x must have the weight's heads and neurons"
    );
    Tensor::from_dispatch(run(SumHeads, [x.into_dispatch(), weight.into_dispatch()]))
}

/// Returns one head of an array, `[heads, rows, columns]`; an array with one head serves all heads.
fn head(array: &Array, head: usize) -> Matrix<'_> {
    let (heads, rows, columns) = sizes(array);
    let size = rows * columns;
    Matrix::new(
        &array.values()[head % heads * size..][..size],
        rows,
        columns,
    )
}

fn sizes(array: &Array) -> (usize, usize, usize) {
    let [heads, rows, columns] = *array.shape() else {
        unreachable!("these products take tensors of rank 3")
    };
    (heads, rows, columns)
}

/// Calls `write` with each head of `out`, `[heads, rows, columns]`.
fn each_head(out: &mut Array, mut write: impl FnMut(usize, usize, &mut [f32])) {
    let (_, rows, columns) = sizes(out);
    let heads = out.values_mut().chunks_exact_mut((rows * columns).max(1));
    for (head, out) in heads.enumerate() {
        write(head, columns, out);
    }
}

/// Product and ReLU of each head. The backward pass uses the result, which is 0 where the ReLU was.
#[derive(Debug)]
struct ReluHeads;

impl Kernel<2> for ReluHeads {
    type Saved = [Array; 3];

    fn forward(&self, [x, weight]: [Array; 2]) -> (Array, Self::Saved) {
        let ((_, rows, _), (heads, _, neurons)) = (sizes(&x), sizes(&weight));
        let mut out = vec![0.0; heads * rows * neurons];
        on_rows(
            &mut out,
            neurons,
            #[inline(always)]
            |first, out| {
                let mut row = first;
                let mut out = out;
                // A piece may reach into the next head.
                while !out.is_empty() {
                    let (number, begin) = (row / rows, row % rows);
                    let count = (rows - begin).min(out.len() / neurons);
                    let (own, rest) = out.split_at_mut(count * neurons);
                    let x = head(&x, number).only(begin..begin + count);
                    product(
                        own,
                        neurons,
                        Before::Replaced,
                        x,
                        head(&weight, number),
                        Threads::One,
                    );
                    for value in own {
                        *value = if *value < 0.0 { 0.0 } else { *value };
                    }
                    (out, row) = (rest, row + count);
                }
            },
        );
        let out = Array::of(out, &[heads, rows, neurons]);
        (out.clone(), [x, weight, out])
    }

    fn backward(
        &self,
        [x, weight, result]: Self::Saved,
        mut gradient: Array,
        [of_x, of_weight]: [bool; 2],
    ) -> [Option<Array>; 2] {
        relu_backward(&mut gradient, &result);
        [
            of_x.then(|| {
                let is_shared = x.shape()[0] == 1;
                let mut of_x = Array::of(vec![0.0; x.values().len()], x.shape());
                for number in 0..weight.shape()[0] {
                    let (_, rows, width) = sizes(&x);
                    let begin = if is_shared { 0 } else { number * rows * width };
                    let out = &mut of_x.values_mut()[begin..][..rows * width];
                    let weight = head(&weight, number).transposed();
                    product(
                        out,
                        width,
                        Before::AddedTo,
                        head(&gradient, number),
                        weight,
                        Threads::All,
                    );
                }
                of_x
            }),
            of_weight.then(|| of_weights(&x, &weight, &gradient)),
        ]
    }
}

/// Computes `xᵀ · gradient` for each head.
fn of_weights(x: &Array, weight: &Array, gradient: &Array) -> Array {
    let mut out = Array::of(vec![0.0; weight.values().len()], weight.shape());
    each_head(&mut out, |number, columns, out| {
        let x = head(x, number).transposed();
        product(
            out,
            columns,
            Before::Replaced,
            x,
            head(gradient, number),
            Threads::All,
        );
    });
    out
}

#[derive(Debug)]
struct SumHeads;

impl Kernel<2> for SumHeads {
    type Saved = [Array; 2];

    fn forward(&self, [x, weight]: [Array; 2]) -> (Array, Self::Saved) {
        let ((heads, rows, _), (_, _, width)) = (sizes(&x), sizes(&weight));
        let mut out = vec![0.0; rows * width];
        for number in 0..heads {
            let (x, weight) = (head(&x, number), head(&weight, number));
            product(&mut out, width, Before::AddedTo, x, weight, Threads::All);
        }
        (Array::of(out, &[1, rows, width]), [x, weight])
    }

    fn backward(
        &self,
        [x, weight]: Self::Saved,
        gradient: Array,
        [of_x, of_weight]: [bool; 2],
    ) -> [Option<Array>; 2] {
        [
            of_x.then(|| {
                let mut out = Array::of(vec![0.0; x.values().len()], x.shape());
                each_head(&mut out, |number, columns, out| {
                    let weight = head(&weight, number).transposed();
                    product(
                        out,
                        columns,
                        Before::Replaced,
                        head(&gradient, 0),
                        weight,
                        Threads::All,
                    );
                });
                out
            }),
            of_weight.then(|| of_weights(&x, &weight, &gradient)),
        ]
    }
}
