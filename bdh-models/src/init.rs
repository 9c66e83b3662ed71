//! Initial weights: drawn on the host, or given by name.
//!
//! Each parameter is drawn from its own random stream, keyed by the run's seed and the parameter's name. So a weight
//! does not depend on the device, the order of construction, or other threads that use a shared generator.

use bdh::burn::module::Param;
use bdh::burn::nn::{Embedding, Linear};
use bdh::burn::tensor::{Device, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::f64::consts::TAU;

/// Distribution of the initial elements of a parameter.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Law {
    /// All zero: the branch contributes nothing at first.
    Zero,
    /// All one: the gain has no effect at first.
    One,
    /// Uniform between two bounds.
    Uniform(f32, f32),
    /// Normal with mean 0 and this standard deviation.
    Normal(f64),
}

impl Law {
    /// Returns the uniform distribution on `±bound`.
    pub(crate) fn within(bound: f32) -> Self {
        Self::Uniform(-bound, bound)
    }
}

/// Factory of the parameters of one model.
#[derive(Debug)]
pub(crate) struct Weights<'a> {
    source: Source<'a>,
    device: &'a Device,
}

/// Origin of the values.
#[derive(Debug)]
enum Source<'a> {
    Seed(u64),
    /// The values of each parameter by name.
    Given(&'a HashMap<String, Vec<f32>>),
}

impl<'a> Weights<'a> {
    /// Draws weights from `seed`, on `device`.
    pub(crate) fn new(seed: u64, device: &'a Device) -> Self {
        Self {
            source: Source::Seed(seed),
            device,
        }
    }

    /// Uses existing weights, on `device`: the values of each parameter by name, in burn's layout.
    pub(crate) fn given(values: &'a HashMap<String, Vec<f32>>, device: &'a Device) -> Self {
        Self {
            source: Source::Given(values),
            device,
        }
    }

    /// Returns the device that the weights are created on.
    pub(crate) fn device(&self) -> &Device {
        self.device
    }

    /// Creates a layer from `inputs` channels to `outputs`, without bias.
    pub(crate) fn linear(&self, name: &str, [inputs, outputs]: [usize; 2], law: Law) -> Linear {
        Linear {
            weight: self.param(&format!("{name}.weight"), [inputs, outputs], law),
            bias: None,
        }
    }

    /// Creates a table of `rows` vectors with `width` channels.
    pub(crate) fn table(&self, name: &str, [rows, width]: [usize; 2], law: Law) -> Embedding {
        Embedding {
            weight: self.param(&format!("{name}.weight"), [rows, width], law),
        }
    }

    /// Creates a vector of the given values.
    pub(crate) fn vector(&self, values: Vec<f32>) -> Param<Tensor<1>> {
        let len = values.len();
        Param::from_data(TensorData::new(values, [len]), self.device)
    }

    /// Creates the parameter of this name.
    pub(crate) fn param<const D: usize>(
        &self,
        name: &str,
        shape: [usize; D],
        law: Law,
    ) -> Param<Tensor<D>> {
        let values = match &self.source {
            Source::Seed(seed) => draw(*seed, name, shape.iter().product(), law),
            Source::Given(values) => values[name].clone(), // the loader has checked the names
        };
        Param::from_data(TensorData::new(values, shape), self.device)
    }
}

/// Draws the `count` values of the parameter `name` for `seed`.
fn draw(seed: u64, name: &str, count: usize, law: Law) -> Vec<f32> {
    let key = Sha256::new()
        .chain_update(seed.to_le_bytes())
        .chain_update(name)
        .finalize();
    let mut rng = ChaCha8Rng::from_seed(key.into());
    match law {
        Law::Zero => vec![0.0; count],
        Law::One => vec![1.0; count],
        Law::Uniform(low, high) => (0..count)
            .map(|_| low + (high - low) * rng.random::<f32>())
            .collect(),
        Law::Normal(deviation) => {
            let mut values = Vec::with_capacity(count + 1);
            while values.len() < count {
                values.extend(normal_pair(&mut rng).map(|value| (deviation * value) as f32));
            }
            values.truncate(count);
            values
        }
    }
}

/// Draws two independent standard normal values (Box and Muller, 1958).
fn normal_pair(rng: &mut ChaCha8Rng) -> [f64; 2] {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt(); // 1 - u is never 0, so the logarithm is finite
    let (sin, cos) = (TAU * rng.random::<f64>()).sin_cos();
    [radius * cos, radius * sin]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weight_depends_only_on_seed_and_name() {
        let first = draw(7, "a.weight", 100, Law::Normal(1.0));
        assert_eq!(first, draw(7, "a.weight", 100, Law::Normal(1.0)));
        assert_ne!(first, draw(8, "a.weight", 100, Law::Normal(1.0)));
        assert_ne!(first, draw(7, "b.weight", 100, Law::Normal(1.0)));
    }

    #[test]
    fn normal_weight_has_the_requested_deviation() {
        let values = draw(1, "wte.weight", 100_001, Law::Normal(0.8));
        assert_eq!(values.len(), 100_001);
        let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / 100_001.0;
        let variance = values
            .iter()
            .map(|&value| f64::from(value).powi(2))
            .sum::<f64>()
            / 100_001.0;
        assert!(mean.abs() < 0.01, "{mean}"); // four standard errors
        assert!((variance.sqrt() - 0.8).abs() < 0.008, "{}", variance.sqrt());
    }

    #[test]
    fn uniform_weight_fills_its_bounds() {
        let values = draw(1, "c_q.weight", 10_000, Law::Uniform(-0.5, 0.25));
        let low = values.iter().copied().fold(f32::MAX, f32::min);
        let high = values.iter().copied().fold(f32::MIN, f32::max);
        assert!(
            (-0.5..-0.499).contains(&low) && (0.249..=0.25).contains(&high),
            "{low} {high}"
        );
    }
}
