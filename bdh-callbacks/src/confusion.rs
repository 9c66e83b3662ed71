//! Pictures of confusion matrices.
//!
//! | key                      | value | recorded                                                   |
//! |--------------------------|-------|------------------------------------------------------------|
//! | `<set>/confusion_matrix` | image | at every eval of a set whose metrics have the table `confusion` |
//!
//! The table is made by [`Metrics::classes`](bdh::metrics::Metrics::classes), and recorded as `<set>/confusion`. With a
//! prefix, such as `color_`, table and picture are `<set>/color_confusion` and `<set>/color_confusion_matrix`.

mod chart;

use bdh::hooks::EvalEnd;
use bdh::record::Picture;
use bdh::{BoxError, Callback, Context, HookResult, Outlook, Value, callback};
use chart::{Cells, Chart};
use derive_setters::Setters;
use serde::{Deserialize, Serialize};

/// Draws the confusion matrices of evals as heat maps, with a row for each class of the targets.
///
/// Up to 20 classes have their counts in the cells. Costs no device read. Pictures are drawn on other threads.
///
/// # Examples
///
/// ```
/// use bdh_callbacks::ConfusionMatrix;
///
/// let shares = ConfusionMatrix::default(); // a row's colours are shares of its class
/// let counts = ConfusionMatrix::default().normalize(false);
/// ```
#[derive(Debug, Clone, Setters, Deserialize, Serialize)]
#[setters(into)]
#[serde(default, deny_unknown_fields)]
pub struct ConfusionMatrix {
    /// Whether the colour of a cell is its share of the row, rather than of the largest count. Defaults to yes, so that
    /// a rare class is as visible as a frequent one.
    normalize: bool,
    /// Whether an eval without a confusion matrix was reported.
    #[setters(skip)]
    #[serde(skip)]
    is_reported: bool,
}

impl Default for ConfusionMatrix {
    fn default() -> Self {
        Self {
            normalize: true,
            is_reported: false,
        }
    }
}

impl ConfusionMatrix {
    /// Sends a notice, once, that an eval of a set has no confusion matrix.
    fn report_absence(&mut self, ctx: &Context<'_>, set: &str) {
        if !self.is_reported {
            self.is_reported = true;
            let why = "its metrics have no confusion matrix; add one with `metrics.classes`";
            ctx.notice(format!("`confusion` draws nothing for {set}: {why}"));
        }
    }
}

#[callback("confusion")]
impl Callback for ConfusionMatrix {
    fn check(&self, run: &Outlook<'_>) -> Result<(), BoxError> {
        let sets = &run.plan().eval_sets;
        let mut evals = sets
            .iter()
            .map(|set| run.evals_of(&format!("{set}/confusion")));
        if evals.all(|evals| evals == Some(0)) {
            run.note("draws nothing: this run has no evals");
        }
        Ok(())
    }

    fn on_eval(&mut self, ctx: &EvalEnd<'_>) -> HookResult {
        let (set, step) = (&ctx.report.set, ctx.step());
        let mut has_drawn = false;
        for (name, value) in &ctx.report.tables {
            if let Value::Table { columns, rows } = value
                && name.ends_with("confusion")
            {
                let key = format!("{set}/{name}");
                let chart = Chart {
                    title: format!("{key} (Step {step})"),
                    normalize: self.normalize,
                    cells: Cells::of(columns, rows).ok_or_else(|| not_square(&key))?,
                };
                let picture = Picture::of(Vec::new(), move |_| chart.draw());
                ctx.log(format!("{key}_matrix"), picture);
                has_drawn = true;
            }
        }
        if !has_drawn {
            self.report_absence(ctx, set);
        }
        Ok(())
    }
}

fn not_square(key: &str) -> BoxError {
    let text = "is no confusion matrix: it needs a name and a count for each class in every row";
    format!("the table `{key}` {text}").into()
}
