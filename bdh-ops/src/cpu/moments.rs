//! Kernel of sums over pieces of a slice.

use super::array::Array;
use super::math::{max_of, sum};
use super::tape::plain;
use super::threads::on_tasks;
use crate::moments::{Moments, PIECE};
use burn::backend::DispatchTensor;

pub(crate) fn moments(values: DispatchTensor) -> Moments {
    let values = Array::new(plain(values));
    let values = values.values();
    let pieces = on_tasks(
        values.len().div_ceil(PIECE),
        #[inline(always)]
        |piece| of_piece(&values[piece * PIECE..values.len().min((piece + 1) * PIECE)]),
    );
    pieces.into_iter().fold(Moments::default(), Moments::and)
}

#[inline(always)]
fn of_piece(values: &[f32]) -> Moments {
    let total = f64::from(sum(values, |value| value));
    let mean = (total / values.len() as f64) as f32;
    let squared_deviations = f64::from(sum(values, |value| (value - mean) * (value - mean)));
    if !squared_deviations.is_finite() {
        return Moments::of_extremes(values);
    }
    let abs_max = max_of(values, f32::abs);
    // The deviations are from the rounded mean, so its error is corrected.
    let rest = total - values.len() as f64 * f64::from(mean);
    let squared_deviations = squared_deviations - rest * rest / values.len() as f64;
    Moments::of_sums(values.len(), total, squared_deviations.max(0.0), abs_max)
}
