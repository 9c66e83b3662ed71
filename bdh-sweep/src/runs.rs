//! Runs that are over, or still under way, read back from their directories: one row and one trajectory each.
//!
//! | type | has |
//! |---|---|
//! | [`Run`] | what a run was, what it recorded, how it ended |
//! | [`Keys`] | the names of what is read: the metric, the loss, the norms |
//! | [`Table`] | many runs side by side: on the terminal, as CSV, as a page for a browser |
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
pub use table::{Row, Snapshot, Table};
pub use to_forecast::to_forecast;

use crate::goal::Goal;

/// The names under which runs have recorded what is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Keys {
    /// What runs are judged by, such as `val_bpb`.
    pub metric: String,
    /// Whether less or more of it is better.
    pub goal: Goal,
    /// The training loss.
    pub loss: String,
    /// The learning rate.
    pub lr: String,
    /// The L2 norm of the weights.
    pub weight_norm: String,
    /// The L2 norm of the gradients.
    pub grad_norm: String,
    /// Floating-point operations so far.
    pub flops: String,
    /// A score of the finished model, such as CORE. One over a part of its tasks has another name, and is not taken for it.
    pub core: String,
}

impl Keys {
    /// The names that this library's own callbacks record under, with this metric, of which less is better.
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

    /// All of them, the metric first.
    #[must_use]
    pub fn all(&self) -> [&str; 7] {
        let Self {
            metric,
            loss,
            lr,
            weight_norm,
            grad_norm,
            flops,
            core,
            ..
        } = self;
        [metric, loss, lr, weight_norm, grad_norm, flops, core].map(String::as_str)
    }
}
