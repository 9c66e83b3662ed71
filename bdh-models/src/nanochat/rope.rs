//! Rotary position embeddings: each pair of channels of a head turns by an angle that grows with the position.
//!
//! Source: Su et al., 2021, *RoFormer* (arXiv:2104.09864), in the half-split form: channel `j` of a head pairs
//! with channel `j + head_size / 2`.

use bdh::burn;
use bdh::burn::module::Module;
use bdh::burn::tensor::{Device, Tensor, TensorData};
use bdh::ops::rotary;

/// The slowest pair of channels turns by one radian in about this many tokens.
const BASE: f32 = 100_000.0;

/// Cosines and sines of every position, computed once; not parameters, and in no checkpoint.
#[derive(Module, Debug)]
pub(super) struct Rope {
    /// `[seq_len, head_size / 2]`.
    cos: Tensor<2>,
    /// The same.
    sin: Tensor<2>,
}

impl Rope {
    /// Tables for `seq_len` positions of heads with `head_size` channels.
    pub(super) fn new(seq_len: usize, head_size: usize, device: &Device) -> Self {
        let half = head_size / 2;
        let turns: Vec<f32> = (0..half)
            .map(|pair| 1.0 / BASE.powf((2 * pair) as f32 / head_size as f32))
            .collect();
        let angles =
            (0..seq_len).flat_map(|position| turns.iter().map(move |turn| position as f32 * turn));
        let table = |of: fn(f32) -> f32| {
            let values: Vec<_> = angles.clone().map(of).collect();
            Tensor::from_data(TensorData::new(values, [seq_len, half]), device)
        };
        Self {
            cos: table(f32::cos),
            sin: table(f32::sin),
        }
    }

    /// The tables of the first `seq_len` positions.
    pub(super) fn narrow(&self, seq_len: usize) -> Self {
        let narrow = |table: &Tensor<2>| table.clone().narrow(0, 0, seq_len);
        Self {
            cos: narrow(&self.cos),
            sin: narrow(&self.sin),
        }
    }

    /// Turns the heads in `x`, `[batch, seq_len, heads, head_size]`, by minus the angle of their position.
    ///
    /// The tables must be those of `seq_len` positions.
    pub(super) fn turn(&self, x: Tensor<4>) -> Tensor<4> {
        rotary(x, self.cos.clone(), self.sin.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turned(channels: [f32; 4], position: usize) -> Vec<f32> {
        let device = Device::flex();
        let mut data = vec![0.0; 4 * position];
        data.extend(channels);
        let x = Tensor::from_data(TensorData::new(data, [1, position + 1, 1, 4]), &device);
        let y = Rope::new(8, 4, &device).narrow(position + 1).turn(x);
        let y = y
            .into_data()
            .try_to_vec::<f32>()
            .expect("a float tensor holds f32 on the CPU");
        y[4 * position..].to_vec()
    }

    #[test]
    fn each_pair_of_channels_turns_backwards_by_its_own_angle() {
        let turned = turned([1.0, 2.0, 3.0, 4.0], 5);
        for (pair, turn) in [1.0, BASE.powf(-0.5)].into_iter().enumerate() {
            let (sin, cos) = (5.0 * turn).sin_cos();
            let (first, second) = (pair as f32 + 1.0, pair as f32 + 3.0);
            assert!((turned[pair] - (first * cos + second * sin)).abs() < 1e-6);
            assert!((turned[pair + 2] - (second * cos - first * sin)).abs() < 1e-6);
        }
    }

    #[test]
    fn the_first_position_does_not_turn() {
        assert_eq!(turned([1.0, 2.0, 3.0, 4.0], 0), [1.0, 2.0, 3.0, 4.0]);
    }

    #[test]
    fn scores_depend_on_the_distance_alone() {
        let dot = |query: usize, key: usize| -> f32 {
            let query = turned([0.3, -1.0, 2.0, 0.7], query);
            query
                .iter()
                .zip(turned([1.0, 0.5, -0.2, 0.9], key))
                .map(|(q, k)| q * k)
                .sum()
        };
        assert!((dot(5, 3) - dot(4, 2)).abs() < 1e-5);
    }
}
