//! The best checkpoints by a metric.
//!
//! The trainer itself writes checkpoints at a cadence, also by time (`.checkpoint(every(minutes(30.0)))`), and keeps
//! the newest (`.keep_checkpoints(n)`). [`EarlyCheckpoints`](crate::EarlyCheckpoints) writes early ones that stay, and
//! [`Artifacts`](crate::Artifacts) passes all of them to the sinks.
//!
//! Records no keys. Writes `checkpoints/best_<metric>_step_<step>`, pinned, so that rotation does not delete them.

use crate::early_stop::Mode;
use crate::settings::within;
use bdh::checkpoint::CheckpointRequest;
use bdh::hooks::{Checkpointed, EvalEnd, FitEnd, FitStart};
use bdh::{BoxError, Callback, Context, ErrorPolicy, HookResult, Outlook, callback, checkpoint};
use derive_setters::Setters;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Keeps the best `keep` checkpoints by a metric of the eval, and deletes older ones that are no longer among them.
///
/// Saves after each eval of the metric's set whose value is among the best so far, so the cadence of that eval is that of
/// the saves. NaN and infinities never count as best. A checkpoint is deleted only after a better one is complete on
/// disk. The path of the best one is in [`TrainResult::best_checkpoint`](bdh::TrainResult::best_checkpoint).
///
/// # Examples
///
/// ```
/// use bdh_callbacks::{Checkpoints, Mode};
///
/// let best = Checkpoints::default(); // the one with the lowest loss of the first eval set
/// let three = Checkpoints::default().metric("val/accuracy").mode(Mode::Max).keep(3);
/// ```
#[derive(Debug, Clone, Setters, Deserialize, Serialize)]
#[setters(into)]
#[serde(default, deny_unknown_fields)]
pub struct Checkpoints {
    /// Metric of the eval, with or without the name of its set: `val/loss`, or `loss` of the first eval set. One of the
    /// task's metrics, or one that a callback added earlier records, such as `val/ema_loss`. Defaults
    /// to `loss`.
    metric: String,
    /// Whether less or more of the metric is better. Defaults to less.
    mode: Mode,
    /// Number of checkpoints to keep. Defaults to 1.
    #[setters(into = false)]
    keep: usize,
    #[setters(skip)]
    #[serde(skip)]
    seen: Seen,
}

/// Checkpoints on disk.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Seen {
    /// Metric and name of each, best first.
    best: Vec<(f64, String)>,
    /// Names of checkpoints to delete once the next one is complete.
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
    fn name(&self, step: u64) -> String {
        format!(
            "best_{}_step_{step}",
            self.metric.replace(['/', '\\', ':', '\0'], "_")
        )
    }

    /// Enters the metric of an eval. Returns the name to save under if it is among the best; of equals the first stays.
    fn enter(&mut self, value: f64, step: u64) -> Option<String> {
        let best = &self.seen.best;
        // Not a binary search: after a change of `mode` the list is sorted the other way.
        let rank = best
            .iter()
            .take_while(|(other, _)| self.mode.gain(*other, value) >= 0.0)
            .count();
        if rank >= self.keep || !value.is_finite() {
            return None;
        }
        let name = self.name(step);
        self.seen.best.insert(rank, (value, name.clone()));
        let kept = self.keep.min(self.seen.best.len());
        for (_, old) in self.seen.best.split_off(kept) {
            self.seen.old.push(old);
        }
        Some(name)
    }

    /// Deletes the checkpoints that are no longer among the best. A failure does not end the run: the deletion is
    /// tried again after the next checkpoint.
    fn delete_old(&mut self, ctx: &Context<'_>, dir: &Path) {
        self.seen.old.retain(|name| {
            let deleted = checkpoint::delete(&dir.join(name));
            if let Err(error) = &deleted {
                ctx.notice(format!("cannot delete checkpoint `{name}`: {error}"));
            }
            deleted.is_err()
        });
    }
}

#[callback("checkpoints")]
impl Callback for Checkpoints {
    fn check(&self, run: &Outlook<'_>) -> Result<(), BoxError> {
        within("keep", self.keep, 1.., "use 1 or more")?;
        if !run.has_run_dir() {
            run.note("saves nothing: this run has no `run_dir`");
        }
        if run.evals_of(&self.metric) == Some(0) {
            let metric = &self.metric;
            run.note(format!(
                "saves nothing: this run has no evals of `{metric}`"
            ));
            return Ok(());
        }
        run.check_metric(&self.metric)
    }

    /// Aborts: a run without its best checkpoint must not continue as if all were well.
    fn error_policy(&self) -> ErrorPolicy {
        ErrorPolicy::Abort
    }

    fn on_fit_start(&mut self, ctx: &FitStart<'_>) -> HookResult {
        // The run may have been resumed from an older checkpoint, or moved to a new directory. A checkpoint that is
        // not on disk is not among the best.
        let Some(dir) = ctx.run_dir().map(|dir| dir.join("checkpoints")) else {
            return Ok(());
        };
        let known = self.seen.best.len();
        self.seen.best.retain(|(_, name)| dir.join(name).exists());
        if self.seen.best.len() < known {
            return Ok(());
        }
        // The process may have died after the better ones were complete and before the old ones were deleted.
        self.delete_old(ctx, &dir);
        Ok(())
    }

    fn on_eval(&mut self, ctx: &EvalEnd<'_>) -> HookResult {
        let Some(value) = ctx.monitored(&self.metric)? else {
            return Ok(()); // another set's eval
        };
        if let Some(name) = self.enter(value, ctx.step()) {
            ctx.checkpoint(CheckpointRequest { name, pinned: true });
        }
        Ok(())
    }

    fn on_checkpoint(&mut self, ctx: &Checkpointed<'_>) -> HookResult {
        if ctx.path.ends_with(self.name(ctx.step()))
            && let Some(dir) = ctx.path.parent()
        {
            self.delete_old(ctx, dir);
        }
        Ok(())
    }

    /// Reports the best checkpoint for the run's result.
    fn on_fit_end(&mut self, ctx: &FitEnd<'_>) -> HookResult {
        if let (Some((_, name)), Some(dir)) = (self.seen.best.first(), ctx.run_dir()) {
            let path = dir.join("checkpoints").join(name);
            if path.exists() {
                ctx.report_best_checkpoint(path);
            }
        }
        Ok(())
    }

    fn state(&self) -> serde_json::Value {
        serde_json::to_value(&self.seen).unwrap_or_default()
    }

    fn load_state(&mut self, state: serde_json::Value) -> Result<(), BoxError> {
        let seen: Seen = serde_json::from_value(state)?;
        // The file may have been edited, and everything that it lists as old is deleted.
        let best = seen.best.iter().map(|(_, name)| name);
        for name in seen.old.iter().chain(best) {
            if !is_ours(name) {
                return Err(format!("{name:?} is not a checkpoint of this callback").into());
            }
        }
        self.seen = seen;
        Ok(())
    }
}

/// Whether [`Checkpoints`] gives such names, and the name leads to no other folder.
fn is_ours(name: &str) -> bool {
    name.starts_with("best_") && !name.contains(['/', '\\', ':'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn best_are_kept_in_order_and_the_first_of_equals_stays() {
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
    fn mode_max_keeps_the_highest() {
        let mut one = Checkpoints {
            mode: Mode::Max,
            ..Checkpoints::default()
        };
        let saved = [0.1, 0.3, 0.2].map(|value| one.enter(value, 1).is_some());
        assert_eq!(saved, [true, true, false]);
    }
}
