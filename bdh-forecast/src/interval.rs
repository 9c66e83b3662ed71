//! Between which values a run will end.

use serde::Serialize;

/// Where a value lies, with probability [`LEVEL`](Interval::LEVEL).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

impl Interval {
    /// How often intervals are meant to hold the truth. Not more, because 90 % take at least nine other runs to come
    /// by, and sweeps are small.
    pub const LEVEL: f64 = 0.8;

    /// Whether a value lies in it.
    #[must_use]
    pub fn holds(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }

    /// The jackknife+ interval. For each of the others: what is predicted without it, and by how much that misses it.
    ///
    /// Whatever the law of the values, it holds the truth in `2 * LEVEL - 1` of cases at least, and in `LEVEL` of them
    /// unless fits are unstable. `None` if the others are too few for that. Source: R. Barber et al., "Predictive
    /// inference with the jackknife+", 2021 (arXiv:1905.02928).
    pub(super) fn jackknife(without_each: &[(f64, f64)]) -> Option<Self> {
        let rank = ((1.0 - Self::LEVEL) * (without_each.len() + 1) as f64 + 1e-9) as usize;
        let below = rank.checked_sub(1)?;
        let sorted = |side: f64| {
            let mut ends: Vec<f64> = without_each
                .iter()
                .map(|(value, miss)| value + side * miss)
                .collect();
            ends.sort_by(f64::total_cmp);
            ends
        };
        let (lows, highs) = (sorted(-1.0), sorted(1.0));
        Some(Self {
            low: lows[below],
            high: highs[highs.len() - rank],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ⌊0.2 · 10⌋ = 2: the second lowest lower end, the second highest upper end.
    #[test]
    fn the_jackknife_counts_from_both_ends() {
        let others: Vec<_> = (1..=9).map(|miss| (10.0, f64::from(miss))).collect();
        assert_eq!(
            Interval::jackknife(&others),
            Some(Interval {
                low: 2.0,
                high: 18.0
            })
        );
        let least = Interval::jackknife(&others[..4]);
        assert_eq!(
            least,
            Some(Interval {
                low: 6.0,
                high: 14.0
            }),
            "the farthest of four"
        );
        assert_eq!(
            Interval::jackknife(&others[..3]),
            None,
            "three are too few for 80 %"
        );
    }
}
