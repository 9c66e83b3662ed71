//! Sums for statistics over values in host memory, in one pass.

#[cfg(feature = "flex")]
use crate::cpu;
use burn::tensor::{FloatDType, Tensor};

/// Number of values of a piece, 32 KiB: small enough for the cache of a core, which reads them twice.
#[cfg(feature = "flex")]
pub(crate) const PIECE: usize = 8 * 1024;

/// Sums over values: in single precision within a piece, in double precision over all pieces.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Moments {
    /// Number of values.
    pub count: f64,
    /// Sum of the values.
    pub sum: f64,
    /// Sum of the squares.
    pub sum_of_squares: f64,
    /// Sum of squared distances from the mean.
    ///
    /// Computed separately: as a difference of the other sums it would lose all digits where the mean is much larger
    /// than the spread.
    pub squared_deviations: f64,
    /// Largest magnitude; NaN if a value is NaN.
    pub abs_max: f64,
    /// Number of values that are NaN or infinite.
    pub non_finite: f64,
}

impl Moments {
    /// Computes the sums of a tensor in host memory, `[elements]`; returns `None` for other tensors.
    ///
    /// One pass over memory, on all cores for many values.
    #[must_use]
    pub fn of(values: &Tensor<1>) -> Option<Self> {
        let values = values.clone().cast(FloatDType::F32);
        #[cfg(feature = "flex")]
        if cpu::is_here(&values) {
            return Some(cpu::moments::moments(values.into_dispatch()));
        }
        let _ = values; // without the feature, no tensor is in host memory
        None
    }

    /// Completes the sums of a piece whose squares are finite in single precision.
    #[cfg(feature = "flex")]
    pub(crate) fn of_sums(count: usize, sum: f64, squared_deviations: f64, abs_max: f32) -> Self {
        let count = count as f64;
        let sum_of_squares = squared_deviations + sum * sum / count;
        let abs_max = abs_max.into();
        Self {
            count,
            sum,
            sum_of_squares,
            squared_deviations,
            abs_max,
            non_finite: 0.0,
        }
    }

    /// Computes the sums of a piece in double precision, for values or squares that are not finite in single precision.
    #[cfg(feature = "flex")]
    pub(crate) fn of_extremes(values: &[f32]) -> Self {
        let wide = || values.iter().map(|value| f64::from(*value));
        let (count, sum) = (values.len() as f64, wide().sum::<f64>());
        Self {
            count,
            sum,
            sum_of_squares: wide().map(|value| value.powi(2)).sum(),
            squared_deviations: wide().map(|value| (value - sum / count).powi(2)).sum(),
            abs_max: wide().map(f64::abs).fold(0.0, larger),
            non_finite: wide().filter(|value| !value.is_finite()).count() as f64,
        }
    }

    /// Returns the sums over both sets of values together.
    ///
    /// Source: Chan, Golub and LeVeque, 1983, *Algorithms for Computing the Sample Variance*, equation 1.5.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        if self.count == 0.0 || other.count == 0.0 {
            return if self.count == 0.0 { other } else { self };
        }
        let count = self.count + other.count;
        let apart = other.mean() - self.mean();
        let between = apart * apart * (self.count * other.count / count);
        Self {
            count,
            sum: self.sum + other.sum,
            sum_of_squares: self.sum_of_squares + other.sum_of_squares,
            squared_deviations: self.squared_deviations + other.squared_deviations + between,
            abs_max: larger(self.abs_max, other.abs_max),
            non_finite: self.non_finite + other.non_finite,
        }
    }

    /// Returns the mean; NaN without values.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.sum / self.count
    }

    /// Returns the variance with `n - 1` in the denominator; 0 for a single value.
    #[must_use]
    pub fn variance(&self) -> f64 {
        self.squared_deviations / (self.count - 1.0).max(1.0)
    }
}

/// Returns the larger number, or NaN if one of them is NaN.
fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use proptest::prelude::*;

    fn of(values: &[f32]) -> Moments {
        let values = Tensor::from_floats(values, &Device::flex());
        Moments::of(&values).expect("they are in host memory")
    }

    fn is_about(found: f64, expected: f64, tolerance: f64) -> bool {
        (found - expected).abs() <= tolerance * expected.abs() || found == expected
    }

    /// Returns mean, variance and sum of squares, computed in two passes in double precision.
    fn by_hand(values: &[f32]) -> (f64, f64, f64) {
        let wide = || values.iter().map(|value| f64::from(*value));
        let (count, sum) = (values.len() as f64, wide().sum::<f64>());
        let mean = sum / count;
        let squares = wide().map(|value| (value - mean).powi(2)).sum::<f64>();
        (
            mean,
            squares / (count - 1.0).max(1.0),
            wide().map(|value| value * value).sum(),
        )
    }

    fn noise(count: usize) -> impl Iterator<Item = f32> {
        let next = |state: &u64| {
            Some(
                state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407),
            )
        };
        std::iter::successors(Some(7_u64), next)
            .map(|state| (state >> 40) as f32 / (1_u32 << 24) as f32 - 0.5)
            .take(count)
    }

    #[test]
    fn millions_of_values_lose_no_digits() {
        for (offset, tolerance) in [(0.0, 1e-6), (1.0, 1e-6), (1e3, 1e-6), (-3e4, 1e-4)] {
            let values: Vec<f32> = noise(5_000_000).map(|value| value + offset).collect();
            let (found, (mean, variance, squares)) = (of(&values), by_hand(&values));
            let size = f64::from(offset).abs().max(1.0);
            assert!(
                is_about(found.sum_of_squares, squares, 1e-6),
                "{offset}: {found:?}"
            );
            assert!(
                (found.mean() - mean).abs() < 1e-7 * size,
                "{offset}: {found:?}"
            );
            assert!(
                is_about(found.variance(), variance, tolerance),
                "{offset}: {found:?}"
            );
        }
    }

    #[test]
    fn equal_values_have_no_variance() {
        for value in [0.0, 1.0] {
            assert_eq!(of(&vec![value; 100_001]).variance(), 0.0, "{value}");
        }
    }

    #[test]
    fn no_value_and_one_value_have_burns_statistics() {
        let none = of(&[]);
        assert_eq!(
            (none.count, none.sum_of_squares, none.variance()),
            (0.0, 0.0, 0.0)
        );
        assert!(none.mean().is_nan());
        let one = of(&[-3.0]);
        assert_eq!(
            (one.mean(), one.variance(), one.sum_of_squares),
            (-3.0, 0.0, 9.0)
        );
    }

    #[test]
    fn non_finite_values_are_counted_and_change_the_sums() {
        for place in [0, 5, PIECE - 1, PIECE, 2 * PIECE + 3] {
            let mut values: Vec<f32> = noise(2 * PIECE + 4).collect();
            values[place] = f32::NEG_INFINITY;
            let found = of(&values);
            assert_eq!(found.non_finite, 1.0);
            assert_eq!(
                (found.mean(), found.sum_of_squares),
                (f64::NEG_INFINITY, f64::INFINITY)
            );
            assert!(found.variance().is_nan());

            values[place / 2] = f32::NAN;
            let expected = if place == 0 { 1.0 } else { 2.0 };
            let found = of(&values);
            assert_eq!(found.non_finite, expected);
            assert!(
                found.mean().is_nan() && found.sum_of_squares.is_nan() && found.variance().is_nan()
            );
        }
    }

    #[test]
    fn the_largest_finite_values_do_not_overflow() {
        let found = of(&[f32::MAX, f32::MIN, f32::MAX]);
        assert_eq!(found.non_finite, 0.0);
        assert!(is_about(
            found.sum_of_squares,
            3.0 * f64::from(f32::MAX).powi(2),
            1e-15
        ));
    }

    fn values() -> impl Strategy<Value = Vec<f32>> {
        prop::collection::vec(-1e3_f32..1e3, 1..200)
    }

    proptest! {
        #[test]
        fn sums_of_parts_combine_to_sums_of_all(values in values(), cut in 0_usize..200) {
            let (left, right) = values.split_at(cut.min(values.len()));
            let (parts, whole) = (of(left).and(of(right)), of(&values));
            let (size, squares) = (values.iter().map(|value| value.abs()).sum::<f32>(), whole.sum_of_squares);
            prop_assert_eq!(parts.count, whole.count);
            prop_assert!((parts.sum - whole.sum).abs() <= 1e-6 * f64::from(size));
            prop_assert!(is_about(parts.sum_of_squares, squares, 1e-6));
            prop_assert!((parts.squared_deviations - whole.squared_deviations).abs() <= 1e-6 * squares);
        }

        #[test]
        fn the_order_of_parts_does_not_matter(a in values(), b in values(), c in values()) {
            let [a, b, c] = [a, b, c].map(|values| of(&values));
            let (left, right) = (a.and(b).and(c), c.and(a.and(b)));
            prop_assert!(is_about(left.variance(), right.variance(), 1e-12));
            prop_assert!(is_about(left.sum_of_squares, right.sum_of_squares, 1e-12));
        }

        #[test]
        fn shift_changes_only_the_mean(
            values in prop::collection::vec(-512_i16..512, 1..200),
            shift in -64_i16..64,
        ) {
            // Single precision does not round sums of multiples of 1/64 of this size.
            let of_shifted = |shift: i16| -> Vec<f32> {
                values.iter().map(|value| f32::from(*value) / 64.0 + f32::from(shift)).collect()
            };
            let (from, to) = (of(&of_shifted(0)), of(&of_shifted(shift)));
            prop_assert!((to.mean() - from.mean() - f64::from(shift)).abs() < 1e-12);
            prop_assert!((to.variance() - from.variance()).abs() <= 1e-6 * from.variance() + 1e-9);
        }

        #[test]
        fn power_of_two_scales_bit_for_bit(values in values(), power in -8_i32..8) {
            let factor = f64::from(power).exp2();
            let scaled: Vec<f32> = values.iter().map(|value| value * factor as f32).collect();
            let (from, to) = (of(&values), of(&scaled));
            prop_assert_eq!(to.mean(), factor * from.mean());
            prop_assert_eq!(to.variance(), factor * factor * from.variance());
            prop_assert_eq!(to.sum_of_squares, factor * factor * from.sum_of_squares);
        }

        #[test]
        fn any_values_have_correct_counts_and_sums(
            values in prop::collection::vec(prop::num::f32::ANY, 1..50),
        ) {
            let (found, (mean, variance, squares)) = (of(&values), by_hand(&values));
            let broken = values.iter().filter(|value| !value.is_finite()).count();
            prop_assert_eq!(found.non_finite, broken as f64);
            let size = (squares / found.count).sqrt(); // scale of the rounding errors when values cancel
            for (found, expected, tolerance) in [
                (found.mean(), mean, 1e-6 * size),
                (found.variance(), variance, 1e-5 * variance),
                (found.sum_of_squares, squares, 1e-5 * squares),
            ] {
                let is_close = (found - expected).abs() <= tolerance + 1e-36; // smaller squares may underflow
                let is_same = found == expected || found.is_nan() && expected.is_nan();
                prop_assert!(is_same || is_close, "{} instead of {}", found, expected);
            }
        }
    }
}
