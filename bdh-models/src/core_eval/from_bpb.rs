//! Expected CORE of a validation loss.
//!
//! Bits per byte distinguish two models about thirty times as finely as CORE does, and much earlier in training. So
//! predict bits per byte from an early trajectory, and CORE from these.

use thiserror::Error;

/// Expected CORE at some bits per byte of nanochat's validation text, ClimbMix.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CoreFromBpb {
    /// Expected CORE.
    pub core: f64,
    /// Two standard deviations over seeds of one training. Smaller differences are noise.
    pub floor: f64,
}

/// Error of bits per byte outside the published range.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
#[error(
    "cannot predict CORE from {bpb} bits per byte: published pairs go from {best} to {worst}, for nanochat's models of \
     14 to 24 layers on ClimbMix; measure it with `core`"
)]
pub struct NoPrediction {
    /// Requested bits per byte.
    pub bpb: f64,
    /// Lowest published bits per byte.
    pub best: f64,
    /// Highest published bits per byte.
    pub worst: f64,
}

/// Published validation bits per byte and CORE, of several versions of nanochat.
const PUBLISHED: [(f64, f64); 5] = [
    (0.838, 0.159),       // 14 layers, by a contributor, March 2026
    (0.737_322, 0.238_9), // the mean of 20 runs that differ only in their seeds
    (0.718_54, 0.257_1),  // 24 layers, ratio 9.5
    (0.718_08, 0.269_0),  // 24 layers, ratio 8.7
    (0.718_00, 0.262_6),  // 24 layers, ratio 8
];

/// Twice the standard deviation of CORE over those 20 runs.
const FLOOR: f64 = 2.0 * 0.006_2;

/// Returns the expected CORE of a model with these bits per byte.
///
/// The value is on the least-squares line through the published pairs, which falls by about 0.9 for each bit per byte.
///
/// # Errors
///
/// [`NoPrediction`] outside the published range, because a line through five points does not extrapolate.
///
/// # Examples
///
/// ```
/// let expected = bdh_models::core_eval::core_from_bpb(0.75)?;
/// assert!((expected.core - 0.233).abs() < 0.002);
/// assert!(bdh_models::core_eval::core_from_bpb(2.8).is_err()); // a toy
/// # Ok::<(), bdh_models::core_eval::NoPrediction>(())
/// ```
pub fn core_from_bpb(bpb: f64) -> Result<CoreFromBpb, NoPrediction> {
    let bits = PUBLISHED.map(|(bpb, _)| bpb);
    let best = bits.into_iter().fold(f64::INFINITY, f64::min);
    let worst = bits.into_iter().fold(f64::NEG_INFINITY, f64::max);
    if !(best..=worst).contains(&bpb) {
        return Err(NoPrediction { bpb, best, worst });
    }
    let line = least_squares();
    Ok(CoreFromBpb {
        core: line.mean_core + line.slope * (bpb - line.mean_bpb),
        floor: FLOOR,
    })
}

/// Straight line through the mean of the published pairs.
struct Line {
    mean_bpb: f64,
    mean_core: f64,
    slope: f64,
}

/// Fits a line to the published pairs by least squares.
fn least_squares() -> Line {
    let count = PUBLISHED.len() as f64;
    let mean_bpb = PUBLISHED.iter().map(|(bpb, _)| bpb).sum::<f64>() / count;
    let mean_core = PUBLISHED.iter().map(|(_, core)| core).sum::<f64>() / count;
    let (mut covariance, mut variance) = (0.0, 0.0);
    for (bpb, core) in PUBLISHED {
        covariance += (bpb - mean_bpb) * (core - mean_core);
        variance += (bpb - mean_bpb).powi(2);
    }
    Line {
        mean_bpb,
        mean_core,
        slope: covariance / variance,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_published_pair_is_near_the_line() {
        for (bpb, core) in PUBLISHED {
            let expected = core_from_bpb(bpb).expect("it was published");
            assert!(
                (expected.core - core).abs() < expected.floor,
                "{bpb}: {}",
                expected.core
            );
        }
    }

    #[test]
    fn core_falls_by_about_nine_tenths_per_bit_per_byte() {
        let slope = least_squares().slope;
        assert!((-1.0..-0.8).contains(&slope), "{slope}");
        let at = |bpb| core_from_bpb(bpb).expect("within what was published").core;
        assert!(at(0.72) > at(0.75) && at(0.75) > at(0.8));
    }

    #[test]
    fn nothing_is_predicted_outside_the_published_range() {
        for bpb in [0.6, 0.717, 0.84, 2.8, f64::NAN, f64::INFINITY] {
            assert!(core_from_bpb(bpb).is_err(), "{bpb}");
        }
        let error = core_from_bpb(2.8).expect_err("a toy").to_string();
        assert!(
            error.contains("2.8 bits per byte: published pairs go from 0.718 to 0.838"),
            "{error}"
        );
    }
}
