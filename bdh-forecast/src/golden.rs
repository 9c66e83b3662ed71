//! Reference numbers from SciPy and scikit-learn.

use serde::Deserialize;

/// Results of SciPy 1.17 and scikit-learn 1.9, written by `tests/judges/forecast_oracle.py`.
#[derive(Debug, Deserialize)]
pub(super) struct Golden {
    pub(super) rows: Vec<Vec<f64>>,
    pub(super) values: Vec<f64>,
    pub(super) new: Vec<f64>,
    pub(super) ranks: RanksGolden,
    pub(super) ridge: RidgeGolden,
    pub(super) process: ProcessGolden,
}

#[derive(Debug, Deserialize)]
pub(super) struct RanksGolden {
    pub(super) left: Vec<f64>,
    pub(super) right: Vec<f64>,
    pub(super) spearman: f64,
    pub(super) kendall: f64,
}

#[derive(Debug, Deserialize)]
pub(super) struct RidgeGolden {
    pub(super) weights: Vec<f64>,
    pub(super) value: f64,
    pub(super) residuals: Vec<f64>,
    pub(super) values_without_each: Vec<f64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ProcessGolden {
    pub(super) lengths: [f64; 2],
    pub(super) noise: f64,
    pub(super) mean: f64,
    pub(super) std: f64,
    pub(super) log_likelihood: f64,
}

impl Golden {
    pub(super) fn read() -> Self {
        let text = include_str!("../tests/judges/forecast_golden.json");
        serde_json::from_str(text).expect("the script writes these fields")
    }

    pub(super) fn rows(&self) -> Vec<&[f64]> {
        self.rows.iter().map(Vec::as_slice).collect()
    }
}

/// Whether both numbers agree to nine digits.
pub(super) fn agree(ours: f64, theirs: f64) -> bool {
    (ours - theirs).abs() <= 1e-9 * (1.0 + theirs.abs())
}
