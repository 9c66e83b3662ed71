//! Muon as nanochat runs it: momentum, row equalisation, an orthogonal update, and cautious weight decay.

use super::schedule::Schedule;
use bdh::burn::optim::{LearningRate, Optimizer, RecordState, StateSink, StateSource};
use bdh::burn::tensor::{Device, Tensor};

/// Coefficients of the five Polar Express iterations: X to `aX + b(XXᵀ)X + c(XXᵀ)²X`.
///
/// Source: Amsel et al., 2025, *The Polar Express* (arXiv:2505.16932), as tabulated by nanochat.
const POLAR_EXPRESS: [[f64; 3]; 5] = [
    [8.156_554_524_902_461, -22.483_292_925_577_95, 15.878_769_915_207_462],
    [4.042_929_935_166_739, -2.808_917_465_908_714, 0.500_017_845_105_131_6],
    [3.891_667_802_292_660_7, -2.772_484_153_217_685, 0.506_064_817_850_339_3],
    [3.285_753_657_755_655, -2.368_129_493_342_537_6, 0.464_490_242_330_031_06],
    [2.346_541_325_859_637_7, -1.709_782_838_268_708_1, 0.423_235_511_693_053_23],
];
/// How much room the first iteration leaves above the largest singular value.
const POLAR_MARGIN: f64 = 1.01;
/// Floor of a norm that is divided by.
const NORM_FLOOR: f64 = 1e-6;
/// Floor of the second moment, and of the norm of what it scaled.
const MOMENT_FLOOR: f64 = 1e-10;

/// Updates matrices by orthogonal steps.
///
/// For the weights of burn's `Linear` and nothing else: they are stored `[in, out]`, while the rules are those
/// of PyTorch's `[out, in]`, so what follows calls the last axis `out` and never transposes.
///
/// In order: Nesterov momentum; every output's gradient to the same norm (MuonEq); five Polar Express
/// iterations; a Frobenius norm of `√min(in, out)` (Muon+); variance reduction along the longer side
/// (NorMuon); a learning rate times `√max(1, out/in)`; decay only where the step also shrinks the weight.
///
/// Source: `nanochat/optim.py` of karpathy/nanochat at 92d63d4.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Muon {
    momentum: f64,
    beta2: f64,
    weight_decay: f64,
    schedule: Option<Schedule>,
}

impl Muon {
    /// Muon with a momentum of 0.95 and the given weight decay, both constant.
    #[must_use]
    pub fn new(weight_decay: f64) -> Self {
        Self { momentum: 0.95, beta2: 0.9, weight_decay, schedule: None }
    }

    /// Lets `schedule` set the momentum and scale the weight decay, by the number of updates so far.
    #[must_use]
    pub fn with_schedule(self, schedule: Schedule) -> Self {
        Self { schedule: Some(schedule), ..self }
    }

    /// Momentum of the update that follows `steps` others.
    #[must_use]
    pub fn momentum(&self, steps: u64) -> f64 {
        self.schedule.map_or(self.momentum, |schedule| schedule.momentum(steps))
    }

    /// Weight decay of the update that follows `steps` others.
    #[must_use]
    pub fn weight_decay(&self, steps: u64) -> f64 {
        self.weight_decay * self.schedule.map_or(1.0, |schedule| schedule.decay_multiplier(steps))
    }
}

/// What [`Muon`] remembers of one matrix.
#[derive(Debug, Clone)]
pub struct MuonState<const D: usize> {
    steps: u64,
    /// Average of the gradients, `[in, out]`.
    momentum: Tensor<D>,
    /// Average of the squared updates, `[1, out]` or `[in, 1]`.
    variance: Tensor<D>,
}

// By hand: burn's derive names paths that exist in its own crates only.
impl<const D: usize> RecordState for MuonState<D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        out.push_scalar(prefix, "steps", self.steps.into());
        out.push_tensor(prefix, "momentum", self.momentum.to_data());
        out.push_tensor(prefix, "variance", self.variance.to_data());
    }

    fn state_unflatten(prefix: &str, src: &mut StateSource, device: &Device) -> Option<Self> {
        let steps = src.take_scalar(prefix, "steps")?.try_into().ok()?;
        let momentum = Tensor::from_data(src.take_tensor(prefix, "momentum")?, device);
        let variance = Tensor::from_data(src.take_tensor(prefix, "variance")?, device);
        Some(Self { steps, momentum, variance })
    }
}

impl Optimizer for Muon {
    type State<const D: usize> = MuonState<D>;

    /// Moves one matrix.
    ///
    /// # Panics
    ///
    /// If the parameter is not a matrix.
    fn step<const D: usize>(
        &self,
        lr: LearningRate,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<MuonState<D>>,
    ) -> (Tensor<D>, Option<MuonState<D>>) {
        assert_eq!(D, 2, "Muon moves matrices: give a parameter of rank {D} to another group");
        let (inputs, outputs) = (grad.dims()[0], grad.dims()[1]);
        let (steps, momentum, variance) = match state {
            Some(state) => (state.steps, state.momentum, Some(state.variance)),
            None => (0, grad.zeros_like(), None),
        };

        let mu = self.momentum(steps);
        let momentum = lerp(momentum, grad.clone(), 1.0 - mu);
        let update = orthogonalize(equalize(lerp(grad, momentum.clone(), mu)));
        let (update, variance) = reduce_variance(update, variance, self.beta2);

        let lr = lr * (outputs as f64 / inputs as f64).max(1.0).sqrt();
        let decay = lr * self.weight_decay(steps);
        let tensor = if decay == 0.0 {
            tensor - update * lr
        } else {
            decay_cautiously(tensor, update, lr, decay)
        };
        (tensor, Some(MuonState { steps: steps + 1, momentum, variance }))
    }

    fn to_device<const D: usize>(state: MuonState<D>, device: &Device) -> MuonState<D> {
        MuonState {
            steps: state.steps,
            momentum: state.momentum.to_device(device),
            variance: state.variance.to_device(device),
        }
    }
}

/// `from` moved towards `to` by `part` of the way.
fn lerp<const D: usize>(from: Tensor<D>, to: Tensor<D>, part: f64) -> Tensor<D> {
    from * (1.0 - part) + to * part
}

/// The Frobenius norm, `[1, 1]`.
fn norm<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    x.square().sum().sqrt().unsqueeze()
}

/// Gives every output's row of inputs the norm that they have on average.
fn equalize<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let outputs = x.dims()[1] as f64;
    let norms = x.clone().square().sum_dim(0).sqrt().clamp_min(NORM_FLOOR); // [1, out]
    let mean = norm(x.clone()) / outputs.sqrt();
    x * (mean / norms)
}

/// The orthogonal matrix nearest to `x`, nearly, with a Frobenius norm of `√min(in, out)`.
fn orthogonalize<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let [inputs, outputs] = [x.dims()[0], x.dims()[1]];
    let size = norm(x.clone()) * POLAR_MARGIN + NORM_FLOOR;
    let mut x = x / size;
    for [a, b, c] in POLAR_EXPRESS {
        let transposed = x.clone().transpose();
        // The Gram matrix of the shorter side; the iteration is the same from either side.
        x = if inputs < outputs {
            let gram = x.clone().matmul(transposed);
            (gram.clone().matmul(gram.clone()) * c + gram * b).matmul(x.clone()) + x * a
        } else {
            let gram = transposed.matmul(x.clone());
            x.clone().matmul(gram.clone().matmul(gram.clone()) * c + gram * b) + x * a
        };
    }
    let wanted = (inputs.min(outputs) as f64).sqrt();
    let size = norm(x.clone()).clamp_min(NORM_FLOOR);
    x * (size.recip() * wanted)
}

/// Divides each output's (or input's, if there are more of them) update by its usual size, keeping the norm.
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
    let size_after =
        ((now * factors.clone().square()).sum() * count).sqrt().clamp_min(MOMENT_FLOOR);
    (update * (factors * (size_before / size_after).unsqueeze()), variance)
}

/// Steps by `update`, and shrinks the weights whose sign the update shares.
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
    use bdh::burn::tensor::TensorData;

    fn matrix(shape: [usize; 2]) -> Tensor<2> {
        let values =
            (0..shape[0] * shape[1]).map(|k| (0.37 * (k * k) as f32 + 0.1).sin()).collect();
        Tensor::from_data(TensorData::new(values, shape), &Device::flex())
    }

    fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().try_to_vec().expect("a float tensor holds f32 on the CPU")
    }

    #[test]
    fn an_orthogonal_update_has_singular_values_near_one_on_either_side() {
        for shape in [[4, 6], [6, 4], [4, 4]] {
            let x = orthogonalize(equalize(matrix(shape)));
            let transposed = x.clone().transpose();
            let gram =
                if shape[0] < shape[1] { x.matmul(transposed) } else { transposed.matmul(x) };
            let apart = gram - Tensor::eye(4, &Device::flex());
            let apart = values(apart.abs().max())[0];
            assert!(apart < 0.3, "{shape:?}: {apart}"); // five iterations end between 0.87 and 1.06
        }
    }

    #[test]
    fn an_update_keeps_its_norm_when_its_variance_is_reduced() {
        for shape in [[4, 6], [6, 4]] {
            let update = matrix(shape);
            let (reduced, variance) = reduce_variance(update.clone(), None, 0.9);
            assert!((values(norm(reduced))[0] / values(norm(update))[0] - 1.0).abs() < 1e-5);
            assert_eq!(
                variance.dims(),
                if shape[1] >= shape[0] { [1, shape[1]] } else { [shape[0], 1] }
            );
        }
    }

    #[test]
    fn decay_spares_weights_that_the_step_makes_larger() {
        let device = Device::flex();
        let weight = Tensor::<2>::from_floats([[1.0, -1.0, 2.0]], &device);
        let update = Tensor::<2>::from_floats([[0.5, 0.5, 0.0]], &device);
        let moved = values(decay_cautiously(weight, update, 0.1, 0.2));
        let expected = [1.0 - 0.05 - 0.2, -1.0 - 0.05, 2.0 - 0.4]; // an update of 0 shrinks as well
        assert!(moved.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{moved:?}");
    }

    #[test]
    fn a_zero_gradient_moves_nothing() {
        let weight = matrix([4, 6]);
        let (moved, _) = Muon::new(0.0).step(0.1, weight.clone(), weight.zeros_like(), None);
        assert_eq!(values(moved), values(weight));
    }

    #[test]
    fn state_that_was_saved_goes_on_bit_for_bit() {
        let muon = Muon::new(0.1).with_schedule(Schedule::new(10));
        let (weight, grad) = (matrix([4, 6]), matrix([6, 4]).transpose());
        let (weight, state) = muon.step(0.1, weight, grad.clone(), None);
        let state = state.expect("Muon has a state after a step");
        assert_eq!(state.steps, 1);

        let mut sink = StateSink::default();
        state.state_flatten("7", &mut sink);
        let mut source = StateSource::new(sink.scalars.into_iter().collect());
        for (name, data) in sink.tensors {
            source.insert_tensor(name, data);
        }
        let loaded = MuonState::<2>::state_unflatten("7", &mut source, &Device::flex());
        assert_eq!(loaded.as_ref().map(|state| state.steps), Some(1));

        let (kept, _) = muon.step(0.1, weight.clone(), grad.clone(), Some(state));
        let (resumed, _) = muon.step(0.1, weight, grad, loaded);
        assert_eq!(values(kept), values(resumed));
    }
}
