//! What CORE to expect of a validation loss.
//!
//! Bits per byte tell two models apart some thirty times as finely as CORE does, and much earlier. So an early
//! trajectory should foretell bits per byte, and CORE should be read off those.

use thiserror::Error;

/// CORE at some bits per byte of nanochat's validation text, ClimbMix.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CoreFromBpb {
    /// What is expected.
    pub core: f64,
    /// Two standard deviations of the same training with other seeds: a difference below it says nothing.
    pub floor: f64,
}

/// Bits per byte of which no CORE can be foretold.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
#[error(
    "no CORE can be foretold of {bpb} bits per byte: it is known from {best} to {worst}, of nanochat's models of 14 to \
     24 layers on ClimbMix; measure it with `core`"
)]
pub struct NoForecast {
    /// What was asked.
    pub bpb: f64,
    /// The lowest bits per byte with a known CORE.
    pub best: f64,
    /// The highest.
    pub worst: f64,
}

/// Published validation bits per byte and CORE, of several versions of nanochat.
const PUBLISHED: [(f64, f64); 5] = [
    (0.838, 0.159),       // 14 layers, by a contributor, March 2026
    (0.737_322, 0.238_9), // the mean of 20 runs that differ in nothing but chance
    (0.718_54, 0.257_1),  // 24 layers, ratio 9.5
    (0.718_08, 0.269_0),  // 24 layers, ratio 8.7
    (0.718_00, 0.262_6),  // 24 layers, ratio 8
];

/// Twice the standard deviation of CORE over those 20 runs.
const FLOOR: f64 = 2.0 * 0.006_2;

/// The CORE to expect of a model with these bits per byte: on the straight line that fits the published ones best, which
/// falls by about 0.9 for each bit per byte.
///
/// # Errors
///
/// [`NoForecast`] outside of what was published: a line through five points knows nothing beyond them.
///
/// # Examples
///
/// ```
/// let expected = bdh_models::core_eval::core_from_bpb(0.75)?;
/// assert!((expected.core - 0.233).abs() < 0.002);
/// assert!(bdh_models::core_eval::core_from_bpb(2.8).is_err()); // a toy
/// # Ok::<(), bdh_models::core_eval::NoForecast>(())
/// ```
pub fn core_from_bpb(bpb: f64) -> Result<CoreFromBpb, NoForecast> {
    let bits = PUBLISHED.map(|(bpb, _)| bpb);
    let best = bits.into_iter().fold(f64::INFINITY, f64::min);
    let worst = bits.into_iter().fold(f64::NEG_INFINITY, f64::max);
    if !(best..=worst).contains(&bpb) {
        return Err(NoForecast { bpb, best, worst });
    }
    let (mean_bpb, mean_core, slope) = line();
    Ok(CoreFromBpb {
        core: mean_core + slope * (bpb - mean_bpb),
        floor: FLOOR,
    })
}

/// Least squares: the middle of the points, and the slope through it.
fn line() -> (f64, f64, f64) {
    let count = PUBLISHED.len() as f64;
    let mean_bpb = PUBLISHED.iter().map(|(bpb, _)| bpb).sum::<f64>() / count;
    let mean_core = PUBLISHED.iter().map(|(_, core)| core).sum::<f64>() / count;
    let product = |(bpb, core): &(f64, f64)| (bpb - mean_bpb) * (core - mean_core);
    let covariance: f64 = PUBLISHED.iter().map(product).sum();
    let variance: f64 = PUBLISHED
        .iter()
        .map(|(bpb, _)| (bpb - mean_bpb).powi(2))
        .sum();
    (mean_bpb, mean_core, covariance / variance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_published_pair_is_within_the_floor_of_the_line() {
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
    fn core_falls_by_about_nine_tenths_for_each_bit_per_byte() {
        let (.., slope) = line();
        assert!((-1.0..-0.8).contains(&slope), "{slope}");
        let at = |bpb| core_from_bpb(bpb).expect("within what was published").core;
        assert!(at(0.72) > at(0.75) && at(0.75) > at(0.8));
    }

    #[test]
    fn nothing_is_foretold_beyond_what_was_published() {
        for bpb in [0.6, 0.717, 0.84, 2.8, f64::NAN, f64::INFINITY] {
            assert!(core_from_bpb(bpb).is_err(), "{bpb}");
        }
        let told = core_from_bpb(2.8).expect_err("a toy").to_string();
        assert!(
            told.contains("2.8 bits per byte: it is known from 0.718 to 0.838"),
            "{told}"
        );
    }
}
