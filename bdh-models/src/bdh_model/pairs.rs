//! Order of neurons that makes rotating their pairs cheap.
//!
//! Rotary positions rotate neuron `2i` against neuron `2i + 1`. With the neurons of a pair side by side, every rotation
//! shuffles a tensor of all neurons and tokens, the largest in the model. Nothing else depends on the order of neurons.
//! So each forward pass reorders the weights once: the first neurons of all pairs, then the second ones.

use bdh::burn::tensor::Tensor;

/// Reorders the neurons of an encoder, `[heads, n_embd, neurons]`.
pub(super) fn split_pairs(encoder: Tensor<3>) -> Tensor<3> {
    let [heads, width, neurons] = encoder.dims();
    let pairs = encoder.reshape([heads, width, neurons / 2, 2]);
    pairs.swap_dims(2, 3).reshape([heads, width, neurons])
}

/// Reorders the neurons of a decoder, `[heads * neurons, n_embd]` to `[heads, neurons, n_embd]`.
pub(super) fn split_pair_rows(decoder: Tensor<2>, heads: usize) -> Tensor<3> {
    let [all, width] = decoder.dims();
    let neurons = all / heads;
    let pairs = decoder.reshape([heads, neurons / 2, 2, width]);
    pairs.swap_dims(1, 2).reshape([heads, neurons, width])
}
