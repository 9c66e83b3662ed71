//! Rotary positions of neurons: each pair turns by an angle that grows with the position.

use bdh::burn;
use bdh::burn::module::Module;
use bdh::burn::tensor::{Device, Tensor, TensorData};
use bdh::ops::rotary;
use std::f32::consts::TAU;

/// The slowest pair turns by one radian in about this many tokens.
const BASE: f32 = 65_536.0;

/// Cosines and sines of some positions, computed once; not parameters, and in no checkpoint.
#[derive(Module, Debug)]
pub(super) struct Rope {
    /// `[positions, neurons / 2]`.
    cos: Tensor<2>,
    /// The same, with the other sign: `rotary` turns by minus the angle.
    minus_sin: Tensor<2>,
}

impl Rope {
    /// Tables for `len` positions from `start` on, of heads with `neurons` neurons.
    ///
    /// Angles are counted in turns, of which whole ones are dropped, in f32 whatever the model computes in: far into a
    /// text, fewer digits would lose the fraction.
    pub(super) fn new(start: usize, len: usize, neurons: usize, device: &Device) -> Self {
        let half = neurons / 2;
        let turns: Vec<f32> = (0..half)
            .map(|pair| 1.0 / BASE.powf((2 * pair) as f32 / neurons as f32) / TAU)
            .collect();
        let angles = (start..start + len).flat_map(|position| {
            turns
                .iter()
                .map(move |turn| (position as f32 * turn).fract() * TAU)
        });
        let angles: Vec<f32> = angles.collect();
        let table = |of: fn(f32) -> f32| {
            let values: Vec<f32> = angles.iter().map(|angle| of(*angle)).collect();
            Tensor::from_data(TensorData::new(values, [len, half]), device)
        };
        Self {
            cos: table(f32::cos),
            minus_sin: table(|angle| -angle.sin()),
        }
    }

    /// The tables of `len` positions from `start` on: a part of these, or new ones beyond.
    pub(super) fn at(&self, start: usize, len: usize) -> Self {
        let [positions, half] = self.cos.dims();
        if start + len > positions {
            return Self::new(start, len, 2 * half, &self.cos.device());
        }
        let narrow = |table: &Tensor<2>| table.clone().narrow(0, start, len);
        Self {
            cos: narrow(&self.cos),
            minus_sin: narrow(&self.minus_sin),
        }
    }

    /// Turns the pairs of neurons, `[heads, batch, tokens, neurons]`, the first ones of all pairs before the second, by the
    /// angles of the tokens' positions.
    pub(super) fn turn(&self, neurons: Tensor<4>) -> Tensor<4> {
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
    fn frequencies_are_those_of_the_original() {
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
    fn a_part_of_a_table_is_what_would_be_computed() {
        let device = Device::flex();
        let table = Rope::new(0, 8, 6, &device);
        let values = |rope: Rope| rope.cos.into_data().try_to_vec::<f32>().expect("f32");
        assert_eq!(values(table.at(3, 4)), values(Rope::new(3, 4, 6, &device)));
        assert_eq!(values(table.at(6, 4)), values(Rope::new(6, 4, 6, &device)));
    }
}
