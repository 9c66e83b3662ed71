//! Checkpoints as artifacts in the sinks.
//!
//! W&B stores them as versions of one artifact, `model-<run id>`. TensorBoard and `metrics.jsonl` record the path.
//!
//! | key                  | value                                     | recorded                   |
//! |----------------------|-------------------------------------------|----------------------------|
//! | `checkpoint/<name>`  | the folder, of kind `model`, with aliases | after each checkpoint      |
//!
//! Aliases are `latest`, `early-250` for `ckpt_early_step_250`, and `best` if the step was evaluated and no
//! earlier checkpoint had a lower value of the metric.

use bdh::hooks::{Checkpointed, EvalEnd, FitStart};
use bdh::{BoxError, Callback, HookResult, Outlook, Value, callback};
use serde::{Deserialize, Serialize};

/// Passes checkpoints to the sinks as artifacts, under the aliases `latest`, `best` and `early-<step>`.
///
/// Costs nothing on the training thread: a sink that stores artifacts reads the files on a thread of its own.
///
/// # Examples
///
/// ```
/// use bdh_callbacks::Artifacts;
///
/// let by_loss = Artifacts::default(); // `best` is the lowest loss of the first eval set
/// let by_bpb = Artifacts::best_by("val/bpb");
/// ```
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Artifacts {
    /// Metric of the eval whose lowest value marks the best checkpoint, with or without the name of its set: `val/loss`,
    /// or `loss` of the first eval set. Defaults to `loss`.
    metric: String,
    #[serde(skip)]
    seen: Seen,
}

/// Evals and checkpoints so far.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Seen {
    /// Step and metric of the last eval.
    last: Option<(u64, f64)>,
    /// Metric of the best checkpoint.
    best: Option<f64>,
}

impl Seen {
    /// Enters the checkpoint of a step, and returns whether it is the best so far.
    fn enter(&mut self, step: u64) -> bool {
        match self.last {
            Some((evaluated, value)) if evaluated == step => {
                let is_best = self.best.is_none_or(|best| value <= best);
                if is_best {
                    self.best = Some(value);
                }
                is_best
            }
            _ => false,
        }
    }

    /// Enters the checkpoint that a run was resumed from. Its state was saved before `on_checkpoint` was called.
    fn enter_resumed(&mut self) {
        if let Some((step, _)) = self.last {
            self.enter(step);
        }
    }
}

impl Default for Artifacts {
    fn default() -> Self {
        Self::best_by("loss")
    }
}

impl Artifacts {
    /// Marks as best the checkpoint with the lowest value of this metric, such as `val/bpb`.
    #[must_use]
    pub fn best_by(metric: impl Into<String>) -> Self {
        Self {
            metric: metric.into(),
            seen: Seen::default(),
        }
    }

    fn aliases(&mut self, name: &str, step: u64) -> Vec<String> {
        let mut aliases = vec!["latest".to_owned()];
        if let Some(step) = name.strip_prefix("ckpt_early_step_") {
            aliases.push(format!("early-{step}"));
        }
        if self.seen.enter(step) {
            aliases.push("best".to_owned());
        }
        aliases
    }
}

#[callback("artifacts")]
impl Callback for Artifacts {
    fn check(&self, run: &Outlook<'_>) -> Result<(), BoxError> {
        if !run.has_run_dir() {
            run.note("passes on nothing: this run has no `run_dir`, and so no checkpoints");
        }
        if run.evals_of(&self.metric) == Some(0) {
            run.note(format!(
                "marks no checkpoint as best: this run has no evals of `{}`",
                self.metric
            ));
            return Ok(());
        }
        run.check_metric(&self.metric)
    }

    fn keys(&self) -> Vec<String> {
        vec!["checkpoint/*".to_owned()]
    }

    fn on_fit_start(&mut self, ctx: &FitStart<'_>) -> HookResult {
        if ctx.resumed {
            self.seen.enter_resumed();
        }
        Ok(())
    }

    fn on_eval(&mut self, ctx: &EvalEnd<'_>) -> HookResult {
        let Some(value) = ctx.monitored(&self.metric)? else {
            return Ok(()); // another set's eval
        };
        self.seen.last = value.is_finite().then_some((ctx.step(), value));
        Ok(())
    }

    fn on_checkpoint(&mut self, ctx: &Checkpointed<'_>) -> HookResult {
        let name = ctx.path.file_name().unwrap_or_default().to_string_lossy();
        let aliases = self.aliases(&name, ctx.step());
        let value = Value::File {
            path: ctx.path.to_owned(),
            kind: "model".to_owned(),
            aliases,
        };
        ctx.log(format!("checkpoint/{name}"), value);
        Ok(())
    }

    fn state(&self) -> serde_json::Value {
        serde_json::to_value(&self.seen).unwrap_or_default()
    }

    fn load_state(&mut self, state: serde_json::Value) -> Result<(), BoxError> {
        self.seen = serde_json::from_value(state)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn best_is_the_lowest_of_all_evaluated_checkpoints() {
        let mut artifacts = Artifacts::default();
        let mut aliases = |evaluated: Option<f64>, name: &str, step| {
            if let Some(loss) = evaluated {
                artifacts.seen.last = Some((step, loss));
            }
            artifacts.aliases(name, step).join(" ")
        };
        assert_eq!(
            aliases(Some(3.0), "ckpt_early_step_250", 250),
            "latest early-250 best"
        );
        assert_eq!(aliases(None, "step_00000300", 300), "latest");
        assert_eq!(aliases(Some(3.5), "step_00000400", 400), "latest");
        assert_eq!(aliases(Some(2.0), "step_00000500", 500), "latest best");
        artifacts.seen.last = Some((600, 1.0));
        let mut resumed = Artifacts::default();
        resumed
            .load_state(artifacts.state())
            .expect("a valid state");
        resumed.seen.enter_resumed();
        resumed.seen.last = Some((700, 1.5));
        assert_eq!(
            resumed.aliases("step_00000700", 700),
            ["latest"],
            "600 was better"
        );
    }
}
