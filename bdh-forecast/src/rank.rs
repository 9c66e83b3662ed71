//! Rank correlations of predicted and true order. Lower is better; ties share a rank.

/// Tied groups of pairs, from which Spearman's ρ of any resample follows without sorting again.
#[derive(Debug)]
pub(super) struct Ranking {
    /// Indices of tied pairs, in increasing order, for each of the two sides.
    sides: [Vec<Vec<usize>>; 2],
}

impl Ranking {
    pub(super) fn of(pairs: &[(f64, f64)]) -> Self {
        let (left, right): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
        Self {
            sides: [ties(&left), ties(&right)],
        }
    }

    /// Returns Spearman's ρ of a sample that has pair `i` `times[i]` times; `None` if one side does not vary.
    pub(super) fn spearman(&self, times: &[u32]) -> Option<f64> {
        let [left, right] = [&self.sides[0], &self.sides[1]].map(|side| ranks(side, times));
        let product = |a: &[f64], b: &[f64]| {
            let mut sum = 0.0;
            for (index, times) in times.iter().enumerate() {
                sum += a[index] * b[index] * f64::from(*times);
            }
            sum
        };
        let spread = f64::sqrt(product(&left, &left) * product(&right, &right));
        (spread > 0.0).then(|| product(&left, &right) / spread)
    }
}

/// Returns the rank of each pair in a sample, less the mean rank.
fn ranks(groups: &[Vec<usize>], times: &[u32]) -> Vec<f64> {
    let total: f64 = times.iter().map(|times| f64::from(*times)).sum();
    let middle = f64::midpoint(1.0, total);
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
}

/// Returns the indices of values in increasing order, grouped by equal values.
fn ties(values: &[f64]) -> Vec<Vec<usize>> {
    order(values)
        .chunk_by(|a, b| values[*a] == values[*b])
        .map(<[usize]>::to_vec)
        .collect()
}

/// Returns the indices of values in increasing order.
fn order(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    order
}

/// Returns Kendall's τ-b; `None` if one side does not vary.
pub(super) fn kendall(pairs: &[(f64, f64)]) -> Option<f64> {
    let (mut agree, mut left, mut right) = (0.0, 0.0, 0.0);
    for (index, a) in pairs.iter().enumerate() {
        for b in &pairs[..index] {
            let (x, y) = (sign(a.0, b.0), sign(a.1, b.1));
            agree += x * y;
            left += x * x;
            right += y * y;
        }
    }
    let spread = f64::sqrt(left * right);
    (spread > 0.0).then(|| agree / spread)
}

/// Returns 1 if the first number is greater, -1 if it is less, 0 if both are equal.
fn sign(x: f64, y: f64) -> f64 {
    f64::from(i8::from(x > y) - i8::from(x < y))
}

/// Returns the indices of the `k` least values; of equal values the first ones.
pub(super) fn least(values: &[f64], k: usize) -> Vec<usize> {
    let mut least = order(values);
    least.truncate(k);
    least
}

#[cfg(test)]
mod tests {
    use super::super::golden::{Golden, agree};
    use super::*;

    #[test]
    fn rank_correlations_match_scipy_with_ties() {
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
    fn resample_has_the_correlation_of_its_repeated_rows() {
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
    fn diverged_runs_rank_last_and_ties_keep_their_order() {
        assert_eq!(least(&[2.0, f64::INFINITY, 1.0, 2.0], 3), [2, 0, 3]);
        let pairs = [(1.0, 1.0), (2.0, 2.0), (f64::INFINITY, f64::INFINITY)];
        assert_eq!(Ranking::of(&pairs).spearman(&[1; 3]), Some(1.0));
    }
}
