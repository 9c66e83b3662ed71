//! Kernel of weighted sums of two arrays.

use super::array::Array;
use super::math::sum_of_pairs;
use super::tape::{Kernel, run};
use super::threads::on_rows;
use burn::backend::DispatchTensor;

/// Computes `a·x + b·y` from `[a, x, b, y]`.
pub(crate) fn residual_mix(parts: [DispatchTensor; 4]) -> DispatchTensor {
    run(ResidualMix, parts)
}

#[derive(Debug)]
struct ResidualMix;

impl Kernel<4> for ResidualMix {
    type Saved = [Array; 4];

    fn forward(&self, [a, x, b, y]: [Array; 4]) -> (Array, Self::Saved) {
        let (left, right) = ((a.values()[0], x.values()), (b.values()[0], y.values()));
        let mut out = vec![0.0; x.values().len()];
        on_rows(
            &mut out,
            1,
            #[inline(always)]
            |first, out| {
                for ((out, x), y) in out.iter_mut().zip(&left.1[first..]).zip(&right.1[first..]) {
                    *out = left.0 * x + right.0 * y;
                }
            },
        );
        (Array::of(out, x.shape()), [a, x, b, y])
    }

    fn backward(
        &self,
        [a, x, b, y]: Self::Saved,
        mut gradient: Array,
        _: [bool; 4],
    ) -> [Option<Array>; 4] {
        let (a, b) = (a.values()[0], b.values()[0]);
        let (x, y) = (x.values(), y.values());
        let mut of_y = vec![0.0; y.len()];
        let incoming = gradient.values();
        let sums = on_rows(
            &mut of_y,
            1,
            #[inline(always)]
            |first, of_y| {
                let rows = first..first + of_y.len();
                let incoming = &incoming[rows.clone()];
                for (of_y, gradient) in of_y.iter_mut().zip(incoming) {
                    *of_y = b * gradient;
                }
                let with =
                    |other: &[f32]| sum_of_pairs(incoming, &other[rows.clone()], |g, x| g * x);
                [with(x), with(y)]
            },
        );
        let of_y = Array::of(of_y, gradient.shape());
        on_rows(
            gradient.values_mut(),
            1,
            #[inline(always)]
            |_, gradient| {
                for gradient in gradient {
                    *gradient *= a;
                }
            },
        );
        let sum = |which: usize| {
            let total = sums.iter().map(|sums| f64::from(sums[which])).sum::<f64>();
            Some(Array::of(vec![total as f32], &[1]))
        };
        [sum(0), Some(gradient), sum(1), Some(of_y)]
    }
}
