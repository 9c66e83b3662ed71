//! Checkpoints as artifacts: every one that the run writes is handed to the sinks.
//!
//! W&B makes versions of one artifact of them, `model-<run id>`; TensorBoard and `metrics.jsonl` note the path.
//!
//! | key                  | value                                     | recorded                   |
//! |----------------------|-------------------------------------------|----------------------------|
//! | `checkpoint/<name>`  | the folder, of kind `model`, with aliases | whenever one was written   |
//!
//! Aliases are `latest`; `early-250` for `ckpt_early_step_250`; and `best` where the step was evaluated and no
//! earlier checkpoint had a lower value of the metric.

use bdh::{
    BoxError, Callback, Checkpointed, EvalEnd, FitStart, HookResult, Outlook, Value, callback,
};
use serde::{Deserialize, Serialize};

/// Hands checkpoints to the sinks, with the names by which people look for them.
///
/// Costs nothing on the training thread; a sink that keeps artifacts reads the files on its own.
///
/// # Examples
///
/// ```
/// use bdh_callbacks::Artifacts;
///
/// let by_loss = Artifacts::default(); // `best` is the lowest val/loss
/// let by_bpb = Artifacts::best_by("bpb");
/// ```
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Artifacts {
    /// The metric of the eval by which one is the best, without its `val/`; the lowest is. Defaults to `loss`.
    metric: String,
    #[serde(skip)]
    seen: Seen,
}

/// What the run had so far.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Seen {
    /// The last eval: its step and the metric.
    last: Option<(u64, f64)>,
    /// The metric of the best checkpoint.
    best: Option<f64>,
}

impl Seen {
    /// Whether a checkpoint of `step` is the best so far; from then on it is the one to beat.
    fn is_best(&mut self, step: u64) -> bool {
        let Some((_, value)) = self.last.filter(|(evaluated, _)| *evaluated == step) else {
            return false;
        };
        let is_best = self.best.is_none_or(|best| value <= best);
        if is_best {
            self.best = Some(value);
        }
        is_best
    }

    /// Catches up after a resume: the state was saved before its own checkpoint was told of.
    fn go_on(&mut self) {
        if let Some((step, _)) = self.last {
            self.is_best(step);
        }
    }
}

impl Default for Artifacts {
    fn default() -> Self {
        Self::best_by("loss")
    }
}

impl Artifacts {
    /// The best checkpoint is the one with the lowest value of this metric, such as `bpb`.
    #[must_use]
    pub fn best_by(metric: impl Into<String>) -> Self {
        Self {
            metric: metric.into(),
            seen: Seen::default(),
        }
    }

    fn aliases(&mut self, name: &str, step: u64) -> Vec<String> {
        let early = name
            .strip_prefix("ckpt_early_step_")
            .map(|step| format!("early-{step}"));
        let best = self.seen.is_best(step).then(|| "best".to_owned());
        [Some("latest".to_owned()), early, best]
            .into_iter()
            .flatten()
            .collect()
    }
}

#[callback("artifacts")]
impl Callback for Artifacts {
    fn config(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn check(&self, run: &Outlook<'_>) -> Result<(), BoxError> {
        if !run.has_run_dir() {
            run.note("hands on nothing: this run has no `run_dir`, and so no checkpoints");
        }
        if run.evals() == Some(0) {
            run.note(format!(
                "calls no checkpoint the best by `{}`: this run evaluates nothing",
                self.metric
            ));
            return Ok(());
        }
        run.check_metric(&self.metric)
    }

    fn keys(&self) -> Vec<String> {
        vec!["checkpoint/*".to_owned()]
    }

    fn on_fit_start(&mut self, at: &FitStart<'_>) -> HookResult {
        if at.resumed {
            self.seen.go_on();
        }
        Ok(())
    }

    fn on_eval(&mut self, at: &EvalEnd<'_>) -> HookResult {
        let value = at.metric(&self.metric)?;
        self.seen.last = value.is_finite().then_some((at.step(), value));
        Ok(())
    }

    fn on_checkpoint(&mut self, at: &Checkpointed<'_>) -> HookResult {
        let name = at
            .path
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let aliases = self.aliases(&name, at.step());
        let value = Value::File {
            path: at.path.to_owned(),
            kind: "model".to_owned(),
            aliases,
        };
        at.log(format!("checkpoint/{name}"), value);
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
    fn the_best_is_the_lowest_of_those_that_were_evaluated_and_saved() {
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
            .expect("its own state");
        resumed.seen.go_on();
        resumed.seen.last = Some((700, 1.5));
        assert_eq!(
            resumed.aliases("step_00000700", 700),
            ["latest"],
            "600 was better"
        );
    }
}
