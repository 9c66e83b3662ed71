//! Standardization: features with mean 0 and variance 1.

/// The standardization of the training rows, applied to the rows to predict as well.
///
/// A feature that does not vary among the training rows is left out: nothing can be learned from it.
#[derive(Debug, Clone)]
pub(super) struct Scale {
    kept: Vec<Column>,
}

/// A feature that varies.
#[derive(Debug, Clone, Copy)]
struct Column {
    feature: usize,
    mean: f64,
    std: f64,
}

impl Scale {
    /// Standardizes rows of equal length.
    pub(super) fn of(rows: &[&[f64]]) -> Self {
        let features = rows.first().map_or(0, |row| row.len());
        let mut kept = Vec::with_capacity(features);
        for feature in 0..features {
            let column = Column::of(rows, feature);
            // Rounding alone leaves up to this much variation in a constant.
            if column.std > 1e-12 * column.mean.abs() {
                kept.push(column);
            }
        }
        Self { kept }
    }

    /// Number of features that vary.
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    /// Returns the standardized features of a row.
    pub(super) fn apply(&self, row: &[f64]) -> Vec<f64> {
        self.kept
            .iter()
            .map(|column| (row[column.feature] - column.mean) / column.std)
            .collect()
    }

    /// Returns the standardized features of several rows.
    pub(super) fn apply_all(&self, rows: &[&[f64]]) -> Vec<Vec<f64>> {
        rows.iter().map(|row| self.apply(row)).collect()
    }

    /// Number of the first `features` features that vary.
    pub(super) fn among(&self, features: usize) -> usize {
        // Columns are in the order of features.
        self.kept
            .partition_point(|column| column.feature < features)
    }
}

impl Column {
    fn of(rows: &[&[f64]], feature: usize) -> Self {
        let n = rows.len() as f64;
        let mut mean = 0.0;
        for row in rows {
            mean += row[feature];
        }
        mean /= n;
        let mut squares: f64 = 0.0;
        for row in rows {
            squares += (row[feature] - mean).powi(2);
        }
        Self {
            feature,
            mean,
            std: (squares / n).sqrt(),
        }
    }
}

/// Returns the mean of some values, and the values less their mean.
pub(super) fn centred(values: &[f64]) -> (f64, Vec<f64>) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    (mean, values.iter().map(|value| value - mean).collect())
}
