//! Kernel of products with dropout, by a hash of each element's index.

use super::array::Array;
use super::tape::{Kernel, run};
use super::threads::{on_pairs, on_rows};
use burn::backend::DispatchTensor;

pub(crate) fn gated(factors: [DispatchTensor; 2], dropout: f64, seed: u64) -> DispatchTensor {
    let kept = 1.0 - dropout;
    let bound = (kept * 2_f64.powi(32)).min(f64::from(u32::MAX)) as u32;
    let scale = (1.0 / kept) as f32;
    let mask = DropoutMask {
        seed: (seed ^ seed >> 32) as u32,
        bound,
        scale,
        all: dropout == 0.0,
    };
    run(Gated(mask), factors)
}

/// Dropout mask, computed instead of stored.
#[derive(Debug, Clone, Copy)]
struct DropoutMask {
    seed: u32,
    /// Elements with a hash below this bound are kept.
    bound: u32,
    /// Factor of kept elements.
    scale: f32,
    /// Whether all elements are kept.
    all: bool,
}

impl DropoutMask {
    /// Returns the factor of an element, from a hash of its index and the seed.
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

    /// Applies the mask to `values`, whose first element has the index `first`.
    #[inline(always)]
    fn apply(self, first: usize, values: &mut [f32]) {
        if self.all {
            return;
        }
        let mut element = first as u32; // the mask repeats in arrays of more than 2^32 elements
        for value in values {
            *value *= self.factor(element);
            element = element.wrapping_add(1);
        }
    }
}

#[derive(Debug)]
struct Gated(DropoutMask);

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
                self.0.apply(first, out);
            },
        );
        (Array::of(out, x.shape()), [x, y])
    }

    /// Overwrites the incoming gradient with one of the results.
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
                self.0.apply(first, gradient);
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

    fn mask(kept: f64, seed: u32) -> Vec<f32> {
        let bound = (kept * 2_f64.powi(32)) as u32;
        let mask = DropoutMask {
            seed,
            bound,
            scale: (1.0 / kept) as f32,
            all: false,
        };
        let mut values = vec![1.0; 1_000_000];
        mask.apply(0, &mut values);
        values
    }

    #[test]
    fn kept_share_is_as_requested_and_the_mean_stays() {
        for kept in [0.9, 0.5, 0.1] {
            let values = mask(kept, 7);
            let count = values.iter().filter(|value| **value > 0.0).count() as f64 / 1e6;
            let mean = values.iter().map(|value| f64::from(*value)).sum::<f64>() / 1e6;
            // Five standard deviations of a share of a million elements.
            let near = 5.0 * (kept * (1.0 - kept) / 1e6).sqrt();
            assert!((count - kept).abs() < near, "{count} of {kept}");
            assert!((mean - 1.0).abs() < near / kept, "{mean}");
        }
    }

    #[test]
    fn masks_of_neighbours_and_seeds_are_uncorrelated() {
        let near = 5.0 / 1e3; // five standard deviations of a correlation over a million elements
        let signs = |seed| {
            mask(0.5, seed)
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
