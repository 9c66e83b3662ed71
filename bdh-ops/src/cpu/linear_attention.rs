//! Kernel of attention without a softmax, by blocks of queries. Scores hidden from a whole block are not computed.

use super::array::Array;
use super::gemm::{Before, Matrix, Threads, product};
use super::tape::{Kernel, run};
use burn::tensor::Tensor;
use rayon::prelude::*;
use std::ops::Range;

/// Number of queries of a block.
const BLOCK: usize = 64;

pub(crate) fn linear_attention(keys: Tensor<4>, values: Tensor<3>) -> Tensor<4> {
    let [heads, batch, seq_len, neurons] = keys.dims();
    let [.., width] = values.dims();
    assert_eq!(
        values.dims(),
        [batch, seq_len, width],
        "there must be one value for each token"
    );
    let shape = LinearAttention {
        heads,
        batch,
        seq_len,
        neurons,
        width,
    };
    Tensor::from_dispatch(run(shape, [keys.into_dispatch(), values.into_dispatch()]))
}

#[derive(Debug, Clone, Copy)]
struct LinearAttention {
    heads: usize,
    batch: usize,
    seq_len: usize,
    neurons: usize,
    width: usize,
}

impl Kernel<2> for LinearAttention {
    type Saved = [Array; 2];

    fn forward(&self, [keys, values]: [Array; 2]) -> (Array, Self::Saved) {
        let mut read = vec![0.0; self.heads * self.batch * self.seq_len * self.width];
        let heads = read
            .par_chunks_mut((self.seq_len * self.width).max(1))
            .enumerate();
        heads.for_each(|(head, read)| self.read(self.head(&keys, &values, head), read));
        let read = Array::of(read, &[self.heads, self.batch, self.seq_len, self.width]);
        (read, [keys, values])
    }

    fn backward(
        &self,
        [keys, values]: Self::Saved,
        gradient: Array,
        _: [bool; 2],
    ) -> [Option<Array>; 2] {
        let size = self.seq_len * self.width;
        let mut of_keys = vec![0.0; keys.values().len()];
        let heads = of_keys
            .par_chunks_mut((self.seq_len * self.neurons).max(1))
            .enumerate();
        let of_head = |(head, of_keys): (usize, &mut [f32])| {
            let gradient = &gradient.values()[head * size..][..size];
            self.backward_head(self.head(&keys, &values, head), gradient, of_keys)
        };
        let heads: Vec<_> = heads.map(of_head).collect();
        let mut of_values = vec![0.0; values.values().len()];
        for (head, of_value) in heads.into_iter().enumerate() {
            let sums = &mut of_values[head % self.batch * size..][..size];
            for (sum, value) in sums.iter_mut().zip(of_value) {
                *sum += value;
            }
        }
        let of_keys = Array::of(of_keys, keys.shape());
        [Some(of_keys), Some(Array::of(of_values, values.shape()))]
    }
}

/// Keys, `[seq_len, neurons]`, and values, `[seq_len, width]`, of one head in one batch row.
type Head<'a> = (&'a [f32], &'a [f32]);

impl LinearAttention {
    fn head<'a>(&self, keys: &'a Array, values: &'a Array, head: usize) -> Head<'a> {
        let (keys_size, values_size) = (self.seq_len * self.neurons, self.seq_len * self.width);
        let keys = &keys.values()[head * keys_size..][..keys_size];
        (
            keys,
            &values.values()[head % self.batch * values_size..][..values_size],
        )
    }

    fn blocks(&self) -> impl Iterator<Item = Range<usize>> {
        let end = self.seq_len;
        (0..end)
            .step_by(BLOCK)
            .map(move |start| start..end.min(start + BLOCK))
    }

    fn read(&self, (keys, values): Head<'_>, read: &mut [f32]) {
        let mut scores = Vec::new();
        for block in self.blocks() {
            let (own, seen) = (
                self.keys(keys, block.clone()),
                self.keys(keys, 0..block.end),
            );
            before(&mut scores, own, seen.transposed(), block.start);
            let scores = Matrix::new(&scores, block.len(), block.end);
            let values = Matrix::new(values, block.end, self.width);
            let read = &mut read[block.start * self.width..];
            product(
                read,
                self.width,
                Before::Replaced,
                scores,
                values,
                Threads::One,
            );
        }
    }

    /// Adds to the gradient of the keys, and returns the gradient of the values.
    fn backward_head(
        &self,
        (keys, values): Head<'_>,
        gradient: &[f32],
        of_keys: &mut [f32],
    ) -> Vec<f32> {
        let mut of_values = vec![0.0; values.len()];
        let (mut scores, mut of_scores) = (Vec::new(), Vec::new());
        for block in self.blocks() {
            let (own, seen) = (
                self.keys(keys, block.clone()),
                self.keys(keys, 0..block.end),
            );
            let values = Matrix::new(values, block.end, self.width);
            let gradient = &gradient[block.start * self.width..];
            let gradient = Matrix::new(gradient, block.len(), self.width);
            before(&mut scores, own, seen.transposed(), block.start);
            before(&mut of_scores, gradient, values.transposed(), block.start);

            let scores = Matrix::new(&scores, block.len(), block.end);
            let of_scores = Matrix::new(&of_scores, block.len(), block.end);
            let add = |out: &mut [f32], width, a, b| {
                product(out, width, Before::AddedTo, a, b, Threads::One);
            };
            // Keys are also the queries.
            add(
                &mut of_keys[block.start * self.neurons..],
                self.neurons,
                of_scores,
                seen,
            );
            add(of_keys, self.neurons, of_scores.transposed(), own);
            add(&mut of_values, self.width, scores.transposed(), gradient);
        }
        of_values
    }

    fn keys<'a>(&self, keys: &'a [f32], tokens: Range<usize>) -> Matrix<'a> {
        Matrix::new(
            &keys[tokens.start * self.neurons..],
            tokens.len(),
            self.neurons,
        )
    }
}

/// Computes a product in the memory of `out`, with zeros in row `i` from column `first + i` on.
fn before(out: &mut Vec<f32>, a: Matrix<'_>, b: Matrix<'_>, first: usize) {
    let width = b.columns();
    out.resize(a.rows() * width, 0.0);
    product(out, width, Before::Replaced, a, b, Threads::One);
    for (row, out) in out.chunks_exact_mut(width.max(1)).enumerate() {
        out[first + row..].fill(0.0);
    }
}
