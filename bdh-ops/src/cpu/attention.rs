//! Kernel of attention by blocks of queries: scores exist for one block of one head at a time.

use super::array::Array;
use super::gemm::{Before, Matrix, Threads, product};
use super::math::{exp, max, sum, sum_of_pairs};
use super::tape::{Kernel, run};
use super::threads::{on_rows, on_tasks};
use burn::tensor::Tensor;
use std::ops::Range;

/// Number of queries of a block. Scores that the mask hides from a whole block are not computed.
const BLOCK: usize = 64;

pub(crate) fn attention(
    queries: Tensor<4>,
    keys: Tensor<4>,
    values: Tensor<4>,
    back: usize,
    scale: f32,
) -> Tensor<4> {
    let [batch, seq_len, heads, size] = queries.dims();
    let [.., shared, _] = keys.dims();
    let shape = Shape {
        batch,
        seq_len,
        heads,
        shared,
        size,
        back,
        scale,
    };
    Tensor::from_dispatch(run(
        Separate(shape),
        [queries, keys, values].map(Tensor::into_dispatch),
    ))
}

pub(crate) fn self_attention(all: Tensor<3>, heads: usize, back: usize, scale: f32) -> Tensor<3> {
    let [batch, seq_len, width] = all.dims();
    let size = width / 3 / heads;
    let shape = Shape {
        batch,
        seq_len,
        heads,
        shared: heads,
        size,
        back,
        scale,
    };
    Tensor::from_dispatch(run(Together(shape), [all.into_dispatch()]))
}

#[derive(Debug, Clone, Copy)]
struct Shape {
    batch: usize,
    seq_len: usize,
    /// Number of query heads.
    heads: usize,
    /// Number of key and value heads.
    shared: usize,
    size: usize,
    /// Number of earlier tokens that a token sees.
    back: usize,
    scale: f32,
}

/// Heads within an array: token after token, `stride` elements apart, the first head at `offset`.
#[derive(Clone, Copy)]
struct Heads<'a> {
    values: &'a [f32],
    offset: usize,
    stride: usize,
}

impl<'a> Heads<'a> {
    /// Returns some tokens of one head, `[tokens, size]`.
    fn tokens(&self, shape: &Shape, batch: usize, head: usize, tokens: Range<usize>) -> Matrix<'a> {
        let begin = (batch * shape.seq_len + tokens.start) * self.stride;
        let values = &self.values[begin + self.offset + head * shape.size..];
        Matrix::with_stride(values, tokens.len(), shape.size, self.stride)
    }

    fn token(&self, shape: &Shape, batch: usize, head: usize, token: usize) -> &'a [f32] {
        let begin = (batch * shape.seq_len + token) * self.stride + self.offset;
        &self.values[begin + head * shape.size..][..shape.size]
    }
}

/// Queries, keys and values.
type Parts<'a> = [Heads<'a>; 3];

/// Attention on three arrays, `[batch, seq_len, heads, size]`.
#[derive(Debug)]
struct Separate(Shape);

/// Attention on one array, `[batch, seq_len, 3 * heads * size]`.
#[derive(Debug)]
struct Together(Shape);

impl Separate {
    fn parts<'a>(&self, inputs: &'a [Array; 3]) -> Parts<'a> {
        let heads = |array: &'a Array, heads: usize| Heads {
            values: array.values(),
            offset: 0,
            stride: heads * self.0.size,
        };
        let [queries, keys, values] = inputs;
        [
            heads(queries, self.0.heads),
            heads(keys, self.0.shared),
            heads(values, self.0.shared),
        ]
    }
}

impl Together {
    fn parts<'a>(&self, all: &'a Array) -> Parts<'a> {
        let width = self.0.heads * self.0.size;
        [0, width, 2 * width].map(|offset| Heads {
            values: all.values(),
            offset,
            stride: 3 * width,
        })
    }
}

/// Inputs, result, and the logarithm of each query's sum of exponentials: `[seq_len]` for each head of each batch row.
type Saved<const N: usize> = ([Array; N], Array, Vec<Vec<f32>>);

impl Kernel<3> for Separate {
    type Saved = Saved<3>;

    fn forward(&self, inputs: [Array; 3]) -> (Array, Saved<3>) {
        let (read, log_sums) = self.0.forward(&self.parts(&inputs));
        let read = Array::of(read, inputs[0].shape());
        (read.clone(), (inputs, read, log_sums))
    }

    fn backward(
        &self,
        (inputs, read, log_sums): Saved<3>,
        gradient: Array,
        _: [bool; 3],
    ) -> [Option<Array>; 3] {
        let gradients = self
            .0
            .backward(&self.parts(&inputs), &read, &gradient, &log_sums);
        let mut of = gradients.iter();
        inputs.map(|input| {
            let heads = input.shape()[2];
            let blocks = of.next().map(|of| Blocks {
                offset: 0,
                heads,
                of,
            });
            let values = self.0.interleave(heads * self.0.size, blocks.as_slice());
            Some(Array::of(values, input.shape()))
        })
    }
}

impl Kernel<1> for Together {
    type Saved = Saved<1>;

    fn forward(&self, inputs: [Array; 1]) -> (Array, Saved<1>) {
        let Shape {
            batch,
            seq_len,
            heads,
            size,
            ..
        } = self.0;
        let (read, log_sums) = self.0.forward(&self.parts(&inputs[0]));
        let read = Array::of(read, &[batch, seq_len, heads * size]);
        (read.clone(), (inputs, read, log_sums))
    }

    fn backward(
        &self,
        ([all], read, log_sums): Saved<1>,
        gradient: Array,
        _: [bool; 1],
    ) -> [Option<Array>; 1] {
        let gradients = self
            .0
            .backward(&self.parts(&all), &read, &gradient, &log_sums);
        let width = self.0.heads * self.0.size;
        let blocks = [0, 1, 2].map(|part| Blocks {
            offset: part * width,
            heads: self.0.heads,
            of: &gradients[part],
        });
        [Some(Array::of(
            self.0.interleave(3 * width, &blocks),
            all.shape(),
        ))]
    }
}

/// Heads one after the other: `[seq_len, size]` for each head of each batch row.
struct Blocks<'a> {
    /// Offset of the first head in the row of a token.
    offset: usize,
    heads: usize,
    of: &'a [Vec<f32>],
}

impl Shape {
    /// Returns the result of every query, `[batch, seq_len, heads, size]`, and the logarithms.
    fn forward(&self, parts: &Parts<'_>) -> (Vec<f32>, Vec<Vec<f32>>) {
        let heads = on_tasks(
            self.batch * self.heads,
            #[inline(always)]
            |task| self.read(parts, task / self.heads, task % self.heads),
        );
        let (read, log_sums): (Vec<_>, Vec<_>) = heads.into_iter().unzip();
        let blocks = Blocks {
            offset: 0,
            heads: self.heads,
            of: &read,
        };
        (self.interleave(self.heads * self.size, &[blocks]), log_sums)
    }

    /// Converts the order of values from heads to tokens, with rows of `stride`.
    fn interleave(&self, stride: usize, blocks: &[Blocks<'_>]) -> Vec<f32> {
        let mut out = vec![0.0; self.batch * self.seq_len * stride];
        on_rows(&mut out, stride, |first, rows| {
            for (place, row) in rows.chunks_exact_mut(stride).enumerate() {
                let (batch, token) = (
                    (first + place) / self.seq_len,
                    (first + place) % self.seq_len,
                );
                for Blocks { offset, heads, of } in blocks {
                    let row = row[*offset..].chunks_exact_mut(self.size);
                    for (out, head) in row.zip(&of[batch * heads..][..*heads]) {
                        out.copy_from_slice(&head[token * self.size..][..self.size]);
                    }
                }
            }
        });
        out
    }

    /// Returns the results of the queries of one head, `[seq_len, size]`, and the logarithms, `[seq_len]`.
    #[inline(always)]
    fn read(
        &self,
        [queries, keys, values]: &Parts<'_>,
        batch: usize,
        head: usize,
    ) -> (Vec<f32>, Vec<f32>) {
        let shared = head / (self.heads / self.shared);
        let mut read = vec![0.0; self.seq_len * self.size];
        let mut log_sums = Vec::with_capacity(self.seq_len);
        let mut scores = Vec::new();
        for block in self.blocks() {
            let seen = self.seen_by(&block);
            Self::scores(
                &mut scores,
                queries.tokens(self, batch, head, block.clone()),
                keys.tokens(self, batch, shared, seen.clone()),
            );
            for (query, scores) in block.clone().zip(scores.chunks_exact_mut(seen.len())) {
                log_sums.push(self.weigh(scores, self.visible(query, &seen)));
            }
            product(
                &mut read[block.start * self.size..],
                self.size,
                Before::Replaced,
                Matrix::new(&scores, block.len(), seen.len()),
                values.tokens(self, batch, shared, seen),
                Threads::One,
            );
        }
        (read, log_sums)
    }

    /// Returns the gradients of queries, keys and values, head by head.
    fn backward(
        &self,
        parts: &Parts<'_>,
        read: &Array,
        gradient: &Array,
        log_sums: &[Vec<f32>],
    ) -> [Vec<Vec<f32>>; 3] {
        let stride = self.heads * self.size;
        let [read, gradient] = [read, gradient].map(|array| Heads {
            values: array.values(),
            offset: 0,
            stride,
        });
        let tasks = on_tasks(
            self.batch * self.shared,
            #[inline(always)]
            |task| {
                let (batch, shared) = (task / self.shared, task % self.shared);
                let group = self.heads / self.shared;
                let empty = || vec![0.0; self.seq_len * self.size];
                let (mut of_keys, mut of_values) = (empty(), empty());
                let mut of_queries = Vec::with_capacity(group);
                for head in shared * group..(shared + 1) * group {
                    let log_sums = &log_sums[batch * self.heads + head];
                    let mut of_head = empty();
                    let out = [&mut of_head, &mut of_keys, &mut of_values];
                    let place = [batch, head, shared];
                    self.backward_head(parts, [read, gradient], log_sums, place, out);
                    of_queries.push(of_head);
                }
                (of_queries, of_keys, of_values)
            },
        );
        let mut gradients = [Vec::new(), Vec::new(), Vec::new()];
        for (of_queries, of_keys, of_values) in tasks {
            gradients[0].extend(of_queries);
            gradients[1].push(of_keys);
            gradients[2].push(of_values);
        }
        gradients
    }

    /// Adds the contribution of one query head to the gradients.
    #[inline(always)]
    fn backward_head(
        &self,
        [queries, keys, values]: &Parts<'_>,
        [read, gradient]: [Heads<'_>; 2],
        log_sums: &[f32],
        [batch, head, shared]: [usize; 3],
        [of_queries, of_keys, of_values]: [&mut Vec<f32>; 3],
    ) {
        let size = self.size;
        let (mut weights, mut of_scores) = (Vec::new(), Vec::new());
        for block in self.blocks() {
            let seen = self.seen_by(&block);
            let width = seen.len();
            let own = queries.tokens(self, batch, head, block.clone());
            let own_gradient = gradient.tokens(self, batch, head, block.clone());
            let keys = keys.tokens(self, batch, shared, seen.clone());
            let values = values.tokens(self, batch, shared, seen.clone());

            Self::scores(&mut weights, own, keys);
            Self::scores(&mut of_scores, own_gradient, values);
            let rows = weights
                .chunks_exact_mut(width)
                .zip(of_scores.chunks_exact_mut(width));
            for (query, (weights, of_scores)) in block.clone().zip(rows) {
                let visible = self.visible(query, &seen);
                self.weigh_again(weights, visible.clone(), log_sums[query]);
                let [read, gradient] =
                    [read, gradient].map(|heads| heads.token(self, batch, head, query));
                let along = sum_of_pairs(read, gradient, |read, gradient| read * gradient);
                for (of_score, weight) in of_scores.iter_mut().zip(&*weights) {
                    *of_score = weight * (*of_score - along) * self.scale;
                }
            }

            let weights = Matrix::new(&weights, block.len(), width);
            let of_scores = Matrix::new(&of_scores, block.len(), width);
            let add =
                |out: &mut [f32], a, b| product(out, size, Before::AddedTo, a, b, Threads::One);
            add(&mut of_queries[block.start * size..], of_scores, keys);
            add(
                &mut of_keys[seen.start * size..],
                of_scores.transposed(),
                own,
            );
            add(
                &mut of_values[seen.start * size..],
                weights.transposed(),
                own_gradient,
            );
        }
    }

    /// Computes `queries · keysᵀ` in the memory of `out`.
    fn scores(out: &mut Vec<f32>, queries: Matrix<'_>, keys: Matrix<'_>) {
        let keys = keys.transposed();
        out.resize(queries.rows() * keys.columns(), 0.0);
        product(
            out,
            keys.columns(),
            Before::Replaced,
            queries,
            keys,
            Threads::One,
        );
    }

    /// Converts scores to weights. Returns the logarithm of the sum of exponentials.
    #[inline(always)]
    fn weigh(&self, scores: &mut [f32], visible: Range<usize>) -> f32 {
        let peak = max(&scores[visible.clone()]) * self.scale;
        self.weigh_again(scores, visible.clone(), peak);
        let total = sum(&scores[visible.clone()], |weight| weight);
        let factor = 1.0 / total;
        for weight in &mut scores[visible] {
            *weight *= factor;
        }
        peak + total.ln()
    }

    /// Converts scores to exponentials of their distance from `peak`; hidden scores to 0.
    #[inline(always)]
    fn weigh_again(&self, scores: &mut [f32], visible: Range<usize>, peak: f32) {
        scores[..visible.start].fill(0.0);
        scores[visible.end..].fill(0.0);
        for score in &mut scores[visible] {
            *score = exp(score.mul_add(self.scale, -peak));
        }
    }

    fn blocks(&self) -> impl Iterator<Item = Range<usize>> {
        let (step, end) = (BLOCK, self.seq_len);
        (0..end)
            .step_by(step)
            .map(move |start| start..end.min(start + step))
    }

    /// Returns the keys that any query of a block sees.
    fn seen_by(&self, block: &Range<usize>) -> Range<usize> {
        block.start.saturating_sub(self.back)..block.end
    }

    /// Returns the keys that a query sees, counted from the first in `seen`.
    fn visible(&self, query: usize, seen: &Range<usize>) -> Range<usize> {
        query.saturating_sub(self.back) - seen.start..query + 1 - seen.start
    }
}
