//! CORE during training.
//!
//! | key                | unit                                                                | recorded        |
//! |--------------------|---------------------------------------------------------------------|-----------------|
//! | `core_metric`      | mean of centered accuracies; `core_metric_18` for 18 tasks          | on each due step |
//! | `core_metric_se`   | standard error from the choice of items; `core_metric_18_se`        | on each due step |
//! | `core/<task>`      | centered accuracy of a task: 0 is chance, 1 is perfect              | on each due step |

use super::bundle::Bundle;
use super::evaluate::Evaluator;
use super::report::{self, Report};
use bdh::hooks::{EvalEnd, StepEnd};
use bdh::{BoxError, Cadence, Callback, HookResult, callback};
use bdh_data::Tokenizer;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Callback that evaluates CORE on the steps of a cadence, and records the score of each task.
///
/// The callback requests an eval on these steps and runs in it. So the validation loss of the same weights is recorded
/// with each CORE, and the time counts as evaluation, not as training. The model runs without autodiff, and training is
/// not affected.
///
/// Training waits for the evaluation: 500 items per task are 20,000 texts.
pub struct CoreMetric {
    bundle: Bundle,
    tokenizer: Arc<Tokenizer>,
    context: usize,
    batch_tokens: usize,
    cadence: Cadence,
}

impl fmt::Debug for CoreMetric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoreMetric")
            .field("context", &self.context)
            .field("batch_tokens", &self.batch_tokens)
            .field("cadence", &self.cadence)
            .finish_non_exhaustive()
    }
}

impl CoreMetric {
    /// Creates the callback for the tasks of `bundle`, with the tokenizer of the training.
    ///
    /// A text has at most `context` tokens, and a forward pass `batch_tokens`, or one text.
    #[must_use]
    pub fn new(
        bundle: Bundle,
        tokenizer: Arc<Tokenizer>,
        context: usize,
        batch_tokens: usize,
        cadence: Cadence,
    ) -> Self {
        Self {
            bundle,
            tokenizer,
            context,
            batch_tokens,
            cadence,
        }
    }

    fn key(&self) -> String {
        report::key(self.bundle.tasks().len())
    }

    fn labels(&self) -> impl Iterator<Item = &'static str> {
        self.bundle.tasks().iter().map(|task| task.task().label)
    }

    fn evaluate(&self, ctx: &EvalEnd<'_>) -> Result<Report, BoxError> {
        let evaluator = Evaluator {
            vocabulary: &*self.tokenizer,
            context: self.context,
            batch_tokens: self.batch_tokens,
        };
        let text = ctx
            .text()
            .ok_or("CORE needs a language model, and the task has no text")?;
        let mut scores = Vec::new();
        for task in self.bundle.tasks() {
            scores.push(evaluator.evaluate(task, |rows| text.score(rows))?);
        }
        Ok(Report::new(scores, self.bundle.missing()))
    }
}

#[callback]
impl Callback for CoreMetric {
    fn name(&self) -> String {
        "core_metric".to_owned()
    }

    fn cadence(&self) -> Cadence {
        self.cadence.clone()
    }

    fn keys(&self) -> Vec<String> {
        let key = self.key();
        let mut keys = vec![key.clone(), format!("{key}_se")];
        keys.extend(self.labels().map(|label| format!("core/{label}")));
        keys
    }

    fn config(&self) -> Value {
        let items = self.bundle.tasks().iter().map(|task| task.items().len());
        json!({
            "every": self.cadence.to_string(),
            "items": self.labels().zip(items).collect::<BTreeMap<_, _>>(),
            "missing": self.bundle.missing(),
        })
    }

    fn on_step(&mut self, ctx: &StepEnd<'_>) -> HookResult {
        ctx.evaluate();
        Ok(())
    }

    fn on_eval(&mut self, ctx: &EvalEnd<'_>) -> HookResult {
        if !ctx.is_due(&self.cadence) {
            return Ok(()); // requested by the trainer or by another callback
        }
        let report = self.evaluate(ctx)?;
        for task in report.tasks() {
            ctx.log(format!("core/{}", task.task.label), task.centered());
        }
        ctx.log(self.key(), report.score());
        ctx.log(format!("{}_se", self.key()), report.standard_error());
        ctx.notice(format!("step {}: {}", ctx.step(), report.headline()));
        Ok(())
    }
}
