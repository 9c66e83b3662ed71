//! Each CPU kernel gives the values and gradients of burn's plain operations.
//!
//! The reference is the same function in double precision. The kernels accept only `f32`, so the function then uses
//! plain operations and burn's own backward passes, like on a GPU.

#[path = "support/judged.rs"]
mod judged;

use bdh_ops::{
    Mask, attention, gated, gelu, gelu_tanh, layer_norm, linear, linear_attention, relu,
    relu_heads, relu_squared, residual_mix, rms_norm, rotary, self_attention, soft_cap, sum_heads,
    tied_head, token_nll,
};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use judged::{leaf, results, wave};

/// Panics unless `function` has equal values and gradients in both implementations, for inputs of `lens` elements.
fn same(lens: &[usize], function: impl Fn(&[Tensor<1>]) -> Tensor<1>) {
    let leaves = |dtype| -> Vec<_> {
        lens.iter()
            .enumerate()
            .map(|(which, len)| leaf(&wave(*len, which), dtype))
            .collect()
    };
    let found = results(&leaves(DType::F32), &function);
    let expected = results(&leaves(DType::F64), &function);
    for (which, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert_eq!(found.len(), expected.len());
        let size = expected
            .iter()
            .fold(1.0, |size: f64, value| size.max(value.abs()));
        for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
            let name = if which == 0 {
                "the result".to_owned()
            } else {
                format!("gradient {which}")
            };
            assert!(
                (found - expected).abs() < 3e-6 * size,
                "{name} at {at}: {found}, not {expected}"
            );
        }
    }
}

#[test]
fn elementwise_functions_equal_plain() {
    // More than one piece of work, and a rest that does not fill a register.
    for len in [1, 37, 40_003] {
        same(&[len], |x| gelu(x[0].clone() * 3.0));
        same(&[len], |x| gelu_tanh(x[0].clone() * 3.0));
        same(&[len], |x| relu(x[0].clone()));
        same(&[len, len], |x| gated(x[0].clone(), x[1].clone(), 0.0));
        same(&[len], |x| relu_squared(x[0].clone()));
        same(&[len], |x| soft_cap(x[0].clone() * 20.0, 15.0));
    }
}

#[test]
fn norms_equal_plain() {
    for (rows, width) in [(3, 5), (700, 33), (2, 20_000)] {
        let of = |x: &Tensor<1>| x.clone().reshape([rows, width]);
        let flat = |y: Tensor<2>| y.flatten::<1>(0, 1);
        same(&[rows * width], |x| flat(rms_norm(of(&x[0]), 1.7, 1e-6)));
        same(&[rows * width], |x| {
            flat(layer_norm(of(&x[0]), None, None, 1e-5))
        });
        same(&[rows * width, width], |x| {
            flat(layer_norm(of(&x[0]), Some(x[1].clone()), None, 1e-5))
        });
        same(&[rows * width, width], |x| {
            flat(layer_norm(of(&x[0]), None, Some(x[1].clone()), 1e-5))
        });
        same(&[rows * width, width, width], |x| {
            flat(layer_norm(
                of(&x[0]),
                Some(x[1].clone()),
                Some(x[2].clone()),
                1e-5,
            ))
        });
    }
}

#[test]
fn linear_layers_equal_plain() {
    for (batch, rows, inputs, outputs) in [(1, 1, 1, 1), (2, 3, 5, 4), (3, 200, 130, 70)] {
        let x = |x: &Tensor<1>| x.clone().reshape([batch, rows, inputs]);
        let sizes = [batch * rows * inputs, inputs * outputs, outputs];
        let scaled = |weight: &Tensor<1>| weight.clone() / (inputs as f64).sqrt();
        same(&sizes, |t| {
            let weight = scaled(&t[1]).reshape([inputs, outputs]);
            linear(x(&t[0]), weight, Some(t[2].clone())).flatten(0, 2)
        });
        same(&sizes[..2], |t| {
            linear(x(&t[0]), scaled(&t[1]).reshape([inputs, outputs]), None).flatten(0, 2)
        });
        same(&sizes[..2], |t| {
            tied_head(x(&t[0]), scaled(&t[1]).reshape([outputs, inputs])).flatten(0, 2)
        });
    }
}

#[test]
fn weighted_sums_equal_plain() {
    for len in [1, 50_001] {
        same(&[1, len, 1, len], |t| {
            // The gradients of the weights are sums over all elements.
            let scale = 1.0 / len as f64;
            residual_mix(
                (t[0].clone(), t[1].clone() * scale),
                (t[2].clone(), t[3].clone() * scale),
            )
        });
    }
}

#[test]
fn rotary_positions_equal_plain() {
    for (batch, seq_len, heads, size) in [(1, 1, 1, 2), (2, 7, 3, 10), (3, 100, 4, 64)] {
        same(&[batch * seq_len * heads * size], |t| {
            let x = t[0].clone().reshape([batch, seq_len, heads, size]);
            let angles = Tensor::arange(0..(seq_len * size / 2) as i64, &t[0].device());
            let angles = angles
                .float()
                .cast(t[0].dtype())
                .reshape([seq_len, size / 2]);
            rotary(x, angles.clone().cos(), angles.sin()).flatten(0, 3)
        });
    }
}

#[test]
fn attention_with_windows_and_shared_keys_equals_plain() {
    // One token; less than a block; several blocks with a partial one; a window within a block and one across blocks.
    for (seq_len, back) in [(1, 1), (9, 9), (150, 150), (150, 5), (150, 70)] {
        for (heads, shared) in [(1, 1), (4, 4), (4, 2)] {
            let (batch, size) = (2, 6);
            let queries = batch * seq_len * heads * size;
            let keys = batch * seq_len * shared * size;
            same(&[queries, keys, keys], |t| {
                let of = |x: &Tensor<1>, heads| x.clone().reshape([batch, seq_len, heads, size]);
                let mask = Mask::window(200, back, &t[0].device());
                let read = attention(
                    of(&t[0], heads),
                    of(&t[1], shared),
                    of(&t[2], shared),
                    &mask,
                    0.4,
                );
                read.flatten(0, 3)
            });
        }
    }
}

#[test]
fn self_attention_equals_plain() {
    let (batch, seq_len, heads, width) = (2, 70, 3, 24);
    same(&[batch * seq_len * 3 * width], |t| {
        let mask = Mask::causal(100, &t[0].device());
        let all = t[0].clone().reshape([batch, seq_len, 3 * width]);
        self_attention(all, heads, &mask).flatten(0, 2)
    });
}

#[test]
fn token_nll_with_ignored_targets_equals_plain() {
    for (batch, seq_len, vocab) in [(1, 2, 3), (2, 50, 1000)] {
        same(&[batch * seq_len * vocab], |t| {
            let targets: Vec<i32> = (0..batch * seq_len)
                .map(|k| {
                    if k % 5 == 1 {
                        -1
                    } else {
                        (k * 7 % vocab) as i32
                    }
                })
                .collect();
            let targets = TensorData::new(targets, [batch, seq_len]);
            let targets = Tensor::<2, Int>::from_data(targets, &t[0].device());
            let logits = t[0].clone().reshape([batch, seq_len, vocab]) * 4.0;
            token_nll(logits, targets).flatten(0, 1)
        });
    }
}

#[test]
fn linear_attention_equals_plain() {
    for (seq_len, neurons) in [(1, 2), (9, 4), (150, 6)] {
        let (heads, batch, width) = (3, 2, 5);
        let sizes = [heads * batch * seq_len * neurons, batch * seq_len * width];
        same(&sizes, |t| {
            let keys = t[0].clone().reshape([heads, batch, seq_len, neurons]);
            let values = t[1].clone().reshape([batch, seq_len, width]);
            linear_attention(keys, values).flatten(0, 3)
        });
    }
}

#[test]
fn dropout_uses_one_mask_forward_and_backward() {
    let device = Device::flex().autodiff();
    device.seed(3);
    let ones = || Tensor::<1>::ones([40_000], &device).require_grad();
    let (x, y) = (ones(), ones());
    let out = gated(x.clone() * 2.0, y.clone(), 0.25);
    let gradients = out.clone().sum().backward();
    let numbers = |tensor: Tensor<1>| tensor.into_data().iter::<f32>().collect::<Vec<_>>();
    let out = numbers(out);
    assert_eq!(numbers(x.grad(&gradients).expect("a gradient")), out);
    assert_eq!(numbers(y.grad(&gradients).expect("a gradient")), out);
    let kept = out.iter().filter(|value| **value > 0.0).count();
    assert!((29_500..30_500).contains(&kept), "{kept} of 30,000");
    device.seed(3);
    assert_eq!(numbers(gated(x.clone() * 2.0, y.clone(), 0.25)), out);
    assert_ne!(numbers(gated(x * 2.0, y, 0.25)), out);
}

#[test]
fn products_of_heads_equal_plain() {
    let (heads, rows, width, neurons) = (3, 70, 5, 300);
    for given in [1, heads] {
        same(&[given * rows * width, heads * width * neurons], |t| {
            let x = t[0].clone().reshape([given, rows, width]);
            relu_heads(x, t[1].clone().reshape([heads, width, neurons])).flatten(0, 2)
        });
    }
    same(&[heads * rows * neurons, heads * neurons * width], |t| {
        let x = t[0].clone().reshape([heads, rows, neurons]) / 10.0;
        sum_heads(x, t[1].clone().reshape([heads, neurons, width]) / 10.0).flatten(0, 2)
    });
}

#[test]
fn gradient_checkpointing_changes_nothing() {
    let gradient = |device: &Device| {
        let x = Tensor::<1>::from_data(
            TensorData::from(wave(60, 1).as_slice()),
            (device, DType::F32),
        );
        let x = x.require_grad();
        // Our operations between burn's own, which the backward pass computes again.
        let hidden = (gelu(x.clone().exp() * 0.1) + 1.0).sqrt().reshape([3, 20]);
        let out = rms_norm(hidden.clone().tanh(), 1.0, 1e-6) * hidden;
        let gradients = out.sum().backward();
        x.grad(&gradients)
            .expect("a gradient")
            .into_data()
            .iter::<f32>()
            .collect::<Vec<_>>()
    };
    let kept = gradient(&Device::flex().autodiff());
    assert_eq!(
        gradient(&Device::flex().autodiff().gradient_checkpointing()),
        kept
    );
}

#[test]
fn constants_and_tensors_without_autodiff_are_accepted() {
    let (plain, training) = (Device::flex(), Device::flex().autodiff());
    let numbers = |len, which, device: &Device| {
        Tensor::<1>::from_data(
            TensorData::from(wave(len, which).as_slice()),
            (device, DType::F32),
        )
    };
    let x = numbers(12, 1, &plain).reshape([3, 4]);
    let weight = numbers(8, 2, &training).require_grad();
    let out = linear(x.clone(), weight.clone().reshape([4, 2]), None);
    let gradients = out.sum().backward();
    let found = weight.grad(&gradients).expect("a gradient").into_data();
    let expected = x
        .sum_dim(0)
        .reshape([4, 1])
        .repeat_dim(1, 2)
        .reshape([8])
        .into_data();
    found.assert_approx_eq::<f32>(&expected, burn::tensor::Tolerance::default());
}

#[test]
fn empty_tensors_are_accepted() {
    let device = Device::flex();
    for shape in [[0, 3], [3, 0]] {
        let empty = || Tensor::<2>::zeros(shape, &device);
        assert_eq!(gelu(empty()).dims(), shape);
        assert_eq!(rms_norm(empty(), 1.0, 1e-6).dims(), shape);
        assert_eq!(layer_norm(empty(), None, None, 1e-5).dims(), shape);
    }
    let out = linear(
        Tensor::<2>::zeros([0, 3], &device),
        Tensor::zeros([3, 2], &device),
        None,
    );
    assert_eq!(out.dims(), [0, 2]);
}
