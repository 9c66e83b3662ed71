//! Tensors that do not belong together are refused, and never cut to what fits.

use bdh_ops::{AdamW, Mask, MuonStep, attention, layer_norm, muon_step, self_attention};
use burn::optim::Optimizer;
use burn::tensor::{Device, Tensor};

fn zeros<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    Tensor::zeros(shape, &Device::flex())
}

#[test]
#[should_panic(expected = "each element of a row")]
fn a_norm_with_too_short_a_gain() {
    let _ = layer_norm(zeros([2, 8]), Some(zeros([7])), None, 1e-5);
}

#[test]
#[should_panic(expected = "each element of a row")]
fn a_norm_with_too_long_a_bias() {
    let _ = layer_norm(zeros([2, 8]), None, Some(zeros([9])), 1e-5);
}

#[test]
#[should_panic(expected = "of its shape")]
fn an_optimizer_with_another_parameters_gradient() {
    let _ = AdamW::default().step(0.1, zeros([8]), zeros([7]), None);
}

#[test]
#[should_panic(expected = "of its shape")]
fn an_optimizer_with_another_parameters_memory() {
    let (_, state) = AdamW::default().step(0.1, zeros([9]), zeros([9]), None);
    let _ = AdamW::default().step(0.1, zeros([8]), zeros([8]), state);
}

#[test]
#[should_panic(expected = "the weight's shape")]
fn muon_with_another_matrix_gradient() {
    let how = MuonStep {
        momentum: 0.9,
        beta2: 0.9,
        lr: 0.1,
        decay: 0.1,
    };
    let _ = muon_step(zeros([4, 6]), zeros([6, 4]), zeros([4, 6]), None, how);
}

#[test]
#[should_panic(expected = "the longer side")]
fn muon_with_another_matrix_memory() {
    let how = MuonStep {
        momentum: 0.9,
        beta2: 0.9,
        lr: 0.1,
        decay: 0.1,
    };
    let _ = muon_step(
        zeros([4, 6]),
        zeros([4, 6]),
        zeros([4, 6]),
        Some(zeros([4, 1])),
        how,
    );
}

#[test]
#[should_panic(expected = "9 tokens, and a mask for up to 8")]
fn a_sequence_that_is_longer_than_its_mask() {
    let mask = Mask::causal(8, &Device::flex());
    let _ = self_attention(zeros([1, 9, 12]), 2, &mask);
}

#[test]
#[should_panic(expected = "keys are like queries")]
fn keys_of_another_size() {
    let mask = Mask::causal(8, &Device::flex());
    let _ = attention(
        zeros([1, 8, 2, 4]),
        zeros([1, 8, 2, 3]),
        zeros([1, 8, 2, 3]),
        &mask,
        1.0,
    );
}
