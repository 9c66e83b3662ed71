//! Causal attention.

#[cfg(feature = "flex")]
use crate::cpu;
use crate::precision::in_f32;
use burn::module::Module;
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor, TensorData};

/// Added to scores of hidden tokens, so that their weights are 0. A finite number would underflow, which is slow on a
/// CPU.
const HIDDEN: f32 = f32::NEG_INFINITY;

/// Causal attention mask: each token sees itself and a number of earlier tokens.
///
/// A mask is not a parameter and not in checkpoints.
#[derive(Module, Debug)]
pub struct Mask {
    /// Added to scores, `[1, 1, seq_len, seq_len]`: 0 for visible tokens, minus infinity for hidden ones.
    added: Tensor<4>,
    back: usize,
}

impl Mask {
    /// Creates a mask where each token sees all earlier tokens, for inputs of up to `seq_len` tokens.
    #[must_use]
    pub fn causal(seq_len: usize, device: &Device) -> Self {
        Self::window(seq_len, seq_len, device)
    }

    /// Creates a mask where each token sees the `back` tokens before it.
    ///
    /// For inputs of up to `seq_len` tokens it is computed once. A longer input makes a larger one for itself, where masks
    /// are tensors: on GPUs.
    #[must_use]
    pub fn window(seq_len: usize, back: usize, device: &Device) -> Self {
        let mut added = vec![HIDDEN; seq_len * seq_len];
        for query in 0..seq_len {
            for key in query.saturating_sub(back)..=query {
                added[query * seq_len + key] = 0.0;
            }
        }
        let added = TensorData::new(added, [1, 1, seq_len, seq_len]);
        Self {
            added: Tensor::from_data(added, device),
            back,
        }
    }

    /// Sets the number of earlier tokens that a token sees, for inputs beyond the mask's own length.
    ///
    /// # Panics
    ///
    /// If the mask would have to hide something within its own length, or something more.
    #[must_use]
    pub fn with_back(self, back: usize) -> Self {
        let [.., longest] = self.added.dims();
        assert!(
            self.back + 1 >= longest && back + 1 >= longest,
            "a mask of {longest} tokens that sees {} back cannot see {back}",
            self.back
        );
        Self { back, ..self }
    }

    /// Returns the number of earlier tokens that a token sees.
    #[must_use]
    pub fn back(&self) -> usize {
        self.back
    }

    /// Sets the scores of hidden tokens to minus infinity: `[batch, heads, seq_len, seq_len]`.
    fn hide(&self, scores: Tensor<4>) -> Tensor<4> {
        let ([.., seq_len], [.., longest]) = (scores.dims(), self.added.dims());
        if seq_len > longest {
            return Self::window(seq_len, self.back, &self.added.device()).hide(scores);
        }
        let added = self
            .added
            .clone()
            .narrow(2, 0, seq_len)
            .narrow(3, 0, seq_len);
        let added = added.cast(scores.dtype());
        scores + added
    }
}

/// Computes attention: for each query the average of the visible values, weighted by the softmax of
/// `scale · query · key`.
///
/// `queries` are `[batch, seq_len, heads, head_size]`; the result has the same shape. Keys and values may have fewer
/// heads, a divisor of `heads`. Each key head then serves a group of successive query heads.
///
/// The two products are computed in the inputs' precision, the scale and the softmax in f32 at least.
///
/// On the CPU, hidden scores are not computed, and no `[seq_len, seq_len]` matrix is kept for the backward pass.
///
/// Source: Vaswani et al., 2017 (arXiv:1706.03762); the backward pass from Dao et al., 2022, *FlashAttention*
/// (arXiv:2205.14135), algorithm 4.
///
/// # Panics
///
/// If the shapes do not match.
#[must_use]
pub fn attention(
    queries: Tensor<4>,
    keys: Tensor<4>,
    values: Tensor<4>,
    mask: &Mask,
    scale: f64,
) -> Tensor<4> {
    let [batch, seq_len, heads, head_size] = queries.dims();
    let [_, _, shared, _] = keys.dims();
    assert_eq!(
        keys.dims(),
        [batch, seq_len, shared, head_size],
        "keys must have the shape of queries, except for heads"
    );
    assert_eq!(
        values.dims(),
        keys.dims(),
        "values must have the shape of keys"
    );
    assert!(
        heads.is_multiple_of(shared),
        "{heads} query heads are not a multiple of {shared} key heads"
    );
    #[cfg(feature = "flex")]
    if [&queries, &keys, &values].into_iter().all(cpu::takes) {
        return cpu::attention::attention(queries, keys, values, mask.back, scale as f32);
    }
    plain(queries, keys, values, mask, scale)
}

/// Computes attention with burn's operations.
fn plain(
    queries: Tensor<4>,
    keys: Tensor<4>,
    values: Tensor<4>,
    mask: &Mask,
    scale: f64,
) -> Tensor<4> {
    let [batch, seq_len, heads, head_size] = queries.dims();
    let [_, _, shared, _] = keys.dims();
    // Query heads that share a key head are stacked along the sequence, so that keys are not copied.
    let stack = |x: Tensor<4>, [heads_now, rows, width]: [usize; 3]| {
        if heads == shared {
            x
        } else {
            x.reshape([batch, heads_now, rows, width])
        }
    };
    let stacked = heads / shared * seq_len;
    let queries = in_f32(queries, |queries| queries * scale).swap_dims(1, 2);
    let queries = stack(queries, [shared, stacked, head_size]);
    let scores = stack(
        queries.matmul(keys.permute([0, 2, 3, 1])),
        [heads, seq_len, seq_len],
    );
    let weights = in_f32(scores, |scores| softmax(mask.hide(scores), 3));
    let read = stack(weights, [shared, stacked, seq_len]).matmul(values.swap_dims(1, 2));
    stack(read, [heads, seq_len, head_size]).swap_dims(1, 2)
}

/// Computes attention with queries, keys and values in one tensor, `[batch, seq_len, 3 * width]`.
///
/// The result is `[batch, seq_len, width]`. Scores are divided by the root of the head size. Otherwise it equals
/// [`attention`].
///
/// # Panics
///
/// If the width is not a multiple of `heads`.
#[must_use]
pub fn self_attention(all: Tensor<3>, heads: usize, mask: &Mask) -> Tensor<3> {
    let [batch, seq_len, width] = all.dims();
    assert!(
        width.is_multiple_of(3 * heads),
        "{width} channels are not three parts of {heads} heads"
    );
    let width = width / 3;
    let scale = 1.0 / ((width / heads) as f64).sqrt();
    #[cfg(feature = "flex")]
    if cpu::takes(&all) {
        return cpu::attention::self_attention(all, heads, mask.back, scale as f32);
    }
    let part = |which: usize| {
        let part = all.clone().narrow(2, which * width, width);
        part.reshape([batch, seq_len, heads, width / heads])
    };
    attention(part(0), part(1), part(2), mask, scale).reshape([batch, seq_len, width])
}

/// Computes attention without a softmax, `tril(K Kᵀ, −1) V`.
///
/// Each token sums the values of earlier tokens, weighted by the product of both keys. `keys` are
/// `[heads, batch, seq_len, neurons]`; `values` are `[batch, seq_len, width]`, the same for all heads. The result is
/// `[heads, batch, seq_len, width]`, in the inputs' precision.
///
/// Source: Kosowski et al., 2025, *The Dragon Hatchling* (arXiv:2509.26507).
#[must_use]
pub fn linear_attention(keys: Tensor<4>, values: Tensor<3>) -> Tensor<4> {
    #[cfg(feature = "flex")]
    if cpu::takes(&keys) && cpu::takes(&values) {
        return cpu::linear_attention::linear_attention(keys, values);
    }
    let scores = keys.clone().matmul(keys.swap_dims(2, 3));
    scores.tril(-1).matmul(values.unsqueeze())
}
