//! Products of two arrays, with dropout by counting.

use super::array::Array;
use super::tape::{Kernel, run};
use super::threads::{on_pairs, on_rows};
use burn::backend::DispatchTensor;

pub(crate) fn gated(factors: [DispatchTensor; 2], dropout: f64, seed: u64) -> DispatchTensor {
    let kept = 1.0 - dropout;
    let bound = (kept * 2_f64.powi(32)).min(f64::from(u32::MAX)) as u32;
    let scale = (1.0 / kept) as f32;
    let fates = Fates {
        seed: (seed ^ seed >> 32) as u32,
        bound,
        scale,
        all: dropout == 0.0,
    };
    run(Gated(fates), factors)
}

/// What happens to each element.
#[derive(Debug, Clone, Copy)]
struct Fates {
    seed: u32,
    /// An element with a number below it is kept.
    bound: u32,
    /// How much larger it becomes.
    scale: f32,
    /// Whether none is dropped.
    all: bool,
}

impl Fates {
    /// What an element is multiplied by: its number is mixed with the seed until every bit depends on every other.
    ///
    /// Source: Wellons, 2018, *Prospecting for Hash Functions*, `lowbias32`.
    #[inline(always)]
    fn factor(self, element: u32) -> f32 {
        let x = element ^ self.seed;
        let x = (x ^ x >> 16).wrapping_mul(0x7feb_352d);
        let x = (x ^ x >> 15).wrapping_mul(0x846c_a68b);
        let x = x ^ x >> 16;
        if x < self.bound { self.scale } else { 0.0 }
    }

    /// Multiplies `values`, of which the first has the number `first`.
    #[inline(always)]
    fn decide(self, first: usize, values: &mut [f32]) {
        if self.all {
            return;
        }
        let mut element = first as u32; // whole arrays of more than 2^32 elements use fates twice
        for value in values {
            *value *= self.factor(element);
            element = element.wrapping_add(1);
        }
    }
}

#[derive(Debug)]
struct Gated(Fates);

impl Kernel<2> for Gated {
    type Saved = [Array; 2];

    fn forward(&self, [x, y]: [Array; 2]) -> (Array, Self::Saved) {
        let mut out = vec![0.0; x.values().len()];
        let (left, right) = (x.values(), y.values());
        on_rows(
            &mut out,
            1,
            #[inline(always)]
            |first, out| {
                for ((out, x), y) in out.iter_mut().zip(&left[first..]).zip(&right[first..]) {
                    *out = x * y;
                }
                self.0.decide(first, out);
            },
        );
        (Array::of(out, x.shape()), [x, y])
    }

    /// Writes one gradient over the one that comes in.
    fn backward(
        &self,
        [x, y]: Self::Saved,
        mut gradient: Array,
        _: [bool; 2],
    ) -> [Option<Array>; 2] {
        let (x, y) = (x.values(), y.values());
        let mut of_y = vec![0.0; y.len()];
        on_pairs(
            gradient.values_mut(),
            &mut of_y,
            #[inline(always)]
            |first, gradient, of_y| {
                self.0.decide(first, gradient);
                let factors = x[first..].iter().zip(&y[first..]);
                for ((gradient, of_y), (x, y)) in gradient.iter_mut().zip(of_y).zip(factors) {
                    *of_y = *gradient * x;
                    *gradient *= y;
                }
            },
        );
        let of_y = Array::of(of_y, gradient.shape());
        [Some(gradient), Some(of_y)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fates(kept: f64, seed: u32) -> Vec<f32> {
        let bound = (kept * 2_f64.powi(32)) as u32;
        let fates = Fates {
            seed,
            bound,
            scale: (1.0 / kept) as f32,
            all: false,
        };
        let mut values = vec![1.0; 1_000_000];
        fates.decide(0, &mut values);
        values
    }

    #[test]
    fn the_share_that_is_kept_is_as_asked_and_the_mean_stays() {
        for kept in [0.9, 0.5, 0.1] {
            let values = fates(kept, 7);
            let count = values.iter().filter(|value| **value > 0.0).count() as f64 / 1e6;
            let mean = values.iter().map(|value| f64::from(*value)).sum::<f64>() / 1e6;
            // Five standard deviations of a share of a million.
            let near = 5.0 * (kept * (1.0 - kept) / 1e6).sqrt();
            assert!((count - kept).abs() < near, "{count} of {kept}");
            assert!((mean - 1.0).abs() < near / kept, "{mean}");
        }
    }

    #[test]
    fn neither_neighbours_nor_seeds_decide_alike() {
        let near = 5.0 / 1e3; // five standard deviations of a correlation of a million
        let signs = |seed| {
            fates(0.5, seed)
                .into_iter()
                .map(|factor| f64::from(factor - 1.0))
        };
        let correlation = |a: &[f64], b: &[f64]| {
            a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>() / a.len().min(b.len()) as f64
        };
        let [first, second]: [Vec<_>; 2] = [signs(1).collect(), signs(2).collect()];
        for apart in [1, 2, 3, 16, 64, 4096] {
            let found = correlation(&first, &first[apart..]);
            assert!(found.abs() < near, "{apart} apart: {found}");
        }
        let found = correlation(&first, &second);
        assert!(found.abs() < near, "two seeds: {found}");
    }
}
