//! Each operation in bf16 is within a few roundings of double precision, and weights get gradients in f32.
//!
//! Leaves are in f32, with values that bf16 represents exactly. So the cast of activations loses nothing, and every
//! difference comes from the operation. One rounding to bf16 has a relative error of at most 2⁻⁸.

#[path = "support/judged.rs"]
mod judged;

use bdh_ops::{
    Mask, Precision, attention, gated, gelu, gelu_tanh, layer_norm, linear, linear_attention, relu,
    relu_heads, relu_squared, residual_mix, rms_norm, rotary, self_attention, soft_cap, sum_heads,
    tied_head, token_nll, upcast_f32,
};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use judged::{leaf, numbers, results, rounded, wave};

/// Input of an operation with its number of elements.
#[derive(Clone, Copy)]
enum Input {
    /// In bf16.
    Activity(usize),
    /// In f32.
    Weight(usize),
}
use Input::{Activity, Weight};

/// Bound for one rounding.
const ONCE: f64 = 1.0;
/// Bound for a result computed in f32.
const EXACT: f64 = 0.0;

/// Panics unless `function` in bf16 is close to f64, within multiples of 2⁻⁸.
///
/// Up to [`ONCE`] the error is relative to each number, beyond that to the largest one. The first bound is for the
/// result, the others for the gradient of each input.
fn close(inputs: &[Input], bounds: &[f64], function: impl Fn(&[Tensor<1>]) -> Tensor<1>) {
    let values = |which: usize| match inputs[which] {
        Activity(len) | Weight(len) => rounded(&wave(len, which)),
    };
    let leaves = |dtype| -> Vec<_> {
        (0..inputs.len())
            .map(|which| leaf(&values(which), dtype))
            .collect()
    };
    let narrow = |leaves: &[Tensor<1>]| {
        let cast = |(input, leaf): (&Input, &Tensor<1>)| match input {
            Activity(_) => Precision::Bf16.cast(leaf.clone()),
            Weight(_) => leaf.clone(),
        };
        let output = function(&inputs.iter().zip(leaves).map(cast).collect::<Vec<_>>());
        assert_eq!(
            output.dtype(),
            DType::BF16,
            "the result has the precision of the input"
        );
        output
    };
    let found = results(&leaves(DType::F32), narrow);
    let expected = results(&leaves(DType::F64), &function);
    assert_eq!((found.len(), expected.len()), (bounds.len(), bounds.len()));
    for (which, ((found, expected), bound)) in found.iter().zip(&expected).zip(bounds).enumerate() {
        let largest = expected
            .iter()
            .fold(0.0, |size: f64, value| size.max(value.abs()));
        for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
            let size = if *bound > ONCE {
                largest
            } else {
                expected.abs()
            };
            assert!(
                (found - expected).abs() <= bound / 256.0 * size + 1e-5 * largest,
                "{which} (0 is the result) at {at}: {found}, not {expected}, to {bound} times 2⁻⁸"
            );
        }
    }
}

#[test]
fn elementwise_functions_are_rounded_once() {
    for len in [1, 37, 40_003] {
        let one = |function: fn(Tensor<1>) -> Tensor<1>| {
            close(&[Activity(len)], &[ONCE, ONCE], |x| function(x[0].clone()));
        };
        one(gelu);
        one(gelu_tanh);
        one(relu);
        one(relu_squared);
        one(|x| soft_cap(x, 1.7));
        close(&[Activity(len); 2], &[ONCE; 3], |x| {
            gated(x[0].clone(), x[1].clone(), 0.0)
        });
    }
}

#[test]
fn norms_are_rounded_once_and_their_gains_never() {
    for (rows, width) in [(3, 5), (300, 33), (2, 5_000)] {
        let of = |x: &Tensor<1>| x.clone().reshape([rows, width]);
        let all = Activity(rows * width);
        close(&[all], &[ONCE, ONCE], |x| {
            rms_norm(of(&x[0]), 1.7, 1e-6).flatten(0, 1)
        });
        close(&[all], &[ONCE, ONCE], |x| {
            layer_norm(of(&x[0]), None, None, 1e-5).flatten(0, 1)
        });
        let gained = [all, Weight(width), Weight(width)];
        close(&gained, &[ONCE, ONCE, EXACT, EXACT], |x| {
            layer_norm(of(&x[0]), Some(x[1].clone()), Some(x[2].clone()), 1e-5).flatten(0, 1)
        });
    }
}

#[test]
fn rows_with_a_large_mean_keep_their_spread() {
    // From 100 to 103.5 in steps of 0.5, the spacing of bf16 there: a mean in bf16 would have an error of 0.25.
    let (rows, width) = (4, 1_000);
    let values: Vec<f64> = (0..rows * width)
        .map(|k| 100.0 + 0.5 * f64::from(k * k % 8))
        .collect();
    assert_eq!(rounded(&values), values);
    let normed = |dtype, x: Tensor<1>| {
        let x = x.cast(dtype).reshape([rows, width]);
        layer_norm(x, None, None, 1e-5).flatten::<1>(0, 1)
    };
    let found = results(&[leaf(&values, DType::F32)], |x| {
        normed(DType::BF16, x[0].clone())
    });
    let expected = results(&[leaf(&values, DType::F64)], |x| {
        normed(DType::F64, x[0].clone())
    });
    for (found, expected) in found.iter().zip(&expected) {
        let size = expected
            .iter()
            .fold(0.0, |size: f64, value| size.max(value.abs()));
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                (found - expected).abs() <= size / 256.0,
                "{found}, not {expected}"
            );
        }
    }
}

#[test]
fn linear_layers_are_rounded_once_and_again_with_a_bias() {
    for (batch, rows, inputs, outputs) in [(1, 1, 1, 1), (2, 3, 5, 4), (3, 64, 130, 70)] {
        let x = |x: &Tensor<1>| x.clone().reshape([batch, rows, inputs]);
        let all = [
            Activity(batch * rows * inputs),
            Weight(inputs * outputs),
            Weight(outputs),
        ];
        close(&all, &[2.0 * ONCE, ONCE, ONCE, ONCE], |t| {
            let weight = t[1].clone().reshape([inputs, outputs]);
            linear(x(&t[0]), weight, Some(t[2].clone())).flatten(0, 2)
        });
        close(&all[..2], &[ONCE; 3], |t| {
            linear(x(&t[0]), t[1].clone().reshape([inputs, outputs]), None).flatten(0, 2)
        });
        close(&all[..2], &[ONCE; 3], |t| {
            tied_head(x(&t[0]), t[1].clone().reshape([outputs, inputs])).flatten(0, 2)
        });
    }
}

#[test]
fn products_of_heads_are_rounded_once_and_their_sums_again() {
    let (heads, rows, width, neurons) = (3, 70, 5, 300);
    let weight = Weight(heads * width * neurons);
    close(
        &[Activity(rows * width), weight],
        &[ONCE, 1.5 * ONCE, ONCE],
        |t| {
            let x = t[0].clone().reshape([1, rows, width]);
            relu_heads(x, t[1].clone().reshape([heads, width, neurons])).flatten(0, 2)
        },
    );
    close(
        &[Activity(heads * rows * neurons), weight],
        &[1.5 * ONCE, ONCE, ONCE],
        |t| {
            let x = t[0].clone().reshape([heads, rows, neurons]);
            sum_heads(x, t[1].clone().reshape([heads, neurons, width])).flatten(0, 2)
        },
    );
}

#[test]
fn weighted_sums_are_rounded_once_and_their_weights_never() {
    for len in [1, 50_001] {
        let inputs = [Weight(1), Activity(len), Weight(1), Activity(len)];
        close(&inputs, &[ONCE, EXACT, ONCE, EXACT, ONCE], |t| {
            residual_mix((t[0].clone(), t[1].clone()), (t[2].clone(), t[3].clone()))
        });
    }
}

#[test]
fn weight_of_a_sum_keeps_its_f32_digits() {
    let device = Device::flex();
    let x = || Tensor::<1>::full([1], 1024.0, (&device, DType::BF16));
    let weight = |value: f32| Tensor::<1>::from_floats([value], &device);
    // In bf16, 1.003 would be 1.
    let [mixed] = numbers(residual_mix((weight(1.003), x()), (weight(-1.0), x())))[..] else {
        panic!("one number")
    };
    assert!((mixed - 3.072).abs() < 0.01, "{mixed}");
}

#[test]
fn rotary_positions_are_rounded_once() {
    for (batch, seq_len, heads, size) in [(1, 1, 1, 2), (2, 100, 3, 10)] {
        close(
            &[Activity(batch * seq_len * heads * size)],
            &[ONCE, ONCE],
            |t| {
                let x = t[0].clone().reshape([batch, seq_len, heads, size]);
                let angles = Tensor::arange(0..(seq_len * size / 2) as i64, &t[0].device()).float();
                let angles = upcast_f32(angles.cast(DType::F32)).reshape([seq_len, size / 2]);
                // The same f32 tables for both.
                rotary(x, angles.clone().cos(), angles.sin()).flatten(0, 3)
            },
        );
    }
}

#[test]
fn attention_rounds_scores_weights_and_result() {
    for (seq_len, back) in [(1, 1), (9, 9), (150, 150), (150, 70)] {
        for (heads, shared) in [(4, 4), (4, 2)] {
            let (batch, size) = (2, 6);
            let of = |x: &Tensor<1>, heads| x.clone().reshape([batch, seq_len, heads, size]);
            let keys = Activity(batch * seq_len * shared * size);
            close(
                &[Activity(batch * seq_len * heads * size), keys, keys],
                &[2.5; 4],
                |t| {
                    let mask = Mask::window(200, back, &t[0].device());
                    let (keys, values) = (of(&t[1], shared), of(&t[2], shared));
                    attention(of(&t[0], heads), keys, values, &mask, 0.4).flatten(0, 3)
                },
            );
        }
    }
    let (batch, seq_len, heads, width) = (2, 70, 3, 24);
    close(&[Activity(batch * seq_len * 3 * width)], &[2.5; 2], |t| {
        let mask = Mask::causal(100, &t[0].device());
        let all = t[0].clone().reshape([batch, seq_len, 3 * width]);
        self_attention(all, heads, &mask).flatten(0, 2)
    });
}

#[test]
fn attention_scale_is_not_rounded_to_bf16() {
    // Each second token weighs the first one, with a value of 1, against itself, with a key and a value of 0. In bf16 a
    // scale of 1.1111 would be 1.109. Over many weights, roundings cancel, but a wrong scale does not.
    let device = Device::flex();
    let pairs = 20_000;
    let share = |k: usize, step: f64| (k as f64 * step).fract();
    let queries = rounded(
        &(0..pairs)
            .map(|k| 1.0 + share(k, 0.618_034))
            .collect::<Vec<_>>(),
    );
    let keys = rounded(
        &(0..pairs)
            .map(|k| 0.5 + share(k, 0.414_214))
            .collect::<Vec<_>>(),
    );
    let tensor = |pairs: Vec<[f64; 2]>| {
        let data = TensorData::new(pairs.concat(), [pairs.len(), 2, 1, 1]);
        Tensor::<4>::from_data(data, (&device, DType::BF16))
    };
    let read = attention(
        tensor(queries.iter().map(|query| [0.0, *query]).collect()),
        tensor(keys.iter().map(|key| [*key, 0.0]).collect()),
        tensor(vec![[1.0, 0.0]; pairs]),
        &Mask::causal(2, &device),
        1.1111,
    );
    let found = numbers(read.flatten(0, 3))
        .chunks(2)
        .map(|pair| pair[1])
        .sum::<f64>();
    let weight = |(query, key): (&f64, &f64)| 1.0 / (1.0 + (-1.1111 * query * key).exp());
    let expected = queries.iter().zip(&keys).map(weight).sum::<f64>();
    let apart = (found - expected) / pairs as f64;
    assert!(apart.abs() < 1e-4, "{apart}");
}

#[test]
fn linear_attention_rounds_scores_and_result() {
    for (seq_len, neurons) in [(9, 4), (150, 6)] {
        let (heads, batch, width) = (3, 2, 5);
        let keys = Activity(heads * batch * seq_len * neurons);
        close(&[keys, Activity(batch * seq_len * width)], &[1.5; 3], |t| {
            let keys = t[0].clone().reshape([heads, batch, seq_len, neurons]);
            let values = t[1].clone().reshape([batch, seq_len, width]);
            linear_attention(keys, values).flatten(0, 3)
        });
    }
}

#[test]
fn dropout_in_bf16_keeps_the_mean() {
    let device = Device::flex();
    device.seed(3);
    let values = wave(40_000, 1)
        .iter()
        .map(|value| 1.5 + value.abs())
        .collect::<Vec<_>>();
    let x = Tensor::<1>::from_data(TensorData::from(values.as_slice()), (&device, DType::BF16));
    let kept = numbers(gated(x.clone(), x.ones_like(), 0.1));
    let (mut before, mut after, mut count) = (0.0, 0.0, 0);
    for (kept, x) in kept
        .iter()
        .zip(numbers(x))
        .filter(|(kept, _)| **kept != 0.0)
    {
        (before, after, count) = (before + x, after + kept, count + 1);
    }
    assert!(
        (35_500..36_500).contains(&count),
        "{count} of 36,000 are left"
    );
    // A factor in bf16 would be 1.109 or 1.117, an error of 0.002 or 0.005.
    let factor = after / before;
    assert!((factor * 0.9 - 1.0).abs() < 3e-4, "{factor}, not 1.1111");
}

#[test]
fn token_nll_of_bf16_logits_is_computed_in_f32() {
    let (batch, seq_len, vocab) = (2, 50, 1_000);
    let logits = rounded(
        &wave(batch * seq_len * vocab, 0)
            .iter()
            .map(|x| x * 4.0)
            .collect::<Vec<_>>(),
    );
    let of = |narrow: bool| {
        let leaf = leaf(&logits, DType::F32);
        results(&[leaf], |x| {
            let x = x[0].clone().reshape([batch, seq_len, vocab]);
            let targets = (0..batch * seq_len).map(|k| {
                if k % 5 == 1 {
                    -1
                } else {
                    (k * 7 % vocab) as i32
                }
            });
            let targets = TensorData::new(targets.collect::<Vec<_>>(), [batch, seq_len]);
            let targets = Tensor::<2, Int>::from_data(targets, &x.device());
            let nats = token_nll(if narrow { Precision::Bf16.cast(x) } else { x }, targets);
            assert_eq!(nats.dtype(), DType::F32);
            nats.flatten(0, 1)
        })
    };
    let (narrow, wide) = (of(true), of(false));
    assert_eq!(narrow[0], wide[0]);
    assert_eq!(narrow[1], rounded(&wide[1]));
}
