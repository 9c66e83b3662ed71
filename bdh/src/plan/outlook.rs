//! Preview of a run, for the checks that callbacks make before it begins.

use super::{Plan, PlanRow};
use crate::cadence::Cadence;
use crate::failure::BoxError;
use crate::hook::Hooks;
use std::cell::{OnceCell, RefCell};
use std::fmt;

/// Beginning of a key that a callback records for every eval set, such as `*/ema_*`.
pub(super) const ANY_SET: &str = "*/";

/// Keys of the metrics of all eval sets, such as `val/loss`, found lazily: without
/// [`Task::metric_names`](crate::Task::metric_names) it takes an eval of one batch of each set.
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

    pub(super) fn keys(&self) -> &[String] {
        self.found.get_or_init(self.find)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.keys().iter().any(|known| known == key)
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
        match self.row_of("eval") {
            Some(row) if row.cadence != Cadence::Never => row.firings.as_ref().map(Vec::len),
            _ => Some(0),
        }
    }

    /// Returns the number of evals of a metric's set, such as `val/loss`, or `loss` of the first eval set; `None` if the
    /// steps are [not known](super::PlanRow::firings) before the run.
    #[must_use]
    pub fn evals_of(&self, metric: &str) -> Option<usize> {
        if self.plan.eval_sets.is_empty() {
            return Some(0);
        }
        let key = self.key_of(metric);
        let set = key.split('/').next().unwrap_or_default();
        let own = self.row_of(&format!("eval {set}"));
        match own.or_else(|| self.row_of("eval")) {
            Some(row) if row.cadence != Cadence::Never => row.firings.as_ref().map(Vec::len),
            _ => Some(0),
        }
    }

    /// Returns the row of a part of the trainer.
    fn row_of(&self, name: &str) -> Option<&PlanRow> {
        let mut rows = self.plan.rows.iter();
        rows.find(|row| row.hooks == Hooks::NONE && row.name == name)
    }

    /// Checks that the evals of the run will have a metric of this name: `val/loss`, or `loss` of the first eval set.
    ///
    /// A metric comes from the [task](crate::Task::eval), or from a callback that records its key, such as
    /// `val/ema_loss`. That callback must be added before this one, because callbacks are called in the order in which
    /// they were added.
    ///
    /// # Errors
    ///
    /// If the run has no such metric (the text lists the metrics it has), or a later callback records it.
    pub fn check_metric(&self, name: &str) -> Result<(), BoxError> {
        let (earlier, later) = self.plan.rows.split_at(self.row + 1);
        let known = self.known_metrics(earlier);
        let key = self.key_of(name);
        if known.contains(&key) {
            return Ok(());
        }
        for row in later {
            if self.recorded(row).contains(&key) {
                let later = &row.name;
                let text = format!("callback `{later}` records {name:?}: add it before this one");
                return Err(text.into());
            }
        }
        let known = known.join(", ");
        Err(format!("unknown metric {name:?}: this run evaluates {known}").into())
    }

    /// Returns the key of a metric; a name without a set belongs to the first set.
    fn key_of(&self, name: &str) -> String {
        match self.plan.eval_sets.first() {
            Some(set) if !name.contains('/') => format!("{set}/{name}"),
            _ => name.to_owned(),
        }
    }

    /// Returns the metrics of the task and of some callbacks.
    fn known_metrics(&self, rows: &[PlanRow]) -> Vec<String> {
        let mut known = self.metrics.keys().to_vec();
        for row in rows {
            for key in self.recorded(row) {
                if self.is_of_a_set(&key) {
                    known.push(key);
                }
            }
        }
        known
    }

    /// Whether a key begins with the name of an eval set.
    fn is_of_a_set(&self, key: &str) -> bool {
        let Some((set, _)) = key.split_once('/') else {
            return false;
        };
        self.plan.eval_sets.iter().any(|known| known == set)
    }

    /// Adds a note to the plan about something that the callback cannot do in this run.
    ///
    /// The text continues the callback's name, such as `saves nothing: this run has no run_dir`.
    pub fn note(&self, text: impl Into<String>) {
        self.notes.borrow_mut().push(text.into());
    }

    /// Returns the keys that a callback records. In `*/ema_*` the first `*` matches each eval set, the second each of its
    /// metrics.
    fn recorded(&self, row: &PlanRow) -> Vec<String> {
        let mut recorded = Vec::new();
        if row.hooks == Hooks::NONE {
            return recorded; // a part of the trainer: its metrics are the task's
        }
        for key in &row.keys {
            let Some(pattern) = key.strip_prefix(ANY_SET) else {
                recorded.push(key.clone());
                continue;
            };
            for metric in self.metrics.keys() {
                if let Some((set, name)) = metric.split_once('/') {
                    recorded.push(format!("{set}/{}", pattern.replace('*', name)));
                }
            }
        }
        recorded
    }
}
