//! Rotary position embeddings: each pair of channels of a head turns by an angle that grows with the position.
//!
//! Source: Su et al., 2021, *RoFormer* (arXiv:2104.09864), in the half-split form: channel `j` of a head pairs
//! with channel `j + head_size / 2`.

use bdh::burn;
use bdh::burn::module::Module;
use bdh::burn::tensor::{Device, Tensor, TensorData};

/// The slowest pair of channels turns by one radian in about this many tokens.
const BASE: f32 = 100_000.0;

/// Cosines and sines of every position, computed once; not parameters, and in no checkpoint.
#[derive(Module, Debug)]
pub(super) struct Rope {
    /// `[1, seq_len, 1, 1, half]`: one cosine for both channels of a pair.
    cos: Tensor<5>,
    /// `[1, seq_len, 1, 2, half]`: the sine for the first half of the channels, its negative for the second.
    sin: Tensor<5>,
}

impl Rope {
    /// Tables for `seq_len` positions of heads with `head_size` channels.
    pub(super) fn new(seq_len: usize, head_size: usize, device: &Device) -> Self {
        let half = head_size / 2;
        let turns: Vec<f32> =
            (0..half).map(|pair| 1.0 / BASE.powf((2 * pair) as f32 / head_size as f32)).collect();
        let mut cos = Vec::with_capacity(seq_len * half);
        let mut sin = Vec::with_capacity(seq_len * head_size);
        for position in 0..seq_len {
            let angles = turns.iter().map(|turn| position as f32 * turn);
            cos.extend(angles.clone().map(f32::cos));
            sin.extend(angles.clone().map(f32::sin));
            sin.extend(angles.map(|angle| -angle.sin()));
        }
        Self {
            cos: Tensor::from_data(TensorData::new(cos, [1, seq_len, 1, 1, half]), device),
            sin: Tensor::from_data(TensorData::new(sin, [1, seq_len, 1, 2, half]), device),
        }
    }

    /// The tables of the first `seq_len` positions.
    pub(super) fn narrow(&self, seq_len: usize) -> Self {
        let narrow = |table: &Tensor<5>| table.clone().narrow(1, 0, seq_len);
        Self { cos: narrow(&self.cos), sin: narrow(&self.sin) }
    }

    /// Turns the heads in `x`, `[batch, seq_len, heads, head_size]`, by minus the angle of their position.
    ///
    /// The tables must be those of `seq_len` positions.
    pub(super) fn turn(&self, x: Tensor<4>) -> Tensor<4> {
        let shape = x.dims();
        let [batch, seq_len, heads, head_size] = shape;
        let pairs = x.reshape([batch, seq_len, heads, 2, head_size / 2]);
        // Not `flip`: on the CPU it is a view, and arithmetic on that view costs six times this copy.
        let swapped =
            Tensor::cat(vec![pairs.clone().narrow(3, 1, 1), pairs.clone().narrow(3, 0, 1)], 3);
        (pairs * self.cos.clone() + swapped * self.sin.clone()).reshape(shape)
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
        let y = y.into_data().try_to_vec::<f32>().expect("a float tensor holds f32 on the CPU");
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
            query.iter().zip(turned([1.0, 0.5, -0.2, 0.9], key)).map(|(q, k)| q * k).sum()
        };
        assert!((dot(5, 3) - dot(4, 2)).abs() < 1e-5);
    }
}
