//! The best checkpoints by a metric.
//!
//! What the trainer does by itself needs no callback: checkpoints at a cadence, by time too
//! (`.checkpoint(every(minutes(30.0)))`), and the newest N of them (`.keep_checkpoints(n)`). Early ones that stay
//! are [`EarlyCheckpoints`](crate::EarlyCheckpoints); all of them go to the sinks with
//! [`Artifacts`](crate::Artifacts).
//!
//! Records no keys. Leaves `checkpoints/best_<metric>_step_<step>`, pinned: rotation leaves them alone.

use crate::early_stop::Mode;
use crate::settings::within;
use bdh::{
    BoxError, Callback, CheckpointRequest, Checkpointed, ConfigError, Cx, EvalEnd, FitStart,
    HookResult, OnError, Outlook, callback, delete_checkpoint,
};
use derive_builder::Builder;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Keeps the best `keep` checkpoints by a metric of the eval, and deletes those that no longer are.
///
/// A checkpoint goes only after a better one is complete on disk. Saves after an eval whose metric is among the
/// best so far, so that `eval` decides how often; NaN and infinities are never among them.
///
/// # Examples
///
/// ```
/// use bdh_callbacks::{Checkpoints, Mode};
///
/// let best = Checkpoints::default(); // the one with the lowest val/loss
/// let three = Checkpoints::builder().metric("accuracy").mode(Mode::Max).keep(3).build()?;
/// # Ok::<(), bdh::ConfigError>(())
/// ```
#[derive(Debug, Clone, Builder, Deserialize, Serialize)]
#[builder(
    pattern = "owned",
    default,
    setter(into),
    build_fn(error = "ConfigError")
)]
#[builder_struct_attr(must_use = "a builder does nothing until `build` is called")]
#[serde(default, deny_unknown_fields)]
pub struct Checkpoints {
    /// The metric of the eval, without its `val/`. Defaults to `loss`.
    metric: String,
    /// Whether less or more of it is better. Defaults to less.
    mode: Mode,
    /// How many to keep. Defaults to 1.
    #[builder(setter(into = false))]
    keep: usize,
    #[builder(setter(skip))]
    #[serde(skip)]
    seen: Seen,
}

/// The checkpoints that there are.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Seen {
    /// Metric and name, best first.
    best: Vec<(f64, String)>,
    /// Those to be deleted once the next one is complete.
    old: Vec<String>,
}

impl Default for Checkpoints {
    fn default() -> Self {
        Self {
            metric: "loss".to_owned(),
            mode: Mode::Min,
            keep: 1,
            seen: Seen::default(),
        }
    }
}

impl Checkpoints {
    /// Begins with the defaults.
    pub fn builder() -> CheckpointsBuilder {
        CheckpointsBuilder::default()
    }

    fn name(&self, step: u64) -> String {
        format!(
            "best_{}_step_{step}",
            self.metric.replace(['/', '\\', ':', '\0'], "_")
        )
    }

    /// Enters a value; gives the name to save it under, if it is among the best. Of equals the first stays.
    fn enter(&mut self, value: f64, step: u64) -> Option<String> {
        let is_better = |(other, _): &(f64, String)| self.mode.gain(*other, value) >= 0.0;
        let rank = self
            .seen
            .best
            .iter()
            .take_while(|known| is_better(known))
            .count();
        if rank >= self.keep || !value.is_finite() {
            return None;
        }
        let name = self.name(step);
        self.seen.best.insert(rank, (value, name.clone()));
        let beaten = self
            .seen
            .best
            .split_off(self.keep.min(self.seen.best.len()));
        self.seen
            .old
            .extend(beaten.into_iter().map(|(_, name)| name));
        Some(name)
    }
}

impl Checkpoints {
    /// Deletes the checkpoints that are no longer among the best. One that cannot be deleted is no reason to end the run:
    /// it is tried again after the next.
    fn delete_old(&mut self, at: &Cx<'_>, dir: &Path) {
        self.seen
            .old
            .retain(|name| match delete_checkpoint(&dir.join(name)) {
                Ok(()) => false,
                Err(error) => {
                    at.remark(format!("checkpoint `{name}` cannot be deleted: {error}"));
                    true
                }
            });
    }
}

#[callback("checkpoints")]
impl Callback for Checkpoints {
    fn config(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn check(&self, run: &Outlook<'_>) -> Result<(), BoxError> {
        within("keep", self.keep, 1.., "use 1 or more")?;
        if !run.has_run_dir() {
            run.note("saves nothing: this run has no `run_dir`");
        }
        if run.evals() == Some(0) {
            run.note("saves nothing: this run evaluates nothing");
            return Ok(());
        }
        run.check_metric(&self.metric)
    }

    /// A run without its best checkpoint would go on as if all were well.
    fn on_error(&self) -> OnError {
        OnError::Abort
    }

    fn on_fit_start(&mut self, at: &FitStart<'_>) -> HookResult {
        // A resume may have given up a future, or moved to a new directory: what is not there is not the best.
        let Some(dir) = at.run_dir().map(|dir| dir.join("checkpoints")) else {
            return Ok(());
        };
        let known = self.seen.best.len();
        self.seen.best.retain(|(_, name)| dir.join(name).exists());
        if self.seen.best.len() < known {
            return Ok(());
        }
        // The process may have died when the better ones were complete, and these not deleted yet.
        self.delete_old(at, &dir);
        Ok(())
    }

    fn on_eval(&mut self, at: &EvalEnd<'_>) -> HookResult {
        let value = at.metric(&self.metric)?;
        if let Some(name) = self.enter(value, at.step()) {
            at.checkpoint(CheckpointRequest { name, pinned: true });
        }
        Ok(())
    }

    fn on_checkpoint(&mut self, at: &Checkpointed<'_>) -> HookResult {
        let is_written = at.path.ends_with(self.name(at.step()));
        let Some(dir) = at.path.parent().filter(|_| is_written) else {
            return Ok(());
        };
        self.delete_old(at, dir);
        Ok(())
    }

    fn state(&self) -> serde_json::Value {
        serde_json::to_value(&self.seen).unwrap_or_default()
    }

    fn load_state(&mut self, state: serde_json::Value) -> Result<(), BoxError> {
        let seen: Seen = serde_json::from_value(state)?;
        // A checkpoint is somebody's file, and what it calls old is deleted.
        let mut names = seen
            .old
            .iter()
            .chain(seen.best.iter().map(|(_, name)| name));
        if let Some(name) = names.find(|name| !is_ours(name)) {
            return Err(format!("{name:?} is no checkpoint of this callback").into());
        }
        self.seen = seen;
        Ok(())
    }
}

/// Whether a name is one that [`Checkpoints`] gives, and stays in its folder.
fn is_ours(name: &str) -> bool {
    name.starts_with("best_") && !name.contains(['/', '\\', ':'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_are_kept_in_order_and_the_first_of_equals_stays() {
        let mut two = Checkpoints {
            keep: 2,
            ..Checkpoints::default()
        };
        let values = [3.0, f64::NAN, 2.0, 3.0, 2.5, 1.0];
        let saved: Vec<_> = (1..)
            .zip(values)
            .filter(|(step, value)| two.enter(*value, *step).is_some())
            .collect();
        assert_eq!(
            saved.iter().map(|(step, _)| *step).collect::<Vec<_>>(),
            [1, 3, 5, 6]
        );
        let best: Vec<_> = two
            .seen
            .best
            .iter()
            .map(|(value, name)| (*value, name.as_str()))
            .collect();
        assert_eq!(best, [(1.0, "best_loss_step_6"), (2.0, "best_loss_step_3")]);
        assert_eq!(two.seen.old, ["best_loss_step_1", "best_loss_step_5"]);
    }

    #[test]
    fn more_can_be_better() {
        let mut one = Checkpoints {
            mode: Mode::Max,
            ..Checkpoints::default()
        };
        let saved = [0.1, 0.3, 0.2].map(|value| one.enter(value, 1).is_some());
        assert_eq!(saved, [true, true, false]);
    }
}
