//! Recorded runs, finished or in progress, read back from their directories: one row and one trajectory each.
//!
//! | type | contains |
//! |---|---|
//! | [`Run`] | a run's settings, records and end |
//! | [`Keys`] | the keys to read: the metric, the loss, the norms |
//! | [`Table`] | a comparison of runs: on the terminal, as CSV, as a page for a browser |
//!
//! ```no_run
//! use bdh_sweep::runs::{self, Keys, Table};
//!
//! let found = runs::read_all(["runs"], &Keys::new("val_bpb"));
//! let table = Table::of(&found.runs, &Keys::new("val_bpb"));
//! println!("{table}");
//! std::fs::write("runs.csv", table.csv())?;
//! # Ok::<(), std::io::Error>(())
//! ```

mod columns;
mod find;
mod lines;
mod page;
mod run;
mod table;
mod to_forecast;

pub use find::{Found, read_all};
pub use run::{Run, RunError, RunStatus, Series};
pub use table::{Row, Snapshot, Table, UnknownColumn};
pub use to_forecast::to_forecast;

use crate::goal::Goal;

/// Keys under which runs have recorded the values to compare.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Keys {
    /// Metric that runs are judged by, such as `val_bpb`.
    pub metric: String,
    /// Whether lower or higher values of the metric are better.
    pub goal: Goal,
    /// Training loss.
    pub loss: String,
    /// Learning rate.
    pub lr: String,
    /// L2 norm of the weights.
    pub weight_norm: String,
    /// L2 norm of the gradients.
    pub grad_norm: String,
    /// Floating-point operations so far.
    pub flops: String,
    /// Score of the finished model, such as CORE. A score over a part of the tasks has another key.
    pub core: String,
}

impl Keys {
    /// Returns the keys of this library's own callbacks, with a metric to minimize.
    #[must_use]
    pub fn new(metric: impl Into<String>) -> Self {
        Self {
            metric: metric.into(),
            goal: Goal::Minimize,
            loss: "train/loss".to_owned(),
            lr: "lr".to_owned(),
            weight_norm: "train/weight_norm".to_owned(),
            grad_norm: "train/grad_norm".to_owned(),
            flops: "train/flops".to_owned(),
            core: "core_metric".to_owned(),
        }
    }

    /// Returns all keys, the metric first.
    #[must_use]
    pub fn all(&self) -> [&str; 7] {
        [
            &self.metric,
            &self.loss,
            &self.lr,
            &self.weight_norm,
            &self.grad_norm,
            &self.flops,
            &self.core,
        ]
    }
}
