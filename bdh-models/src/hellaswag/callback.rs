//! HellaSwag during training.

use super::HellaSwag;
use bdh::hooks::{EvalEnd, StepEnd};
use bdh::{Cadence, Callback, HookResult, callback};
use serde_json::{Value, json};

/// Callback that evaluates HellaSwag on the steps of a cadence, and records `hella`, the share of right answers.
///
/// The callback requests an eval on these steps and runs in it, so it needs a run with an eval set, and the time counts
/// as evaluation, not as training. With [`start`](bdh::cadence::start) in its cadence and in that of the run's eval, the
/// untrained model is evaluated too. The model runs without autodiff, and training is not affected.
///
/// Training waits for the evaluation: the validation file has 10,042 questions, which are 40,168 rows.
#[derive(Debug, Clone)]
pub struct HellaSwagMetric {
    items: HellaSwag,
    batch_rows: usize,
    cadence: Cadence,
    /// Step of the last evaluation: a step with several eval sets has one.
    evaluated: Option<u64>,
}

impl HellaSwagMetric {
    /// Creates the callback. A forward pass has at most `batch_rows` rows.
    #[must_use]
    pub fn new(items: HellaSwag, batch_rows: usize, cadence: Cadence) -> Self {
        Self {
            items,
            batch_rows,
            cadence,
            evaluated: None,
        }
    }
}

#[callback]
impl Callback for HellaSwagMetric {
    fn name(&self) -> String {
        "hella".to_owned()
    }

    fn cadence(&self) -> Cadence {
        self.cadence.clone()
    }

    fn keys(&self) -> Vec<String> {
        vec!["hella".to_owned()]
    }

    fn config(&self) -> Value {
        json!({ "every": self.cadence.to_string(), "items": self.items.num_items() })
    }

    fn on_step(&mut self, ctx: &StepEnd<'_>) -> HookResult {
        ctx.evaluate();
        Ok(())
    }

    fn on_eval(&mut self, ctx: &EvalEnd<'_>) -> HookResult {
        let step = Some(ctx.step());
        if !ctx.is_due(&self.cadence) || self.evaluated == step {
            return Ok(()); // requested by the trainer or by another callback, or another eval set
        }
        self.evaluated = step;
        let text = ctx
            .text()
            .ok_or("HellaSwag needs a language model, and the task has no text")?;
        let correct = self
            .items
            .num_correct(self.batch_rows, |rows| text.score(rows))?;
        let all = self.items.num_items();
        let share = correct as f64 / all as f64;
        ctx.log("hella", share);
        ctx.notice(format!("HellaSwag accuracy: {correct}/{all}={share:.4}"));
        Ok(())
    }
}
