//! How well an order is foretold. Less is better; ties share a rank.

/// Spearman's ρ of pairs, each as often as its weight says; `None` if one side does not vary.
///
/// Without weights, `spearman(&pairs, &[1; n])`; with those of a resample, its exact ρ without sorting again.
#[derive(Debug)]
pub(super) struct Ranking {
    /// Which pairs tie, in order, for each of the two sides.
    sides: [Vec<Vec<usize>>; 2],
}

impl Ranking {
    pub(super) fn of(pairs: &[(f64, f64)]) -> Self {
        let left: Vec<f64> = pairs.iter().map(|pair| pair.0).collect();
        let right: Vec<f64> = pairs.iter().map(|pair| pair.1).collect();
        Self {
            sides: [ties(&left), ties(&right)],
        }
    }

    /// Spearman's ρ of a sample that has each pair so many times; `None` if one side does not vary.
    pub(super) fn spearman(&self, times: &[u32]) -> Option<f64> {
        let total: f64 = times.iter().map(|times| f64::from(*times)).sum();
        let middle = f64::midpoint(1.0, total);
        let [left, right] = self.sides.each_ref().map(|groups| {
            let (mut ranks, mut below) = (vec![0.0; times.len()], 0.0);
            for group in groups {
                let size: f64 = group.iter().map(|index| f64::from(times[*index])).sum();
                let rank = below + f64::midpoint(1.0, size) - middle;
                for index in group {
                    ranks[*index] = rank;
                }
                below += size;
            }
            ranks
        });
        let product = |a: &[f64], b: &[f64]| -> f64 {
            a.iter()
                .zip(b)
                .zip(times)
                .map(|((a, b), times)| a * b * f64::from(*times))
                .sum()
        };
        let spread = (product(&left, &left) * product(&right, &right)).sqrt();
        (spread > 0.0).then(|| product(&left, &right) / spread)
    }
}

/// Numbers of values in rising order, those of equal values together.
fn ties(values: &[f64]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    order
        .chunk_by(|a, b| values[*a] == values[*b])
        .map(<[usize]>::to_vec)
        .collect()
}

/// Kendall's τ-b; `None` if one side does not vary.
pub(super) fn kendall(pairs: &[(f64, f64)]) -> Option<f64> {
    let (mut agree, mut left, mut right) = (0.0, 0.0, 0.0);
    for (index, a) in pairs.iter().enumerate() {
        for b in &pairs[..index] {
            let order = |x: f64, y: f64| f64::from(i8::from(x > y) - i8::from(x < y));
            let (x, y) = (order(a.0, b.0), order(a.1, b.1));
            agree += x * y;
            left += x * x;
            right += y * y;
        }
    }
    let spread = f64::sqrt(left * right);
    (spread > 0.0).then(|| agree / spread)
}

/// Numbers of the `k` least values; of equal ones the first.
pub(super) fn least(values: &[f64], k: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    order.truncate(k);
    order
}

#[cfg(test)]
mod tests {
    use super::super::golden::{Golden, agree};
    use super::*;

    #[test]
    fn rank_correlations_are_those_of_scipy_with_ties() {
        let theirs = Golden::read().ranks;
        let pairs: Vec<_> = theirs
            .left
            .iter()
            .copied()
            .zip(theirs.right.iter().copied())
            .collect();
        let spearman = Ranking::of(&pairs).spearman(&[1; 10]).expect("both vary");
        assert!(agree(spearman, theirs.spearman), "{spearman}");
        assert!(agree(kendall(&pairs).expect("both vary"), theirs.kendall));
    }

    #[test]
    fn a_resample_has_the_correlation_of_the_rows_written_out() {
        let pairs = [(3.0, 1.0), (1.0, 2.0), (2.0, 2.0), (5.0, 0.5), (4.0, 9.0)];
        let times = [2, 0, 3, 1, 1];
        let written: Vec<_> = pairs
            .iter()
            .zip(times)
            .flat_map(|(pair, times)| vec![*pair; times as usize])
            .collect();
        let whole = Ranking::of(&written).spearman(&[1; 7]).expect("both vary");
        let weighted = Ranking::of(&pairs).spearman(&times).expect("both vary");
        assert!(agree(weighted, whole), "{weighted} and {whole}");
        assert_eq!(
            Ranking::of(&pairs).spearman(&[0, 0, 5, 0, 0]),
            None,
            "one pair five times"
        );
        assert_eq!(kendall(&[(1.0, 1.0), (1.0, 2.0)]), None);
    }

    #[test]
    fn the_diverged_are_last_and_ties_go_by_their_place() {
        assert_eq!(least(&[2.0, f64::INFINITY, 1.0, 2.0], 3), [2, 0, 3]);
        let pairs = [(1.0, 1.0), (2.0, 2.0), (f64::INFINITY, f64::INFINITY)];
        assert_eq!(Ranking::of(&pairs).spearman(&[1; 3]), Some(1.0));
    }
}
