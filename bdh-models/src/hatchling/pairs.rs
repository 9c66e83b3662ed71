//! Pairs of neurons: apart, so that turning them is cheap.
//!
//! Rotary positions turn neuron `2i` against neuron `2i + 1`. With each pair next to each other, every turn shuffles a tensor
//! of all neurons and tokens, the largest there are. Nothing else depends on the order of neurons, so the weights are put
//! into another one, once for each pass: all first neurons of pairs, then all second ones.

use bdh::burn::tensor::Tensor;

/// Of an encoder, `[heads, n_embd, neurons]`.
pub(super) fn first_apart(encoder: Tensor<3>) -> Tensor<3> {
    let [heads, width, neurons] = encoder.dims();
    let pairs = encoder.reshape([heads, width, neurons / 2, 2]);
    pairs.swap_dims(2, 3).reshape([heads, width, neurons])
}

/// Of a decoder, `[heads * neurons, n_embd]` to `[heads, neurons, n_embd]`.
pub(super) fn rows_first_apart(decoder: Tensor<2>, heads: usize) -> Tensor<3> {
    let [all, width] = decoder.dims();
    let neurons = all / heads;
    let pairs = decoder.reshape([heads, neurons / 2, 2, width]);
    pairs.swap_dims(1, 2).reshape([heads, neurons, width])
}
