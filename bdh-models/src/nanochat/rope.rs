//! Rotary position embeddings: each pair of channels of a head rotates by an angle that grows with the position.
//!
//! Source: Su et al., 2021, *RoFormer* (arXiv:2104.09864), in the half-split form: channel `j` of a head pairs
//! with channel `j + head_size / 2`.

use bdh::burn;
use bdh::burn::module::Module;
use bdh::burn::tensor::{Device, Tensor, TensorData};
use bdh::ops::rotary;

/// Number of tokens in which the slowest pair of channels rotates by about one radian.
const BASE: f32 = 100_000.0;

/// Cosines and sines of every position. They are not parameters and not in checkpoints.
#[derive(Module, Debug)]
pub(super) struct Rope {
    /// `[seq_len, head_size / 2]`.
    cos: Tensor<2>,
    /// `[seq_len, head_size / 2]`.
    sin: Tensor<2>,
}

impl Rope {
    /// Computes tables for `seq_len` positions and heads of `head_size` channels.
    pub(super) fn new(seq_len: usize, head_size: usize, device: &Device) -> Self {
        let half = head_size / 2;
        let mut frequencies = Vec::with_capacity(half);
        for pair in 0..half {
            frequencies.push(1.0 / BASE.powf((2 * pair) as f32 / head_size as f32));
        }
        let mut cos = Vec::with_capacity(seq_len * half);
        let mut sin = Vec::with_capacity(seq_len * half);
        for position in 0..seq_len {
            for frequency in &frequencies {
                let angle = position as f32 * frequency;
                cos.push(angle.cos());
                sin.push(angle.sin());
            }
        }
        Self {
            cos: Tensor::from_data(TensorData::new(cos, [seq_len, half]), device),
            sin: Tensor::from_data(TensorData::new(sin, [seq_len, half]), device),
        }
    }

    /// Returns the tables of `seq_len` positions from `start` on.
    pub(super) fn narrow(&self, start: usize, seq_len: usize) -> Self {
        Self {
            cos: self.cos.clone().narrow(0, start, seq_len),
            sin: self.sin.clone().narrow(0, start, seq_len),
        }
    }

    /// Rotates the heads in `x`, `[batch, seq_len, heads, head_size]`, by minus the angle of their position.
    ///
    /// The tables must have `seq_len` positions.
    pub(super) fn rotate(&self, x: Tensor<4>) -> Tensor<4> {
        rotary(x, self.cos.clone(), self.sin.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rotated(channels: [f32; 4], position: usize) -> Vec<f32> {
        let device = Device::flex();
        let mut data = vec![0.0; 4 * position];
        data.extend(channels);
        let x = Tensor::from_data(TensorData::new(data, [1, position + 1, 1, 4]), &device);
        let y = Rope::new(8, 4, &device).narrow(0, position + 1).rotate(x);
        let y = y
            .into_data()
            .try_to_vec::<f32>()
            .expect("a float tensor holds f32 on the CPU");
        y[4 * position..].to_vec()
    }

    #[test]
    fn each_pair_rotates_backwards_by_its_own_angle() {
        let rotated = rotated([1.0, 2.0, 3.0, 4.0], 5);
        for (pair, turn) in [1.0, BASE.powf(-0.5)].into_iter().enumerate() {
            let (sin, cos) = (5.0 * turn).sin_cos();
            let (first, second) = (pair as f32 + 1.0, pair as f32 + 3.0);
            assert!((rotated[pair] - (first * cos + second * sin)).abs() < 1e-6);
            assert!((rotated[pair + 2] - (second * cos - first * sin)).abs() < 1e-6);
        }
    }

    #[test]
    fn first_position_does_not_rotate() {
        assert_eq!(rotated([1.0, 2.0, 3.0, 4.0], 0), [1.0, 2.0, 3.0, 4.0]);
    }

    #[test]
    fn scores_depend_only_on_the_distance() {
        let dot = |query: usize, key: usize| -> f32 {
            let query = rotated([0.3, -1.0, 2.0, 0.7], query);
            query
                .iter()
                .zip(rotated([1.0, 0.5, -0.2, 0.9], key))
                .map(|(q, k)| q * k)
                .sum()
        };
        assert!((dot(5, 3) - dot(4, 2)).abs() < 1e-5);
    }
}
