//! Tensors with shapes that do not match panic, and are never cut to fit.

use bdh_ops::{AdamW, Mask, MuonStep, attention, layer_norm, muon_step, self_attention};
use burn::optim::Optimizer;
use burn::tensor::{Device, Tensor};

fn zeros<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    Tensor::zeros(shape, &Device::flex())
}

#[test]
#[should_panic(expected = "gain and bias must have the width of a row")]
fn norm_with_too_short_a_gain_panics() {
    let _ = layer_norm(zeros([2, 8]), Some(zeros([7])), None, 1e-5);
}

#[test]
#[should_panic(expected = "gain and bias must have the width of a row")]
fn norm_with_too_long_a_bias_panics() {
    let _ = layer_norm(zeros([2, 8]), None, Some(zeros([9])), 1e-5);
}

#[test]
#[should_panic(expected = "must have the parameter's shape")]
fn adamw_with_a_gradient_of_another_shape_panics() {
    let _ = AdamW::default().step(0.1, zeros([8]), zeros([7]), None);
}

#[test]
#[should_panic(expected = "must have the parameter's shape")]
fn adamw_with_a_state_of_another_shape_panics() {
    let (_, state) = AdamW::default().step(0.1, zeros([9]), zeros([9]), None);
    let _ = AdamW::default().step(0.1, zeros([8]), zeros([8]), state);
}

#[test]
#[should_panic(expected = "the weight's shape")]
fn muon_with_a_gradient_of_another_shape_panics() {
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
fn muon_with_a_state_of_another_shape_panics() {
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
fn sequence_may_be_longer_than_its_mask() {
    let mask = Mask::causal(8, &Device::flex());
    let read = self_attention(zeros([1, 9, 12]), 2, &mask);
    assert_eq!(read.dims(), [1, 9, 4]);
}

#[test]
#[should_panic(expected = "keys must have the shape of queries")]
fn keys_of_another_size_panic() {
    let mask = Mask::causal(8, &Device::flex());
    let _ = attention(
        zeros([1, 8, 2, 4]),
        zeros([1, 8, 2, 3]),
        zeros([1, 8, 2, 3]),
        &mask,
        1.0,
    );
}
