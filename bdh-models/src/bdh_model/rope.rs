//! Rotary positions of neurons: each pair rotates by an angle that grows with the position.

use bdh::burn;
use bdh::burn::module::Module;
use bdh::burn::tensor::{Device, Tensor, TensorData};
use bdh::ops::rotary;
use std::f32::consts::TAU;

/// Number of tokens in which the slowest pair rotates by about one radian.
const BASE: f32 = 65_536.0;

/// Cosines and sines of some positions. They are not parameters and not in checkpoints.
#[derive(Module, Debug)]
pub(super) struct Rope {
    /// `[positions, neurons / 2]`.
    cos: Tensor<2>,
    /// `[positions, neurons / 2]`, negated because `rotary` rotates by minus the angle.
    minus_sin: Tensor<2>,
}

impl Rope {
    /// Computes tables for `len` positions from `start` on, for heads with `neurons` neurons.
    ///
    /// Angles are in turns, without whole turns, and always in f32: at large positions, fewer digits would lose the
    /// fraction.
    pub(super) fn new(start: usize, len: usize, neurons: usize, device: &Device) -> Self {
        let half = neurons / 2;
        let mut turns = Vec::with_capacity(half);
        for pair in 0..half {
            turns.push(1.0 / BASE.powf((2 * pair) as f32 / neurons as f32) / TAU);
        }
        let mut cos = Vec::with_capacity(len * half);
        let mut minus_sin = Vec::with_capacity(len * half);
        for position in start..start + len {
            for turn in &turns {
                let angle = (position as f32 * turn).fract() * TAU;
                cos.push(angle.cos());
                minus_sin.push(-angle.sin());
            }
        }
        Self {
            cos: Tensor::from_data(TensorData::new(cos, [len, half]), device),
            minus_sin: Tensor::from_data(TensorData::new(minus_sin, [len, half]), device),
        }
    }

    /// Returns the tables of `len` positions from `start` on: a part of these tables, or new ones beyond their end.
    pub(super) fn at(&self, start: usize, len: usize) -> Self {
        let [positions, half] = self.cos.dims();
        if start + len > positions {
            return Self::new(start, len, 2 * half, &self.cos.device());
        }
        Self {
            cos: self.cos.clone().narrow(0, start, len),
            minus_sin: self.minus_sin.clone().narrow(0, start, len),
        }
    }

    /// Rotates the pairs of neurons in `[heads, batch, tokens, neurons]` by the angles of the tokens' positions.
    ///
    /// The first neurons of all pairs come before the second ones.
    pub(super) fn rotate(&self, neurons: Tensor<4>) -> Tensor<4> {
        let shape = neurons.dims();
        let [heads, batch, tokens, count] = shape;
        let as_heads = neurons.reshape([heads * batch, tokens, 1, count]);
        rotary(as_heads, self.cos.clone(), self.minus_sin.clone()).reshape(shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequencies_match_the_original() {
        let device = Device::flex();
        let first = |neurons| {
            let angles = -Rope::new(1, 1, neurons, &device).minus_sin;
            angles
                .into_data()
                .try_to_vec::<f32>()
                .expect("the CPU computes in f32")
        };
        let sines = first(8192);
        assert!((sines[0] - 1_f32.sin()).abs() < 1e-7); // 0.159 turns are one radian
        let last = 2.435_096_1e-6 * TAU;
        assert!((sines[4095] / last - 1.0).abs() < 1e-5, "{}", sines[4095]);
    }

    #[test]
    fn part_of_a_table_equals_a_computed_one() {
        let device = Device::flex();
        let table = Rope::new(0, 8, 6, &device);
        let values = |rope: Rope| rope.cos.into_data().try_to_vec::<f32>().expect("f32");
        assert_eq!(values(table.at(3, 4)), values(Rope::new(3, 4, 6, &device)));
        assert_eq!(values(table.at(6, 4)), values(Rope::new(6, 4, 6, &device)));
    }
}
