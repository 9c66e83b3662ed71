//! A run as its callbacks can know it before it begins.

use super::Plan;
use crate::cadence::Cadence;
use crate::failure::BoxError;
use crate::hook::Hooks;
use std::cell::{OnceCell, RefCell};

/// The names of an eval's metrics, found out when first asked for.
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

/// The run that is planned, for [`Callback::check`](crate::Callback::check).
pub struct Outlook<'a> {
    pub(crate) plan: &'a Plan,
    /// The place of the callback's own row in the plan.
    pub(crate) row: usize,
    pub(crate) has_run_dir: bool,
    pub(crate) metrics: &'a Metrics<'a>,
    pub(crate) notes: RefCell<Vec<String>>,
}

impl Outlook<'_> {
    /// The plan: what fires when. Its notes are not complete yet.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        self.plan
    }

    /// Whether the run has a directory, without which it saves nothing.
    #[must_use]
    pub fn has_run_dir(&self) -> bool {
        self.has_run_dir
    }

    /// How many evals the run has by its cadence; `None` where that depends on time, or on the size of batches.
    #[must_use]
    pub fn evals(&self) -> Option<usize> {
        let is_eval = |row: &&super::PlanRow| row.hooks == Hooks::NONE && row.name == "eval";
        match self.plan.rows.iter().find(is_eval) {
            None => Some(0),
            Some(row) if row.cadence == Cadence::Never => Some(0),
            Some(row) => row.firings.as_ref().map(Vec::len),
        }
    }

    /// Refuses the name of a metric that no eval will have, with those that it will.
    ///
    /// A metric is one of the [task](crate::Task::metrics), or a key `val/<name>` that a callback records. That
    /// callback is to be added first: it is called first.
    ///
    /// # Errors
    ///
    /// If there is no such metric, or a later callback records it.
    pub fn check_metric(&self, name: &str) -> Result<(), BoxError> {
        let of_task = self.metrics.names();
        let earlier = self.recorded(0..=self.row);
        if of_task.iter().chain(&earlier).any(|known| known == name) {
            return Ok(());
        }
        let rows = &self.plan.rows;
        let records = |row: &usize| self.recorded(*row..=*row).iter().any(|known| known == name);
        if let Some(later) = (self.row + 1..rows.len()).find(records) {
            let later = &rows[later].name;
            return Err(
                format!("callback `{later}` records {name:?}; add it before this one").into(),
            );
        }
        let known: Vec<_> = of_task.iter().chain(&earlier).map(String::as_str).collect();
        Err(format!(
            "there is no metric {name:?}; an eval of this run has {}",
            known.join(", ")
        )
        .into())
    }

    /// Notes, in the plan, what the callback cannot do in this run: a sentence that goes on from its name, such as
    /// `saves nothing: this run has no run_dir`.
    pub fn note(&self, text: impl Into<String>) {
        self.notes.borrow_mut().push(text.into());
    }

    /// The metrics that the callbacks of some rows record; `*` stands for each of the task's.
    fn recorded(&self, rows: std::ops::RangeInclusive<usize>) -> Vec<String> {
        let of_callback = self.plan.rows[rows]
            .iter()
            .filter(|row| row.hooks != Hooks::NONE);
        let names = of_callback
            .flat_map(|row| &row.keys)
            .filter_map(|key| key.strip_prefix("val/"));
        let each = |name: &str| -> Vec<String> {
            if name.contains('*') {
                let metrics = self.metrics.names().iter();
                metrics.map(|metric| name.replace('*', metric)).collect()
            } else {
                vec![name.to_owned()]
            }
        };
        names.flat_map(each).collect()
    }
}
