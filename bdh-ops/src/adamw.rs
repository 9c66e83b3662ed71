//! AdamW, in one pass over a parameter and its state.

#[cfg(feature = "flex")]
use crate::cpu;
use burn::optim::{LearningRate, Optimizer, RecordState, StateSink, StateSource};
use burn::tensor::{Device, Tensor};

/// AdamW with PyTorch's formula and defaults: betas 0.9 and 0.999, an epsilon of 1e-8, a weight decay of 0.01.
///
/// burn's AdamW allocates about ten tensors for each parameter. On the CPU this one allocates none.
///
/// Source: Loshchilov and Hutter, 2017, *Decoupled Weight Decay Regularization* (arXiv:1711.05101).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Shares of the average gradient and of the average square that each step keeps.
    pub betas: (f64, f64),
    /// Added to the root of the average square.
    pub epsilon: f64,
    /// Share of a weight that a step with a learning rate of 1 removes.
    pub weight_decay: f64,
}

impl Default for AdamW {
    fn default() -> Self {
        Self {
            betas: (0.9, 0.999),
            epsilon: 1e-8,
            weight_decay: 0.01,
        }
    }
}

/// State of [`AdamW`] for one parameter.
#[derive(Debug, Clone)]
pub struct AdamWState<const D: usize> {
    steps: u64,
    /// Moving average of the gradients.
    average: Tensor<D>,
    /// Moving average of the squared gradients.
    square: Tensor<D>,
}

// By hand: burn's derive uses paths that exist only in its own crates.
impl<const D: usize> RecordState for AdamWState<D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        out.push_scalar(prefix, "steps", self.steps.into());
        out.push_tensor(prefix, "average", self.average.to_data());
        out.push_tensor(prefix, "square", self.square.to_data());
    }

    fn state_unflatten(prefix: &str, src: &mut StateSource, device: &Device) -> Option<Self> {
        let steps = src.take_scalar(prefix, "steps")?.try_into().ok()?;
        let average = Tensor::from_data(src.take_tensor(prefix, "average")?, device);
        let square = Tensor::from_data(src.take_tensor(prefix, "square")?, device);
        Some(Self {
            steps,
            average,
            square,
        })
    }
}

/// Numbers of one step, the same for all elements.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Factors {
    /// Share of a weight that remains after weight decay.
    pub(crate) keep: f64,
    pub(crate) betas: (f64, f64),
    /// Learning rate divided by the bias correction of the average gradient.
    pub(crate) lr: f64,
    /// Root of the bias correction of the average square.
    pub(crate) correction: f64,
    pub(crate) epsilon: f64,
}

impl AdamW {
    /// Returns the numbers of the step after `steps` updates.
    fn factors(&self, lr: f64, steps: u64) -> Factors {
        let count = steps as f64 + 1.0;
        let (beta_1, beta_2) = self.betas;
        Factors {
            keep: 1.0 - lr * self.weight_decay,
            betas: self.betas,
            lr: lr / (1.0 - beta_1.powf(count)),
            correction: (1.0 - beta_2.powf(count)).sqrt(),
            epsilon: self.epsilon,
        }
    }
}

impl Optimizer for AdamW {
    type State<const D: usize> = AdamWState<D>;

    fn step<const D: usize>(
        &self,
        lr: LearningRate,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<AdamWState<D>>,
    ) -> (Tensor<D>, Option<AdamWState<D>>) {
        let AdamWState {
            steps,
            average,
            square,
        } = state.unwrap_or_else(|| AdamWState {
            steps: 0,
            average: grad.zeros_like(),
            square: grad.zeros_like(),
        });
        let factors = self.factors(lr, steps);
        let (tensor, average, square) = step(tensor, grad, average, square, factors);
        (
            tensor,
            Some(AdamWState {
                steps: steps.saturating_add(1),
                average,
                square,
            }),
        )
    }

    fn to_device<const D: usize>(state: AdamWState<D>, device: &Device) -> AdamWState<D> {
        AdamWState {
            average: state.average.to_device(device),
            square: state.square.to_device(device),
            ..state
        }
    }
}

/// Returns the parameter and both averages after a step.
fn step<const D: usize>(
    weight: Tensor<D>,
    gradient: Tensor<D>,
    average: Tensor<D>,
    square: Tensor<D>,
    factors: Factors,
) -> (Tensor<D>, Tensor<D>, Tensor<D>) {
    for part in [&gradient, &average, &square] {
        assert_eq!(
            part.dims(),
            weight.dims(),
            "AdamW: gradient and state must have the parameter's shape"
        );
    }
    #[cfg(feature = "flex")]
    if [&weight, &gradient, &average, &square]
        .into_iter()
        .all(cpu::takes)
    {
        let parts = [weight, gradient, average, square].map(Tensor::into_dispatch);
        let [weight, average, square] = cpu::step::adamw(parts, factors);
        let tensor = Tensor::from_dispatch;
        return (tensor(weight), tensor(average), tensor(square));
    }
    plain_step(weight, gradient, average, square, factors)
}

/// Computes a step with burn's operations.
fn plain_step<const D: usize>(
    weight: Tensor<D>,
    gradient: Tensor<D>,
    average: Tensor<D>,
    square: Tensor<D>,
    factors: Factors,
) -> (Tensor<D>, Tensor<D>, Tensor<D>) {
    let Factors {
        keep,
        betas,
        lr,
        correction,
        epsilon,
    } = factors;
    let average = average * betas.0 + gradient.clone() * (1.0 - betas.0);
    let square = square * betas.1 + gradient.square() * (1.0 - betas.1);
    let update = average.clone() / (square.clone().sqrt() / correction + epsilon);
    (weight * keep - update * lr, average, square)
}
