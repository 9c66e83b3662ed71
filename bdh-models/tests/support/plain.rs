//! BDH written like its formula, with every score between two tokens and the original order of neurons.
//!
//! Tests compare the model's numbers with it, and the bench its speed.

use bdh::burn::tensor::activation::relu;
use bdh::burn::tensor::{Device, Int, Tensor, TensorData};
use bdh_models::bdh_model::Bdh;

/// Returns the logits of `model` without dropout.
pub(crate) fn logits(model: &Bdh, tokens: Tensor<2, Int>) -> Tensor<3> {
    let config = model.config();
    let [batch, seq_len] = tokens.dims();
    let (heads, neurons) = (config.n_head, config.neurons() / config.n_head);
    let device = model.lm_head.val().device();
    let (cos, sin) = rotations(seq_len, neurons, &device);
    let before = Tensor::<2>::ones([seq_len, seq_len], &device)
        .tril(-1)
        .unsqueeze::<4>();
    let encoder = model.encoder.val().unsqueeze::<4>(); // [1, heads, n_embd, neurons]
    let encoder_v = model.encoder_v.val().unsqueeze::<4>();
    let decoder = model.decoder.val().unsqueeze::<3>();

    let mut x = norm(model.embed.forward(tokens));
    for _ in 0..config.n_layer {
        let stream = x.clone().unsqueeze_dim::<4>(1); // [batch, 1, seq_len, n_embd]
        let firing = relu(stream.clone().matmul(encoder.clone()));
        let turned = firing.clone() * cos.clone() + swapped(firing.clone()) * sin.clone();
        let scores = turned.clone().matmul(turned.swap_dims(2, 3)) * before.clone();
        let read = norm(scores.matmul(stream));
        let both = firing * relu(read.matmul(encoder_v.clone()));
        let both = both
            .swap_dims(1, 2)
            .reshape([batch, seq_len, heads * neurons]);
        x = norm(x + norm(both.matmul(decoder.clone())));
    }
    x.matmul(model.lm_head.val().unsqueeze())
}

/// Returns `rot(v)`: neuron `2i` is the negative of neuron `2i + 1`, which is neuron `2i`.
fn swapped(v: Tensor<4>) -> Tensor<4> {
    let shape = v.dims();
    let [batch, heads, seq_len, neurons] = shape;
    let pairs = v.reshape([batch, heads, seq_len, neurons / 2, 2]);
    let (even, odd) = (pairs.clone().narrow(4, 0, 1), pairs.narrow(4, 1, 1));
    Tensor::cat(vec![-odd, even], 4).reshape(shape)
}

/// Returns cosines and sines, `[1, 1, seq_len, neurons]`.
fn rotations(seq_len: usize, neurons: usize, device: &Device) -> (Tensor<4>, Tensor<4>) {
    let turns = (0..neurons).map(|neuron| {
        let even = (neuron / 2 * 2) as f32;
        1.0 / 65_536_f32.powf(even / neurons as f32) / std::f32::consts::TAU
    });
    let turns: Vec<f32> = turns.collect();
    let angle = |t: usize, turn: f32| (t as f32 * turn) % 1.0 * std::f32::consts::TAU;
    let angles = (0..seq_len).flat_map(|t| turns.iter().map(move |turn| angle(t, *turn)));
    let angles = TensorData::new(angles.collect::<Vec<_>>(), [1, 1, seq_len, neurons]);
    let angles = Tensor::<4>::from_data(angles, device);
    (angles.clone().cos(), angles.sin())
}

fn norm<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let x = x.clone() - x.mean_dim(D - 1);
    x.clone() / (x.square().mean_dim(D - 1) + 1e-5).sqrt()
}
