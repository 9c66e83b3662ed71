//! One step of nanochat's Muon.

#[cfg(feature = "flex")]
use crate::cpu;
use burn::tensor::Tensor;

/// Coefficients of the five Polar Express iterations: X to `aX + b(XXᵀ)X + c(XXᵀ)²X`.
///
/// Source: Amsel et al., 2025, *The Polar Express* (arXiv:2505.16932), as tabulated by nanochat.
pub(crate) const POLAR_EXPRESS: [[f64; 3]; 5] = [
    [
        8.156_554_524_902_461,
        -22.483_292_925_577_95,
        15.878_769_915_207_462,
    ],
    [
        4.042_929_935_166_739,
        -2.808_917_465_908_714,
        0.500_017_845_105_131_6,
    ],
    [
        3.891_667_802_292_660_7,
        -2.772_484_153_217_685,
        0.506_064_817_850_339_3,
    ],
    [
        3.285_753_657_755_655,
        -2.368_129_493_342_537_6,
        0.464_490_242_330_031_06,
    ],
    [
        2.346_541_325_859_637_7,
        -1.709_782_838_268_708_1,
        0.423_235_511_693_053_23,
    ],
];
/// Factor that keeps the largest singular value below 1 before the first iteration. Source: nanochat.
pub(crate) const POLAR_MARGIN: f64 = 1.01;
/// Smallest norm in a denominator. Source: nanochat.
pub(crate) const NORM_FLOOR: f64 = 1e-6;
/// Smallest second moment, and smallest norm after the variance reduction. Source: nanochat.
pub(crate) const MOMENT_FLOOR: f64 = 1e-10;

/// Numbers of one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MuonStep {
    /// Share of the average gradient that the step keeps.
    pub momentum: f64,
    /// Share of the average squared update that the step keeps.
    pub beta2: f64,
    /// Learning rate.
    pub lr: f64,
    /// Share of a weight that decays, where the update shrinks the weight too.
    pub decay: f64,
}

/// Updates a matrix, `[inputs, outputs]`, by an orthogonal step.
///
/// Returns the matrix, the average of its gradients, `[inputs, outputs]`, and the average of its squared updates,
/// `[1, outputs]` or `[inputs, 1]`.
///
/// In order: Nesterov momentum; equal norms for the gradients of all outputs (MuonEq); five Polar Express iterations; a
/// Frobenius norm of `√min(inputs, outputs)` (Muon+); variance reduction along the longer side (NorMuon); decay only
/// where the step also shrinks the weight. On the CPU, all except the matrix products takes five passes.
///
/// Source: `nanochat/optim.py` of karpathy/nanochat at 92d63d4.
///
/// # Panics
///
/// If a tensor is not a matrix of its shape.
#[must_use]
pub fn muon_step<const D: usize>(
    weight: Tensor<D>,
    gradient: Tensor<D>,
    momentum: Tensor<D>,
    variance: Option<Tensor<D>>,
    how: MuonStep,
) -> (Tensor<D>, Tensor<D>, Tensor<D>) {
    check_shapes(&weight, [&gradient, &momentum], variance.as_ref());
    #[cfg(feature = "flex")]
    if [&weight, &gradient, &momentum].into_iter().all(cpu::takes) {
        let parts = [weight, gradient, momentum].map(Tensor::into_dispatch);
        let parts = cpu::muon::step(parts, variance.map(Tensor::into_dispatch), how);
        let [weight, momentum, variance] = parts.map(Tensor::from_dispatch);
        return (weight, momentum, variance);
    }
    let momentum = lerp(momentum, gradient.clone(), 1.0 - how.momentum);
    let update = orthogonalize(equalize(lerp(gradient, momentum.clone(), how.momentum)));
    let (update, variance) = reduce_variance(update, variance, how.beta2);
    let weight = if how.decay == 0.0 {
        weight - update * how.lr
    } else {
        decay_cautiously(weight, update, how.lr, how.decay)
    };
    (weight, momentum, variance)
}

/// Panics unless the tensors are matrices of the right shapes.
fn check_shapes<const D: usize>(
    weight: &Tensor<D>,
    others: [&Tensor<D>; 2],
    variance: Option<&Tensor<D>>,
) {
    assert_eq!(D, 2, "Muon needs matrices");
    for other in others {
        assert_eq!(
            other.dims(),
            weight.dims(),
            "Muon: gradient and momentum must have the weight's shape"
        );
    }
    if let Some(variance) = variance {
        let mut shape = weight.dims();
        shape[usize::from(shape[1] < shape[0])] = 1;
        assert_eq!(
            variance.dims(),
            shape,
            "Muon: the variance must have one element for each row or column of the longer side"
        );
    }
}

/// Interpolates linearly between `from` and `to`.
fn lerp<const D: usize>(from: Tensor<D>, to: Tensor<D>, part: f64) -> Tensor<D> {
    from * (1.0 - part) + to * part
}

/// Computes the Frobenius norm, `[1, 1]`.
fn norm<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    x.square().sum().sqrt().unsqueeze()
}

/// Scales the gradient of each output to the average norm.
fn equalize<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let outputs = x.dims()[1] as f64;
    let norms = x.clone().square().sum_dim(0).sqrt().clamp_min(NORM_FLOOR); // [1, out]
    let mean = norm(x.clone()) / outputs.sqrt();
    x * (mean / norms)
}

/// Computes approximately the orthogonal matrix nearest to `x`, with a Frobenius norm of `√min(in, out)`.
fn orthogonalize<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let [inputs, outputs] = [x.dims()[0], x.dims()[1]];
    let size = norm(x.clone()) * POLAR_MARGIN + NORM_FLOOR;
    let mut x = x / size;
    for [a, b, c] in POLAR_EXPRESS {
        let transposed = x.clone().transpose();
        // The Gram matrix of the shorter side is smaller; the iteration is the same from both sides.
        x = if inputs < outputs {
            let gram = x.clone().matmul(transposed);
            (gram.clone().matmul(gram.clone()) * c + gram * b).matmul(x.clone()) + x * a
        } else {
            let gram = transposed.matmul(x.clone());
            x.clone()
                .matmul(gram.clone().matmul(gram.clone()) * c + gram * b)
                + x * a
        };
    }
    let wanted = (inputs.min(outputs) as f64).sqrt();
    let size = norm(x.clone()).clamp_min(NORM_FLOOR);
    x * (size.recip() * wanted)
}

/// Divides the update of each output by its usual size, and keeps the norm of the whole.
///
/// With more inputs than outputs it divides the update of each input.
fn reduce_variance<const D: usize>(
    update: Tensor<D>,
    before: Option<Tensor<D>>,
    beta2: f64,
) -> (Tensor<D>, Tensor<D>) {
    let [inputs, outputs] = [update.dims()[0], update.dims()[1]];
    let along = usize::from(outputs < inputs);
    let count = update.dims()[along] as f64;

    let now = update.clone().square().mean_dim(along);
    let variance = match before {
        Some(before) => lerp(before, now.clone(), 1.0 - beta2),
        None => now.clone() * (1.0 - beta2),
    };
    let factors = variance.clone().clamp_min(MOMENT_FLOOR).sqrt().recip();
    let size_before = (now.clone().sum() * count).sqrt();
    let size_after = ((now * factors.clone().square()).sum() * count)
        .sqrt()
        .clamp_min(MOMENT_FLOOR);
    (
        update * (factors * (size_before / size_after).unsqueeze()),
        variance,
    )
}

/// Subtracts the update, and decays the weights with the same sign as the update.
fn decay_cautiously<const D: usize>(
    tensor: Tensor<D>,
    update: Tensor<D>,
    lr: f64,
    decay: f64,
) -> Tensor<D> {
    let grows = (update.clone() * tensor.clone()).lower_scalar(0.0);
    let shrink = tensor.clone().mask_fill(grows, 0.0) * decay;
    tensor - update * lr - shrink
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    fn matrix(shape: [usize; 2]) -> Tensor<2> {
        let values = (0..shape[0] * shape[1])
            .map(|k| (0.37 * (k * k) as f32 + 0.1).sin())
            .collect();
        Tensor::from_data(TensorData::new(values, shape), &Device::flex())
    }

    fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor
            .into_data()
            .try_to_vec()
            .expect("a float tensor holds f32 on the CPU")
    }

    #[test]
    fn orthogonal_update_has_singular_values_near_one() {
        for shape in [[4, 6], [6, 4], [4, 4]] {
            let x = orthogonalize(equalize(matrix(shape)));
            let transposed = x.clone().transpose();
            let gram = if shape[0] < shape[1] {
                x.matmul(transposed)
            } else {
                transposed.matmul(x)
            };
            let apart = gram - Tensor::eye(4, &Device::flex());
            let apart = values(apart.abs().max())[0];
            assert!(apart < 0.3, "{shape:?}: {apart}"); // five iterations end between 0.87 and 1.06
        }
    }

    #[test]
    fn variance_reduction_keeps_the_norm() {
        for shape in [[4, 6], [6, 4]] {
            let update = matrix(shape);
            let (reduced, variance) = reduce_variance(update.clone(), None, 0.9);
            assert!((values(norm(reduced))[0] / values(norm(update))[0] - 1.0).abs() < 1e-5);
            assert_eq!(
                variance.dims(),
                if shape[1] >= shape[0] {
                    [1, shape[1]]
                } else {
                    [shape[0], 1]
                }
            );
        }
    }

    #[test]
    fn decay_skips_weights_that_the_step_makes_larger() {
        let device = Device::flex();
        let weight = Tensor::<2>::from_floats([[1.0, -1.0, 2.0]], &device);
        let update = Tensor::<2>::from_floats([[0.5, 0.5, 0.0]], &device);
        let moved = values(decay_cautiously(weight, update, 0.1, 0.2));
        let expected = [1.0 - 0.05 - 0.2, -1.0 - 0.05, 2.0 - 0.4]; // weights with an update of 0 decay too
        assert!(
            moved
                .iter()
                .zip(expected)
                .all(|(a, b)| (a - b).abs() < 1e-6),
            "{moved:?}"
        );
    }
}
