//! Causal attention.

#[cfg(feature = "flex")]
use crate::cpu;
use crate::precision::in_f32;
use burn::module::Module;
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor, TensorData};

/// Added to a score, it leaves a weight of 0; a finite number would underflow, which is slow on a CPU.
const HIDDEN: f32 = f32::NEG_INFINITY;

/// Which tokens a token sees: itself and so many before it. Not a parameter, and in no checkpoint.
#[derive(Module, Debug)]
pub struct Mask {
    /// What is added to scores, `[1, 1, seq_len, seq_len]`: 0, or minus infinity where nothing is seen.
    added: Tensor<4>,
    back: usize,
}

impl Mask {
    /// Every token before it, for inputs of up to `seq_len` tokens.
    #[must_use]
    pub fn causal(seq_len: usize, device: &Device) -> Self {
        Self::window(seq_len, seq_len, device)
    }

    /// The `back` tokens before it.
    #[must_use]
    pub fn window(seq_len: usize, back: usize, device: &Device) -> Self {
        let sees = |query: usize, key: usize| key <= query && query - key <= back;
        let rows = (0..seq_len).flat_map(|query| {
            (0..seq_len).map(move |key| if sees(query, key) { 0.0 } else { HIDDEN })
        });
        let added = TensorData::new(rows.collect::<Vec<_>>(), [1, 1, seq_len, seq_len]);
        Self {
            added: Tensor::from_data(added, device),
            back,
        }
    }

    /// How many tokens before itself a token sees.
    #[must_use]
    pub fn back(&self) -> usize {
        self.back
    }

    /// # Panics
    ///
    /// If the mask is for shorter inputs.
    fn check(&self, seq_len: usize) {
        let [.., longest] = self.added.dims();
        assert!(
            seq_len <= longest,
            "{seq_len} tokens, and a mask for up to {longest}"
        );
    }

    /// `scores`, `[batch, heads, seq_len, seq_len]`, without those of what is hidden.
    fn hide(&self, scores: Tensor<4>) -> Tensor<4> {
        let [.., seq_len] = scores.dims();
        let added = self
            .added
            .clone()
            .narrow(2, 0, seq_len)
            .narrow(3, 0, seq_len);
        let added = added.cast(scores.dtype());
        scores + added
    }
}

/// What each query reads: the average of the values it sees, weighted by the softmax of `scale · query · key`.
///
/// `queries` are `[batch, seq_len, heads, head_size]`, keys and values the same with as many heads or with a divisor of
/// them, each of which then serves as many query heads as stand next to each other; what comes back has the queries' shape.
///
/// The two products are in what queries, keys and values are in; the softmax between them, and the scale, in f32 where
/// that is less.
///
/// On the CPU no `[seq_len, seq_len]` matrix is kept for the backward pass, and what the mask hides is not computed.
///
/// Source: Vaswani et al., 2017 (arXiv:1706.03762); the backward pass from Dao et al., 2022, *FlashAttention*
/// (arXiv:2205.14135), algorithm 4.
///
/// # Panics
///
/// If the shapes do not belong together, or the sequence is longer than the mask.
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
        "keys are like queries, but for heads"
    );
    assert_eq!(values.dims(), keys.dims(), "values are like keys");
    assert!(
        heads.is_multiple_of(shared),
        "{shared} key heads serve {heads} query heads"
    );
    mask.check(seq_len);
    #[cfg(feature = "flex")]
    if [&queries, &keys, &values].into_iter().all(cpu::takes) {
        return cpu::attention::attention(queries, keys, values, mask.back, scale as f32);
    }
    // Query heads that share a key head are stacked along the sequence, so keys are never copied.
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

/// The same with queries, keys and values next to each other, `[batch, seq_len, 3 * width]`, as one product makes them;
/// what comes back is `[batch, seq_len, width]`. Scores are divided by the root of the heads' size.
///
/// # Panics
///
/// If `heads` do not divide the width, or the sequence is longer than the mask.
#[must_use]
pub fn self_attention(all: Tensor<3>, heads: usize, mask: &Mask) -> Tensor<3> {
    let [batch, seq_len, width] = all.dims();
    assert!(
        width.is_multiple_of(3 * heads),
        "{heads} heads share {width} channels in three parts"
    );
    mask.check(seq_len);
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

/// Attention without a softmax, `tril(K Kᵀ, −1) V`: each token reads the values of those before it, and not its own,
/// weighted by the product of its key with theirs.
///
/// `keys` are `[heads, batch, seq_len, neurons]`, `values` `[batch, seq_len, width]`, the same for all heads; what comes
/// back is `[heads, batch, seq_len, width]`. Computed in what they are in.
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
