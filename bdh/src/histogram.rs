//! Histograms of values on the host.

/// Values that a loop handles together, so that the compiler can use vector instructions.
const LANES: usize = 16;

/// Counts of values in bins.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Histogram {
    /// Edges of the bins, ascending; one more than there are counts.
    pub edges: Vec<f64>,
    /// Number of values in each bin, from its lower edge up to the next; the last bin includes its upper edge.
    pub counts: Vec<u64>,
    /// Number of values that are NaN or infinite, and so in no bin.
    pub non_finite: u64,
}

impl Histogram {
    /// Counts `values` into `bins` bins of equal width, from the least finite value to the greatest.
    ///
    /// Equal values are all counted in the last of `bins` bins of width 0; without a finite value all edges and
    /// counts are 0. `bins` is at least 1. Takes two passes, without a copy. Source: `tf.summary.histogram` of
    /// TensorFlow 2.8 and later.
    ///
    /// # Examples
    ///
    /// ```
    /// let histogram = bdh::stats::Histogram::of(&[0.0, 0.5, 0.9, 2.0, f32::NAN], 2);
    /// assert_eq!(histogram.edges, [0.0, 1.0, 2.0]);
    /// assert_eq!(histogram.counts, [3, 1]);
    /// assert_eq!(histogram.non_finite, 1);
    /// ```
    #[must_use]
    pub fn of(values: &[f32], bins: usize) -> Self {
        let bins = bins.max(1);
        let Some((low, high)) = extent(values) else {
            return Self {
                edges: vec![0.0; bins + 1],
                counts: vec![0; bins],
                non_finite: values.len() as u64,
            };
        };
        let mut counts = count(values, bins, low, (high - low) / bins as f64);
        let non_finite = counts.pop().unwrap_or(0);
        Self {
            edges: edges(low, high, bins),
            counts,
            non_finite,
        }
    }
}

/// Returns the edges of `bins` bins of equal width.
pub(crate) fn edges(low: f64, high: f64, bins: usize) -> Vec<f64> {
    let width = (high - low) / bins as f64;
    let mut edges: Vec<_> = (0..=bins).map(|edge| low + edge as f64 * width).collect();
    edges[bins] = high; // the sum may miss it by a rounding error
    edges
}

/// Returns the least and the greatest finite value.
fn extent(values: &[f32]) -> Option<(f64, f64)> {
    let mut low = [f32::INFINITY; LANES];
    let mut high = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut last = [f32::NAN; LANES];
    last[..rest.len()].copy_from_slice(rest);
    for chunk in chunks.iter().chain([&last]) {
        for lane in 0..LANES {
            let value = if chunk[lane].is_finite() {
                chunk[lane]
            } else {
                f32::NAN
            };
            // A comparison with NaN is false. Unlike `f32::min`, this form becomes a vector instruction.
            low[lane] = if value < low[lane] { value } else { low[lane] };
            high[lane] = if value > high[lane] {
                value
            } else {
                high[lane]
            };
        }
    }
    let low = low.into_iter().fold(f32::INFINITY, f32::min);
    let high = high.into_iter().fold(f32::NEG_INFINITY, f32::max);
    (low <= high).then_some((low.into(), high.into()))
}

/// Counts the values of each bin; the last count is of values that are not finite.
fn count(values: &[f32], bins: usize, low: f64, width: f64) -> Vec<u64> {
    let mut counts = vec![0; bins + 1];
    let last = (bins - 1) as f64;
    for chunk in values.chunks(LANES) {
        let mut places = [0; LANES];
        for (place, value) in places.iter_mut().zip(chunk) {
            // Equal values give 0 / 0, which is NaN; `min` returns `last` for it.
            let bin = ((f64::from(*value) - low) / width).min(last);
            *place = if value.is_finite() {
                bin as u32
            } else {
                bins as u32
            };
        }
        for place in &places[..chunk.len()] {
            counts[*place as usize] += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(values: &[f32], bins: usize) -> (Vec<f64>, Vec<u64>, u64) {
        let histogram = Histogram::of(values, bins);
        (histogram.edges, histogram.counts, histogram.non_finite)
    }

    #[test]
    fn values_on_an_edge_are_counted_in_the_bin_above() {
        let values = [0.0, 1.0, 1.5, 2.0, 3.0, 4.0];
        assert_eq!(
            counts(&values, 4),
            (vec![0.0, 1.0, 2.0, 3.0, 4.0], vec![1, 2, 1, 2], 0)
        );
        assert_eq!(counts(&values, 0), (vec![0.0, 4.0], vec![6], 0));
    }

    #[test]
    fn equal_values_are_counted_in_the_last_bin() {
        assert_eq!(counts(&[-2.5; 40], 3), (vec![-2.5; 4], vec![0, 0, 40], 0));
        assert_eq!(counts(&[], 3), (vec![0.0; 4], vec![0; 3], 0));
    }

    #[test]
    fn non_finite_values_are_counted_separately() {
        let bad = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
        assert_eq!(counts(&bad, 2), (vec![0.0; 3], vec![0; 2], 3));
        for len in 0..40_usize {
            for place in 0..=len {
                let mut values: Vec<f32> = (0..len).map(|value| value as f32).collect();
                values.splice(place..place, bad);
                let (edges, counts, non_finite) = counts(&values, 5);
                assert_eq!((counts.iter().sum::<u64>(), non_finite), (len as u64, 3));
                assert_eq!(edges.last(), Some(&(len.saturating_sub(1) as f64)));
            }
        }
    }

    #[test]
    fn the_whole_range_of_f32_fits() {
        let (edges, counts, non_finite) = counts(&[f32::MIN, 0.0, f32::MAX], 2);
        assert_eq!(edges, [f64::from(f32::MIN), 0.0, f64::from(f32::MAX)]);
        assert_eq!((counts, non_finite), (vec![1, 2], 0));
        let tiny = f32::from_bits(1);
        assert_eq!(self::counts(&[0.0, tiny, 2.0 * tiny], 2).1, [1, 2]);
    }
}
