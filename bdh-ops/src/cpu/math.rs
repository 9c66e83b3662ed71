//! Functions of one `f32` without branches and tables, so that the compiler can vectorize loops over them, and sums
//! over slices in several lanes.
//!
//! Each function is within a few units in the last place of the exact value (the tests cover the range of `f32`),
//! returns NaN for NaN, and gives the same result on every machine with fused multiply-add.

use std::f32::consts::LOG2_E;

/// Smallest argument of [`exp`] whose result is a normal number. Below it the result is 0.
const UNDERFLOW: f32 = -87.336_54;
/// Largest argument of [`exp`] with a finite result.
const OVERFLOW: f32 = 88.722_83;

/// Computes `e^x`.
///
/// The result is `2^n · e^r`, with `r` at most half of `ln 2` and its exponential from a polynomial of the Cephes
/// library.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // The last bits of a sum with this number are a whole number.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4; // few digits, so that its products are exact
    const LN_2_LOW: f32 = -2.121_944_4e-4; // the rest
    let bounded = if x > OVERFLOW { OVERFLOW } else { x };
    let bounded = if bounded < UNDERFLOW {
        UNDERFLOW
    } else {
        bounded
    };
    let shifted = bounded.mul_add(LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN_2_LOW, n.mul_add(-LN_2_HIGH, bounded));
    let p = 1.987_569_1e-4_f32;
    let p = p.mul_add(r, 1.398_2e-3);
    let p = p.mul_add(r, 8.333_452e-3);
    let p = p.mul_add(r, 4.166_579_6e-2);
    let p = p.mul_add(r, 1.666_666_5e-1);
    let p = p.mul_add(r, 0.5);
    let p = p.mul_add(r * r, r) + 1.0;
    // Two factors, because 2^128 is not an `f32`, while its product with `p` may be one. Wrapping arithmetic, because
    // an overflow check would branch.
    let whole = shifted
        .to_bits()
        .wrapping_sub(ROUND.to_bits())
        .cast_signed();
    let half = whole >> 1;
    let power = |n: i32| f32::from_bits((n.wrapping_add(127) << 23).cast_unsigned());
    let result = p * power(half) * power(whole.wrapping_sub(half));
    let result = if x < UNDERFLOW { 0.0 } else { result };
    if x > OVERFLOW { f32::INFINITY } else { result }
}

/// Computes `1 / (1 + e^-x)`.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Computes the hyperbolic tangent, near 0 with an odd polynomial of Cephes because the exponentials would cancel.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    let size = x.abs();
    let z = x * x;
    let p = -5.704_988_7e-3_f32;
    let p = p.mul_add(z, 2.063_909e-2);
    let p = p.mul_add(z, -5.373_971_6e-2);
    let p = p.mul_add(z, 1.333_144_2e-1);
    let p = p.mul_add(z, -3.333_328e-1);
    let near = (p * z).mul_add(x, x);
    let far = (1.0 - 2.0 / (exp(2.0 * size) + 1.0)).copysign(x);
    if size < 0.625 { near } else { far }
}

/// Computes the error function with the rational function of XLA and Eigen. Beyond ±4 the result is ±1.
#[inline(always)]
pub(crate) fn erf(x: f32) -> f32 {
    let bounded = if x > 4.0 { 4.0 } else { x };
    let bounded = if bounded < -4.0 { -4.0 } else { bounded };
    let z = bounded * bounded;
    let p = -2.726_142_3e-10_f32;
    let p = p.mul_add(z, 2.770_681_4e-8);
    let p = p.mul_add(z, -2.101_024e-6);
    let p = p.mul_add(z, -5.692_506_5e-5);
    let p = p.mul_add(z, -7.349_906_3e-4);
    let p = p.mul_add(z, -2.954_6e-3);
    let p = p.mul_add(z, -1.609_603_3e-2);
    let q = -1.456_607_2e-5_f32;
    let q = q.mul_add(z, -2.133_740_6e-4);
    let q = q.mul_add(z, -1.682_827e-3);
    let q = q.mul_add(z, -7.373_329_2e-3);
    let q = q.mul_add(z, -1.426_473_9e-2);
    bounded * (p / q) // in this order, because `bounded * p` would underflow for small numbers
}

/// Number of lanes of a sum: two of the widest registers, so that additions do not wait for each other.
pub(crate) const LANES: usize = 32;

/// Sums `term` over one slice.
#[inline(always)]
pub(crate) fn sum(values: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] += term(chunk[lane]);
        }
    }
    rest.iter()
        .fold(fold(lanes), |sum, value| sum + term(*value))
}

/// Sums `term` over two slices of equal length.
#[inline(always)]
pub(crate) fn sum_of_pairs(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut lanes = [0.0; LANES];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            lanes[lane] += term(a[lane], b[lane]);
        }
    }
    a_rest
        .iter()
        .zip(b_rest)
        .fold(fold(lanes), |sum, (a, b)| sum + term(*a, *b))
}

/// Returns the largest value, or minus infinity without values.
#[inline(always)]
pub(crate) fn max(values: &[f32]) -> f32 {
    max_of(values, |value| value)
}

/// Returns the largest `term` of the values, or minus infinity without values.
#[inline(always)]
pub(crate) fn max_of(values: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] = larger(lanes[lane], term(chunk[lane]));
        }
    }
    let mut largest = f32::NEG_INFINITY;
    for lane in lanes {
        largest = larger(largest, lane);
    }
    for value in rest {
        largest = larger(largest, term(*value));
    }
    largest
}

/// Sums all lanes, in loops of constant length so that the lanes stay in registers.
#[inline(always)]
fn fold(lanes: [f32; LANES]) -> f32 {
    let (mut eight, mut two) = ([0.0; 8], [0.0; 2]);
    for lane in 0..8 {
        eight[lane] = (lanes[lane] + lanes[lane + 8]) + (lanes[lane + 16] + lanes[lane + 24]);
    }
    for lane in 0..2 {
        two[lane] = (eight[lane] + eight[lane + 2]) + (eight[lane + 4] + eight[lane + 6]);
    }
    two[0] + two[1]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns every 9,973rd of all `f32`, and special values.
    fn all() -> impl Iterator<Item = f32> {
        let special = [
            0.0,
            -0.0,
            0.625,
            4.0,
            -4.0,
            UNDERFLOW,
            OVERFLOW,
            f32::INFINITY,
        ];
        (0..=u32::MAX)
            .step_by(9_973)
            .map(f32::from_bits)
            .chain(special)
    }

    /// Returns the largest error of `found` in units in the last place, and its argument.
    fn worst(found: fn(f32) -> f32, expected: fn(f64) -> f64) -> (f64, f32) {
        let mut worst = (0.0, 0.0);
        for x in all().filter(|x| !x.is_nan()) {
            let (found, expected) = (f64::from(found(x)), expected(f64::from(x)));
            let rounded = expected as f32;
            if rounded.is_infinite() || rounded.abs() < f32::MIN_POSITIVE {
                let is_close =
                    (found - f64::from(rounded)).abs() <= 2.0 * f64::from(f32::MIN_POSITIVE);
                assert!(found == f64::from(rounded) || is_close, "{x}: {found}");
                continue;
            }
            let unit =
                f64::from(f32::from_bits(rounded.abs().to_bits() + 1)) - f64::from(rounded.abs());
            let error = (found - expected).abs() / unit;
            if error > worst.0 {
                worst = (error, x);
            }
        }
        worst
    }

    #[test]
    fn exponential_is_within_two_units_in_the_last_place() {
        let (error, x) = worst(exp, f64::exp);
        assert!(error < 2.0, "{error} at {x}");
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(
            (exp(f32::NEG_INFINITY), exp(f32::INFINITY)),
            (0.0, f32::INFINITY)
        );
    }

    #[test]
    fn tanh_and_sigmoid_are_within_four_units_in_the_last_place() {
        let (error, x) = worst(tanh, f64::tanh);
        assert!(error < 3.0, "{error} at {x}");
        let (error, x) = worst(sigmoid, |x| 1.0 / (1.0 + (-x).exp()));
        assert!(error < 4.0, "{error} at {x}");
    }

    #[test]
    fn error_function_is_within_five_units_in_the_last_place() {
        let (error, x) = worst(erf, statrs::function::erf::erf);
        assert!(error < 5.0, "{error} at {x}");
    }

    #[test]
    fn functions_of_nan_are_nan() {
        for function in [exp, sigmoid, tanh, erf] {
            assert!(function(f32::NAN).is_nan());
        }
    }

    #[test]
    fn sums_and_maxima_use_every_element() {
        for len in [0, 1, 31, 32, 33, 100] {
            let values: Vec<f32> = (0..len).map(|k| (k * 7 % 13) as f32).collect();
            let expected: f32 = values.iter().sum();
            assert_eq!(sum(&values, |x| x), expected);
            let expected: f32 = values.iter().map(|x| x * x).sum();
            assert_eq!(sum_of_pairs(&values, &values, |a, b| a * b), expected);
            assert_eq!(
                max(&values),
                values.iter().copied().fold(f32::NEG_INFINITY, f32::max)
            );
        }
    }
}
