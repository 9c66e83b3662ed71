//! Predicts the final metric of a run from finished runs.
//!
//! Keys contain the eval set and the metric; here they are `val` and `bpb`.
//!
//! | key                      | value     | recorded        |
//! |--------------------------|-----------|-----------------|
//! | `forecast/val_bpb`       | predicted final value, in the metric's unit | at each eval, except that of the untrained model |
//! | `forecast/val_bpb_settings_only` | prediction from the settings alone: a baseline | with eight past runs or more |
//! | `forecast/val_bpb_low`, `forecast/val_bpb_high` | bounds of an 80 % interval | with eight past runs or more |

use crate::settings::key_of;
use bdh::hooks::{EvalEnd, FitStart};
use bdh::{BoxError, Callback, HookResult, Outlook, Plan, callback};
use bdh_forecast::{Forecaster, Prediction};
use bdh_sweep::runs::{Keys, Run, read_all, to_forecast};
use derive_setters::Setters;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::PathBuf;

/// Records at each eval a prediction of the final metric, learned from the runs below a folder.
///
/// The past runs are read when the run begins: their evals, their results, and the settings in which they and this run
/// differ. Compare each prediction with its baselines: the settings-only prediction and the last value.
/// `nanochat_sweep forecast` reports the accuracy for the same folder. A resumed run reads the folder again, so its
/// predictions may change.
///
/// # Examples
///
/// ```
/// use bdh_callbacks::ForecastEnd;
///
/// let forecast = ForecastEnd::from_runs("runs/sweep").metric("val/bpb"); // records forecast/val_bpb
/// ```
#[derive(Debug, Clone, Setters, Deserialize, Serialize)]
#[setters(into)]
#[serde(default, deny_unknown_fields)]
pub struct ForecastEnd {
    /// Folder with past runs. Defaults to `runs`.
    #[setters(skip)]
    runs: PathBuf,
    /// Metric of the eval to predict, with or without the name of its set: `val/bpb`, or `bpb` of the first eval set. Less
    /// is better. Defaults to `bpb`.
    metric: String,
    #[setters(skip)]
    #[serde(skip)]
    forecaster: Option<Forecaster>,
    /// This run, with its evals so far.
    #[setters(skip)]
    #[serde(skip)]
    now: bdh_forecast::Run,
}

impl Default for ForecastEnd {
    fn default() -> Self {
        Self {
            runs: "runs".into(),
            metric: "bpb".to_owned(),
            forecaster: None,
            now: bdh_forecast::Run::default(),
        }
    }
}

impl ForecastEnd {
    /// Predicts from the runs below this folder.
    #[must_use]
    pub fn from_runs(runs: impl Into<PathBuf>) -> Self {
        Self {
            runs: runs.into(),
            ..Self::default()
        }
    }

    /// Returns the keys to read from past runs: the metric alone, as this run itself knows no more at an eval.
    fn wanted(&self, plan: &Plan) -> Keys {
        let metric = match plan.eval_sets.first() {
            Some(set) if !self.metric.contains('/') => key_of(&self.metric, set),
            _ => self.metric.clone(),
        };
        let mut keys = Keys::new(metric);
        for key in [
            &mut keys.loss,
            &mut keys.lr,
            &mut keys.weight_norm,
            &mut keys.grad_norm,
        ] {
            key.clear();
        }
        keys
    }

    /// Reads the runs below the folder, without this run, whose directory may be among theirs.
    fn past_runs(&self, ctx: &FitStart<'_>, wanted: &Keys) -> Vec<Run> {
        let mut runs = read_all([&self.runs], wanted).runs;
        if let Some(dir) = ctx.run_dir() {
            let own = std::path::absolute(dir).unwrap_or_default();
            runs.retain(|run| std::path::absolute(&run.dir).ok().as_ref() != Some(&own));
        }
        runs
    }

    fn log(&self, ctx: &EvalEnd<'_>, prediction: &Prediction) {
        let metric = key_of(&self.metric, &ctx.report.set);
        ctx.log(key(&metric, ""), prediction.value);
        if let Some(settings_only) = prediction.settings_only {
            ctx.log(key(&metric, "_settings_only"), settings_only);
        }
        if let Some(interval) = &prediction.interval {
            ctx.log(key(&metric, "_low"), interval.low);
            ctx.log(key(&metric, "_high"), interval.high);
        }
    }
}

/// Returns a key of the predictions of a metric: `forecast/val_bpb` for `val/bpb`.
fn key(metric: &str, ending: &str) -> String {
    format!("forecast/{}{ending}", metric.replace('/', "_"))
}

/// Reads the settings of the run under way from its directory.
fn this_run(ctx: &FitStart<'_>) -> Run {
    let saved = ctx.run_dir().and_then(|dir| Run::read(dir, &[]).ok());
    let mut run = saved.unwrap_or_else(|| Run::new(""));
    run.name = "this run".into(); // the names of past runs are paths, so no other has this one
    run.steps = ctx.steps().max(1);
    run
}

#[callback("forecast")]
impl Callback for ForecastEnd {
    fn check(&self, run: &Outlook<'_>) -> Result<(), BoxError> {
        if run.evals_of(&self.metric) == Some(0) {
            let metric = &self.metric;
            run.note(format!(
                "predicts nothing: this run has no evals of `{metric}`"
            ));
            return Ok(());
        }
        if run.plan().steps == 0 {
            run.note(
                "predicts nothing: this run is limited by time, so its last step is not known",
            );
        }
        run.check_metric(&self.metric)
    }

    fn keys(&self) -> Vec<String> {
        let metric = if self.metric.contains('/') {
            self.metric.clone()
        } else {
            format!("*/{}", self.metric) // of the first set, whose name is not known yet
        };
        ["", "_low", "_high", "_settings_only"]
            .map(|ending| key(&metric, ending))
            .to_vec()
    }

    fn on_fit_start(&mut self, ctx: &FitStart<'_>) -> HookResult {
        if ctx.plan.steps == 0 {
            return Ok(()); // the end to predict is not known
        }
        let wanted = self.wanted(ctx.plan);
        let mut runs = self.past_runs(ctx, &wanted);
        // This run goes last, so that its settings become features together with those of the past runs.
        runs.push(this_run(ctx));
        let mut past = to_forecast(&runs, &wanted);
        let mut now = past.pop().unwrap_or_default();
        now.metric = std::mem::take(&mut self.now.metric); // restored from a checkpoint on a resume
        self.now = now;
        self.forecaster = Some(Forecaster::new(past)?);
        Ok(())
    }

    fn on_eval(&mut self, ctx: &EvalEnd<'_>) -> HookResult {
        let Some(value) = ctx.monitored(&self.metric)? else {
            return Ok(()); // another set's eval
        };
        self.now.metric.push((ctx.step(), value));
        if ctx.step() == 0 {
            return Ok(()); // the untrained model has the same value in every run
        }
        if let Some(forecaster) = &self.forecaster
            && let Ok(prediction) = forecaster.predict(&self.now)
        {
            self.log(ctx, &prediction);
        }
        Ok(())
    }

    fn state(&self) -> Value {
        // JSON has no NaN and no infinities, and predictions ignore them.
        let mut metric = self.now.metric.clone();
        metric.retain(|(_, value)| value.is_finite());
        serde_json::to_value(metric).unwrap_or_default()
    }

    fn load_state(&mut self, state: Value) -> Result<(), BoxError> {
        self.now.metric = serde_json::from_value(state)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bdh::MemorySink;
    use bdh::cadence::{every, last};
    use bdh::testing::tiny_run;
    use bdh_sweep::runs::Series;
    use serde_json::json;
    use std::fs;
    use std::path::Path;

    /// Writes a finished run, whose loss at the end is 0.5 below that at half of its steps.
    fn past(dir: &Path, number: u32) {
        let (dir, half) = (dir.join(number.to_string()), 2.0 + 0.1 * f64::from(number));
        fs::create_dir_all(&dir).expect("a directory");
        let line = |step: u64, loss: f64| json!({ "step": step, "val/loss": loss }).to_string();
        let lines = [line(0, 4.0), line(4, half), line(8, half - 0.5)];
        fs::write(dir.join("metrics.jsonl"), lines.join("\n")).expect("records");
        let run = json!({ "steps": 8, "status": "completed", "config": {} });
        fs::write(dir.join("run.json"), run.to_string()).expect("a run");
    }

    /// Trains a run, and returns its losses, its predictions, and the lower bounds of their intervals.
    fn forecasts(past: &Path) -> [Series; 3] {
        let memory = MemorySink::default();
        let run = tiny_run(8).eval(every(4) | last()).sink(memory.clone());
        let forecast = ForecastEnd::from_runs(past).metric("loss");
        run.callback(forecast)
            .build()
            .expect("a run")
            .fit()
            .expect("a fit");
        let of = |key: &str| -> Series {
            let records = memory.records().into_iter();
            records
                .filter_map(|record| Some((record.clock.step, record.scalar(key)?)))
                .collect()
        };
        ["val/loss", "forecast/val_loss", "forecast/val_loss_low"].map(of)
    }

    #[test]
    fn end_is_predicted_from_how_past_runs_continued() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        (0..12).for_each(|number| past(dir.path(), number));
        let [loss, predicted, low] = forecasts(dir.path());
        let (step, half) = loss[0];
        assert_eq!(step, 4);
        assert!(
            (predicted[0].1 - (half - 0.5)).abs() < 0.1,
            "{half} -> {predicted:?}"
        );
        assert_eq!((predicted.len(), low.len()), (2, 2));
        assert!(low[0].1 < predicted[0].1);
    }

    #[test]
    fn without_past_runs_the_prediction_is_the_last_value() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let [loss, predicted, low] = forecasts(dir.path());
        assert_eq!(
            predicted, loss,
            "the last value is a baseline of `nanochat_sweep forecast`"
        );
        assert!(low.is_empty());
    }
}
