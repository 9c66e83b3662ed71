//! Features with mean 0 and variance 1.

/// How the rows that are fitted are standardized, and then those that are predicted.
///
/// A feature that does not vary among the fitted rows is left out: nothing is to be learned from it.
#[derive(Debug, Clone)]
pub(super) struct Scale {
    /// Feature, mean and standard deviation, of those that vary.
    kept: Vec<(usize, f64, f64)>,
}

impl Scale {
    /// Of rows of one length.
    pub(super) fn of(rows: &[&[f64]]) -> Self {
        let n = rows.len() as f64;
        let features = rows.first().map_or(0, |row| row.len());
        let kept = (0..features).filter_map(|feature| {
            let column = || rows.iter().map(|row| row[feature]);
            let mean = column().sum::<f64>() / n;
            let std = (column().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
            // Rounding alone leaves that much of a constant.
            (std > 1e-12 * mean.abs()).then_some((feature, mean, std))
        });
        Self {
            kept: kept.collect(),
        }
    }

    /// How many features vary.
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    pub(super) fn apply(&self, row: &[f64]) -> Vec<f64> {
        self.kept
            .iter()
            .map(|(feature, mean, std)| (row[*feature] - mean) / std)
            .collect()
    }

    /// How many of the first `features` vary.
    pub(super) fn among(&self, features: usize) -> usize {
        self.kept
            .iter()
            .filter(|(feature, ..)| *feature < features)
            .count()
    }
}
