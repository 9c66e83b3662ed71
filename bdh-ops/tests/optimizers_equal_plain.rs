//! Steps of optimizers on the CPU equal burn's plain operations in double precision.

use bdh_ops::{AdamW, MuonStep, muon_step};
use burn::optim::Optimizer;
use burn::tensor::{DType, Device, Tensor, TensorData};

fn matrix(shape: [usize; 2], which: usize, dtype: DType) -> Tensor<2> {
    let value = |k: usize| (0.37 * (k * k + 3 * which) as f64 + which as f64).sin();
    let values: Vec<f64> = (0..shape[0] * shape[1]).map(value).collect();
    Tensor::from_data(TensorData::new(values, shape), (&Device::flex(), dtype))
}

fn numbers(tensor: &Tensor<2>) -> Vec<f64> {
    tensor.clone().into_data().iter().collect()
}

fn assert_close(found: &Tensor<2>, expected: &Tensor<2>, what: &str) {
    assert_eq!(found.dims(), expected.dims(), "{what}");
    for (at, (found, expected)) in numbers(found).iter().zip(numbers(expected)).enumerate() {
        assert!(
            (found - expected).abs() < 2e-5,
            "{what} at {at}: {found}, not {expected}"
        );
    }
}

#[test]
fn muon_equals_plain() {
    // Wide, tall and square; more than one piece of work.
    for shape in [[4, 6], [6, 4], [5, 5], [200, 90], [90, 200]] {
        for decay in [0.0, 0.1] {
            let [found, expected] = [DType::F32, DType::F64].map(|dtype| {
                let how = MuonStep {
                    momentum: 0.9,
                    beta2: 0.95,
                    lr: 0.3,
                    decay,
                };
                let zeros = matrix(shape, 0, dtype).zeros_like();
                let (mut weight, mut momentum, mut variance) =
                    (matrix(shape, 1, dtype), zeros, None);
                for step in 2..5 {
                    let gradient = matrix(shape, step, dtype);
                    let moved = muon_step(weight, gradient, momentum, variance, how);
                    (weight, momentum, variance) = (moved.0, moved.1, Some(moved.2));
                }
                [weight, momentum, variance.expect("after a step")]
            });
            for (part, what) in ["weight", "momentum", "variance"].into_iter().enumerate() {
                assert_close(
                    &found[part],
                    &expected[part],
                    &format!("{what} of {shape:?}"),
                );
            }
        }
    }
}

#[test]
fn adamw_equals_plain() {
    for shape in [[1, 1], [3, 5], [300, 100]] {
        let [found, expected] = [DType::F32, DType::F64].map(|dtype| {
            let rule = AdamW {
                betas: (0.8, 0.95),
                epsilon: 1e-8,
                weight_decay: 0.1,
            };
            let (mut weight, mut state) = (matrix(shape, 1, dtype), None);
            for step in 2..6 {
                (weight, state) = rule.step(0.01, weight, matrix(shape, step, dtype), state);
            }
            weight
        });
        assert_close(&found, &expected, &format!("{shape:?}"));
    }
}

#[test]
fn shared_weight_is_not_overwritten() {
    let weight = matrix([3, 5], 1, DType::F32);
    let (before, held) = (numbers(&weight), weight.clone());
    let (moved, _) = AdamW::default().step(0.1, weight, matrix([3, 5], 2, DType::F32), None);
    assert_eq!(numbers(&held), before);
    assert_ne!(numbers(&moved), before);
}
