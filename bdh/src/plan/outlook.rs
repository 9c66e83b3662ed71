//! Preview of a run, for the checks that callbacks make before it begins.

use super::{Plan, PlanRow};
use crate::cadence::Cadence;
use crate::failure::BoxError;
use crate::hook::Hooks;
use std::cell::{OnceCell, RefCell};
use std::fmt;

/// Names of an eval's metrics, found lazily: without [`Task::metrics`](crate::Task::metrics) it takes an eval of one
/// batch.
pub(crate) struct Metrics<'a> {
    find: &'a dyn Fn() -> Vec<String>,
    found: OnceCell<Vec<String>>,
}

impl<'a> Metrics<'a> {
    pub(crate) fn new(find: &'a dyn Fn() -> Vec<String>) -> Self {
        Self {
            find,
            found: OnceCell::new(),
        }
    }

    pub(super) fn names(&self) -> &[String] {
        self.found.get_or_init(self.find)
    }
}

/// Preview of the planned run, for [`Callback::check`](crate::Callback::check).
pub struct Outlook<'a> {
    pub(crate) plan: &'a Plan,
    /// Index of the callback's row in the plan.
    pub(crate) row: usize,
    pub(crate) has_run_dir: bool,
    pub(crate) metrics: &'a Metrics<'a>,
    pub(crate) notes: RefCell<Vec<String>>,
}

impl fmt::Debug for Outlook<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlook")
            .field("plan", &self.plan)
            .field("has_run_dir", &self.has_run_dir)
            .finish_non_exhaustive()
    }
}

impl Outlook<'_> {
    /// Returns the plan of the run. Its notes are not complete yet.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        self.plan
    }

    /// Whether the run has a run directory. Without one it saves nothing.
    #[must_use]
    pub fn has_run_dir(&self) -> bool {
        self.has_run_dir
    }

    /// Returns the number of evals by the run's cadence; `None` if the steps are
    /// [not known](super::PlanRow::firings) before the run.
    #[must_use]
    pub fn evals(&self) -> Option<usize> {
        for row in &self.plan.rows {
            let is_eval = row.hooks == Hooks::NONE && row.name == "eval";
            if is_eval && row.cadence != Cadence::Never {
                return row.firings.as_ref().map(Vec::len);
            }
        }
        Some(0)
    }

    /// Checks that the evals of the run will have a metric of this name.
    ///
    /// A metric comes from the [task](crate::Task::metrics), or from a callback that records the key `val/<name>`. That
    /// callback must be added before this one, because callbacks are called in the order in which they were added.
    ///
    /// # Errors
    ///
    /// If the run has no such metric (the text lists the metrics it has), or a later callback records it.
    pub fn check_metric(&self, name: &str) -> Result<(), BoxError> {
        let (earlier, later) = self.plan.rows.split_at(self.row + 1);
        let known = self.known_metrics(earlier);
        if known.iter().any(|known| known == name) {
            return Ok(());
        }
        for row in later {
            if self.recorded(row).iter().any(|known| known == name) {
                let later = &row.name;
                let text = format!("callback `{later}` records {name:?}: add it before this one");
                return Err(text.into());
            }
        }
        let known = known.join(", ");
        Err(format!("unknown metric {name:?}: this run evaluates {known}").into())
    }

    /// Returns the metrics of the task and of some callbacks.
    fn known_metrics(&self, rows: &[PlanRow]) -> Vec<String> {
        let mut known = self.metrics.names().to_vec();
        for row in rows {
            known.extend(self.recorded(row));
        }
        known
    }

    /// Adds a note to the plan about something that the callback cannot do in this run.
    ///
    /// The text continues the callback's name, such as `saves nothing: this run has no run_dir`.
    pub fn note(&self, text: impl Into<String>) {
        self.notes.borrow_mut().push(text.into());
    }

    /// Returns the metrics that a callback records; `*` in a key stands for each of the task's metrics.
    fn recorded(&self, row: &PlanRow) -> Vec<String> {
        let mut recorded = Vec::new();
        if row.hooks == Hooks::NONE {
            return recorded; // a part of the trainer: its metrics are the task's
        }
        for key in &row.keys {
            let Some(name) = key.strip_prefix("val/") else {
                continue;
            };
            if !name.contains('*') {
                recorded.push(name.to_owned());
                continue;
            }
            for metric in self.metrics.names() {
                recorded.push(name.replace('*', metric));
            }
        }
        recorded
    }
}
