//! nanochat's Muon: momentum, row equalization, an orthogonal update, and cautious weight decay.

use super::schedule::MuonSchedule;
use bdh::burn::optim::{LearningRate, Optimizer, RecordState, StateSink, StateSource};
use bdh::burn::tensor::{Device, Tensor};
use bdh::ops::{MuonStep, muon_step};

/// Optimizer that updates matrices by orthogonal steps.
///
/// Use it only for the weights of burn's `Linear`. burn stores them as `[in, out]` and PyTorch as `[out, in]`. The
/// implementation calls the last axis `out` and never transposes.
///
/// Each step is [`muon_step`] with the learning rate times `√max(1, out/in)`.
///
/// Source: `nanochat/optim.py` of karpathy/nanochat at 92d63d4.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Muon {
    momentum: f64,
    beta2: f64,
    weight_decay: f64,
    schedule: Option<MuonSchedule>,
}

impl Muon {
    /// Creates Muon with a momentum of 0.95 and the given weight decay, both constant.
    #[must_use]
    pub fn new(weight_decay: f64) -> Self {
        Self {
            momentum: 0.95,
            beta2: 0.9,
            weight_decay,
            schedule: None,
        }
    }

    /// Sets the schedule of the momentum and of the weight decay's factor.
    #[must_use]
    pub fn with_schedule(self, schedule: MuonSchedule) -> Self {
        Self {
            schedule: Some(schedule),
            ..self
        }
    }

    /// Returns the momentum after `steps` updates.
    #[must_use]
    pub fn momentum(&self, steps: u64) -> f64 {
        self.schedule
            .map_or(self.momentum, |schedule| schedule.momentum(steps))
    }

    /// Returns the weight decay after `steps` updates.
    #[must_use]
    pub fn weight_decay(&self, steps: u64) -> f64 {
        match self.schedule {
            Some(schedule) => self.weight_decay * schedule.decay_multiplier(steps),
            None => self.weight_decay,
        }
    }
}

/// State of [`Muon`] for one matrix.
#[derive(Debug, Clone)]
pub struct MuonState<const D: usize> {
    steps: u64,
    /// Moving average of the gradients, `[in, out]`.
    momentum: Tensor<D>,
    /// Moving average of the squared updates, `[1, out]` or `[in, 1]`.
    variance: Tensor<D>,
}

// By hand: burn's derive uses paths that exist only in its own crates.
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
        Some(Self {
            steps,
            momentum,
            variance,
        })
    }
}

impl Optimizer for Muon {
    type State<const D: usize> = MuonState<D>;

    /// Updates one matrix.
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
        assert_eq!(
            D, 2,
            "Muon needs a matrix, not a parameter of rank {D}: put it into a group with another optimizer"
        );
        let (inputs, outputs) = (grad.dims()[0], grad.dims()[1]);
        let (steps, momentum, variance) = match state {
            Some(state) => (state.steps, state.momentum, Some(state.variance)),
            None => (0, grad.zeros_like(), None),
        };

        let lr = lr * (outputs as f64 / inputs as f64).max(1.0).sqrt();
        let how = MuonStep {
            momentum: self.momentum(steps),
            beta2: self.beta2,
            lr,
            decay: lr * self.weight_decay(steps),
        };
        let (tensor, momentum, variance) = muon_step(tensor, grad, momentum, variance, how);
        (
            tensor,
            Some(MuonState {
                steps: steps.saturating_add(1),
                momentum,
                variance,
            }),
        )
    }

    fn to_device<const D: usize>(state: MuonState<D>, device: &Device) -> MuonState<D> {
        MuonState {
            steps: state.steps,
            momentum: state.momentum.to_device(device),
            variance: state.variance.to_device(device),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bdh::burn::tensor::TensorData;

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
    fn zero_gradient_changes_nothing() {
        let weight = matrix([4, 6]);
        let (moved, _) = Muon::new(0.0).step(0.1, weight.clone(), weight.zeros_like(), None);
        assert_eq!(values(moved), values(weight));
    }

    #[test]
    fn restored_state_continues_bit_for_bit() {
        let muon = Muon::new(0.1).with_schedule(MuonSchedule::new(10));
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
