//! Prediction intervals.

use serde::Serialize;

/// A range that contains a run's end with probability [`LEVEL`](Interval::LEVEL).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// Share of intervals that should contain the true end.
    ///
    /// Not higher, because a 90 % interval needs at least nine other runs, and sweeps are small.
    pub const LEVEL: f64 = 0.8;

    /// Whether the interval contains a value.
    #[must_use]
    pub fn holds(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }

    /// Returns the jackknife+ interval; `None` if there are too few runs for one.
    ///
    /// `without_each` has, for each run that was learned from, the prediction of a fit without it and the absolute
    /// error of that fit on it. For any distribution of the values, the interval contains the true end in at least `2 *
    /// LEVEL - 1` of cases, and in `LEVEL` of cases unless fits are unstable. Source: R. Barber et al., "Predictive
    /// inference with the jackknife+", 2021 (arXiv:1905.02928).
    pub(super) fn jackknife(without_each: &[(f64, f64)]) -> Option<Self> {
        // The 1e-9 keeps rounding from lowering a rank that is a whole number.
        let rank = ((1.0 - Self::LEVEL) * (without_each.len() + 1) as f64 + 1e-9) as usize;
        let below = rank.checked_sub(1)?;
        let lows = sorted(without_each.iter().map(|(value, miss)| value - miss));
        let highs = sorted(without_each.iter().map(|(value, miss)| value + miss));
        Some(Self {
            low: lows[below],
            high: highs[highs.len() - rank],
        })
    }

    /// Returns the jackknife+ interval of a prediction that does not depend on the runs with these absolute errors.
    pub(super) fn around(value: f64, misses: &[f64]) -> Option<Self> {
        let without_each: Vec<_> = misses.iter().map(|miss| (value, *miss)).collect();
        Self::jackknife(&without_each)
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
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
