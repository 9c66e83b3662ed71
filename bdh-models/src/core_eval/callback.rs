//! CORE during training.
//!
//! | key                | unit                                                                | recorded        |
//! |--------------------|---------------------------------------------------------------------|-----------------|
//! | `core_metric`      | mean of centered accuracies; `core_metric_18` of 18 tasks           | on each due step |
//! | `core_metric_se`   | its standard error by the choice of items; `core_metric_18_se`      | with it         |
//! | `core/<task>`      | a task's centered accuracy: 0 is a guess, 1 is perfect              | with it         |

use super::bundle::Bundle;
use super::evaluate::Evaluator;
use super::report::{self, Report, TaskScore};
use bdh::{BoxError, Cadence, Callback, EvalEnd, HookResult, StepEnd, callback};
use bdh_data::Tokenizer;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Evaluates CORE on the steps of a cadence, and records each task's score.
///
/// It asks for an eval on those steps and does its work there. So a CORE has the validation loss of the very same
/// weights beside it, and its time counts as evaluation and not as training. The model sees its items without a tape;
/// training goes on as if nothing had been asked.
///
/// Nothing else happens while it works: with 500 items a task that is 20,000 texts.
pub struct CoreMetric {
    bundle: Bundle,
    tokenizer: Arc<Tokenizer>,
    context: usize,
    batch_rows: usize,
    cadence: Cadence,
}

impl CoreMetric {
    /// Evaluates the tasks of `bundle` with the tokenizer that the model is trained with; the model takes `context`
    /// tokens and `batch_rows` rows at once.
    #[must_use]
    pub fn new(
        bundle: Bundle,
        tokenizer: Arc<Tokenizer>,
        context: usize,
        batch_rows: usize,
        cadence: Cadence,
    ) -> Self {
        Self {
            bundle,
            tokenizer,
            context,
            batch_rows,
            cadence,
        }
    }

    fn key(&self) -> String {
        report::key(self.bundle.tasks().len())
    }

    fn labels(&self) -> impl Iterator<Item = &'static str> {
        self.bundle.tasks().iter().map(|task| task.task().label)
    }

    fn evaluate(&self, at: &EvalEnd<'_>) -> Result<Report, BoxError> {
        let evaluator = Evaluator {
            vocabulary: &*self.tokenizer,
            context: self.context,
            batch_rows: self.batch_rows,
        };
        let score = |rows: &[&[i32]]| at.score(rows).ok_or("this task cannot score texts")?;
        let scores = self
            .bundle
            .tasks()
            .iter()
            .map(|task| evaluator.evaluate(task, score));
        let scores: Vec<TaskScore> = scores.collect::<Result<_, _>>()?;
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
        let tasks = self.labels().map(|label| format!("core/{label}"));
        [key.clone(), format!("{key}_se")]
            .into_iter()
            .chain(tasks)
            .collect()
    }

    fn config(&self) -> Value {
        let items = self.bundle.tasks().iter().map(|task| task.items().len());
        json!({
            "every": self.cadence.to_string(),
            "items": self.labels().zip(items).collect::<BTreeMap<_, _>>(),
            "missing": self.bundle.missing(),
        })
    }

    fn on_step(&mut self, at: &StepEnd<'_>) -> HookResult {
        at.evaluate();
        Ok(())
    }

    fn on_eval(&mut self, at: &EvalEnd<'_>) -> HookResult {
        if !at.is_due(&self.cadence) {
            return Ok(()); // somebody else's eval
        }
        let report = self.evaluate(at)?;
        for task in report.tasks() {
            at.log(format!("core/{}", task.task.label), task.centered());
        }
        at.log(self.key(), report.score());
        at.log(format!("{}_se", self.key()), report.standard_error());
        at.remark(format!("step {}: {}", at.step(), report.headline()));
        Ok(())
    }
}
