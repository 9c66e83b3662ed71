//! What a run will do, known before it begins.

mod keys;
mod outlook;

pub(crate) use keys::check as check_keys;
pub(crate) use outlook::Metrics;
pub use outlook::Outlook;

use crate::cadence::{Cadence, MOST_STEPS};
use crate::clock::Clock;
use crate::hook::{Hook, Hooks};
use crate::optim::GroupSummary;
use std::fmt;

/// What fires when, what it records, and which files it leaves. Printed, it is a page.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Steps of the run.
    pub steps: u64,
    /// Micro-batches averaged into one step.
    pub grad_accum_steps: usize,
    /// Devices that share them.
    pub devices: usize,
    /// Largest global gradient norm that is not clipped.
    pub clip_grad_norm: Option<f64>,
    /// Parameters (tensors) and numbers in them.
    pub params: (usize, usize),
    /// The parameter groups.
    pub groups: Vec<GroupSummary>,
    /// The trainer's own doings (record, eval, checkpoint) and then every callback, in order.
    pub rows: Vec<PlanRow>,
    /// Interventions, in order.
    pub interventions: Vec<String>,
    /// Sinks, in order.
    pub sinks: Vec<String>,
    /// Files that will exist, relative to the run directory.
    pub files: Vec<String>,
    /// Settings without effect in this run, a sentence each; shown when the run begins, and in `run.json`.
    pub notes: Vec<String>,
}

/// One callback, or one of the trainer's own doings, in the plan.
#[derive(Debug, Clone)]
pub struct PlanRow {
    /// The callback's name.
    pub name: String,
    /// The hooks it has.
    pub hooks: Hooks,
    /// When it acts.
    pub cadence: Cadence,
    /// The steps on which it will act; `None` where they depend on time, or on the size of batches that
    /// the task does not [tell](crate::Task::batch_size).
    pub firings: Option<Vec<u64>>,
    /// The keys it records.
    pub keys: Vec<String>,
}

impl PlanRow {
    pub(crate) fn new(
        name: impl Into<String>,
        hooks: Hooks,
        cadence: Cadence,
        keys: Vec<String>,
        per_step: Option<&Clock>,
        steps: u64,
    ) -> Self {
        let needs_no_size = (!cadence.counts_data()).then(Clock::default);
        let firings = per_step
            .or(needs_no_size.as_ref())
            .filter(|_| cadence.is_predictable() && steps <= MOST_STEPS)
            .map(|per_step| cadence.firings(per_step, steps).collect());
        Self {
            name: name.into(),
            hooks,
            cadence,
            firings,
            keys,
        }
    }

    /// Whether it only has hooks that are called whatever the cadence.
    pub(crate) fn is_passive(&self) -> bool {
        self.hooks != Hooks::NONE && self.hooks.iter().all(Hook::is_always_called)
    }

    /// `250, 500, 1000 (3×)`: the first few steps and how many there are.
    fn when(&self) -> String {
        if self.is_passive() {
            return "whenever that happens".to_owned();
        }
        let Some(firings) = &self.firings else {
            return "when the time comes".to_owned();
        };
        let first: Vec<_> = firings.iter().take(4).map(ToString::to_string).collect();
        let more = if firings.len() > first.len() {
            ", …"
        } else {
            ""
        };
        format!("{}{more} ({}×)", first.join(", "), firings.len())
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tensors, elements) = self.params;
        write!(
            f,
            "{} steps of {} micro-batch(es)",
            self.steps, self.grad_accum_steps
        )?;
        match self.devices {
            1 => write!(f, "; ")?,
            devices => {
                write!(
                    f,
                    ", {} on each of {devices} devices; ",
                    self.grad_accum_steps / devices
                )?;
            }
        }
        write!(f, "{elements} parameters in {tensors} tensors; ")?;
        match self.clip_grad_norm {
            Some(norm) => writeln!(f, "gradients clipped to norm {norm}")?,
            None => writeln!(f, "gradients not clipped")?,
        }
        for group in &self.groups {
            let GroupSummary {
                name,
                schedule,
                tensors,
                elements,
                ..
            } = group;
            let peak = schedule.peak();
            writeln!(
                f,
                "  group {name}: {elements} in {tensors} tensors, peak lr {peak:.3e}"
            )?;
        }
        writeln!(
            f,
            "{:<20} {:<32} {:<26} hooks",
            "what", "cadence", "on steps"
        )?;
        for row in self.rows.iter().filter(|row| row.cadence != Cadence::Never) {
            let cadence = if row.is_passive() {
                String::new()
            } else {
                row.cadence.to_string()
            };
            writeln!(
                f,
                "{:<20} {cadence:<32} {:<26} {}",
                row.name,
                row.when(),
                row.hooks
            )?;
            if !row.keys.is_empty() {
                writeln!(f, "  records {}", row.keys.join(" "))?;
            }
        }
        if !self.interventions.is_empty() {
            writeln!(f, "interventions: {}", self.interventions.join(", "))?;
        }
        writeln!(f, "sinks: {}", or_none(&self.sinks))?;
        write!(f, "files: {}", or_none(&self.files))?;
        self.notes
            .iter()
            .try_for_each(|note| write!(f, "\nnote: {note}"))
    }
}

fn or_none(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}
