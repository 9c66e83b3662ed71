//! Plan of a run, made before it begins.

mod keys;
mod outlook;

pub(crate) use keys::check as check_keys;
pub(crate) use outlook::Metrics;
pub use outlook::Outlook;

use crate::cadence::{Cadence, MOST_STEPS};
use crate::clock::{Clock, RunLength};
use crate::hook::{Hook, Hooks};
use crate::optim::GroupSummary;
use std::fmt;

/// Plan of a run: on which steps each callback acts, which keys it records, and which files it leaves.
///
/// `Display` prints the plan as a page for people.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Number of steps; 0 if the run is limited by time.
    pub steps: u64,
    /// Length of the run, in steps or as a time.
    pub length: RunLength,
    /// Number of micro-batches averaged into one step, over all devices.
    pub grad_accum_steps: usize,
    /// Number of devices that share the micro-batches.
    pub devices: usize,
    /// Global gradient norm above which gradients are clipped; `None` without clipping.
    pub clip_grad_norm: Option<f64>,
    /// Number of parameter tensors, and of elements in them.
    pub params: (usize, usize),
    /// Tied parameters with all of their names, such as `embed.weight (= head.weight)`. Each is counted once.
    pub tied: Vec<String>,
    /// Parameter groups.
    pub groups: Vec<GroupSummary>,
    /// Names of the eval sets, in order, such as `val`; they begin the keys of their metrics.
    pub eval_sets: Vec<String>,
    /// Frozen parameters, one line for each [`freeze`](crate::TrainerBuilder::freeze).
    pub frozen: Vec<String>,
    /// Rows for record, eval and checkpoint, which the trainer does itself, then one for each callback, in order.
    pub rows: Vec<PlanRow>,
    /// Names of the interventions, in order.
    pub interventions: Vec<String>,
    /// Names of the sinks, in order.
    pub sinks: Vec<String>,
    /// Files that will exist at the end, relative to the run directory.
    pub files: Vec<String>,
    /// Settings without effect in this run, one sentence each. They are shown when the run begins, and are in
    /// `run.json`.
    pub notes: Vec<String>,
}

/// Row of the plan: a callback, or a part of the trainer (record, eval, checkpoint).
#[derive(Debug, Clone)]
pub struct PlanRow {
    /// Name of the callback.
    pub name: String,
    /// Hooks of the callback; none for a part of the trainer.
    pub hooks: Hooks,
    /// Cadence of the callback.
    pub cadence: Cadence,
    /// Steps on which the callback will act.
    ///
    /// `None` if they depend on time, on a [batch size](crate::data::TrainData::batch_size) that the data does not know,
    /// or if the run has more than ten million steps.
    pub firings: Option<Vec<u64>>,
    /// Keys that the callback records.
    pub keys: Vec<String>,
}

impl PlanRow {
    pub(crate) fn new(
        name: impl Into<String>,
        hooks: Hooks,
        cadence: Cadence,
        keys: Vec<String>,
        per_step: &Clock,
        knows_size: bool,
        length: RunLength,
    ) -> Self {
        // A cadence that counts neither tokens nor samples fires on the same steps whatever the size of a batch.
        let is_known = cadence.is_predictable() && (knows_size || !cadence.counts_data());
        let firings = match length {
            RunLength::Steps(steps) if is_known && steps <= MOST_STEPS => {
                Some(cadence.firings(per_step, steps).collect())
            }
            _ => None,
        };
        Self {
            name: name.into(),
            hooks,
            cadence,
            firings,
            keys,
        }
    }

    /// Whether this is a row of the trainer's evals.
    pub(crate) fn is_eval(&self) -> bool {
        self.hooks == Hooks::NONE && (self.name == "eval" || self.name.starts_with("eval "))
    }

    /// Whether all hooks of the callback ignore its cadence.
    pub(crate) fn is_passive(&self) -> bool {
        self.hooks != Hooks::NONE && self.hooks.iter().all(Hook::is_always_called)
    }

    /// Describes the steps on which the callback acts, such as `250, 500, 1000 (3×)`.
    fn describe_steps(&self) -> String {
        if self.is_passive() {
            return "when its hooks occur".to_owned();
        }
        let Some(firings) = &self.firings else {
            return "not known before the run".to_owned();
        };
        let mut steps: Vec<_> = firings.iter().take(4).map(ToString::to_string).collect();
        if firings.len() > 4 {
            steps.push("…".to_owned());
        }
        format!("{} ({}×)", steps.join(", "), firings.len())
    }

    /// Writes the row, and a line with its keys.
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cadence = if self.is_passive() {
            String::new()
        } else {
            self.cadence.to_string()
        };
        let steps = self.describe_steps();
        writeln!(
            f,
            "{:<20} {cadence:<32} {steps:<26} {}",
            self.name, self.hooks
        )?;
        if !self.keys.is_empty() {
            writeln!(f, "  records {}", self.keys.join(" "))?;
        }
        Ok(())
    }
}

impl Plan {
    /// Writes the size of the run and of the model.
    fn write_size(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (length, micro_batches) = (self.length, self.grad_accum_steps);
        write!(f, "{length}; micro-batches per step: {micro_batches}")?;
        if self.devices > 1 {
            let (each, devices) = (micro_batches / self.devices, self.devices);
            write!(f, " ({each} on each of {devices} devices)")?;
        }
        let (tensors, elements) = self.params;
        write!(f, "; {elements} parameters in {tensors} tensors; ")?;
        match self.clip_grad_norm {
            Some(norm) => writeln!(f, "gradients clipped to norm {norm}"),
            None => writeln!(f, "gradients not clipped"),
        }
    }

    fn write_groups(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for group in &self.groups {
            let (name, elements, tensors) = (&group.name, group.elements, group.tensors);
            let lr = &group.lr;
            write!(
                f,
                "  group {name}: {elements} parameters in {tensors} tensors"
            )?;
            writeln!(f, ", lr {lr}")?;
        }
        Ok(())
    }

    fn write_tied(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.tied.is_empty() {
            return Ok(());
        }
        writeln!(f, "  tied: {}", self.tied.join(", "))
    }

    fn write_rows(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [name, cadence, steps] = ["name", "cadence", "steps"];
        writeln!(f, "{name:<20} {cadence:<32} {steps:<26} hooks")?;
        for row in &self.rows {
            if row.cadence != Cadence::Never {
                row.write(f)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_size(f)?;
        self.write_groups(f)?;
        for line in &self.frozen {
            writeln!(f, "  {line}")?;
        }
        self.write_tied(f)?;
        self.write_rows(f)?;
        if !self.interventions.is_empty() {
            writeln!(f, "interventions: {}", self.interventions.join(", "))?;
        }
        writeln!(f, "sinks: {}", or_none(&self.sinks))?;
        write!(f, "files: {}", or_none(&self.files))?;
        for note in &self.notes {
            write!(f, "\nnote: {note}")?;
        }
        Ok(())
    }
}

fn or_none(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}
