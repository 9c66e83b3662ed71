//! Foretells where the run will end, from runs that are through.
//!
//! | key                      | unit      | when            |
//! |--------------------------|-----------|-----------------|
//! | `forecast/val_bpb`       | of the metric | at each eval after the untrained model's |
//! | `forecast/val_bpb_settings_only` | the same, from the settings alone: a baseline, as is the value itself | with eight past runs or more |
//! | `forecast/val_bpb_low`, `forecast/val_bpb_high` | the same: 80 % of runs end between them | with eight past runs or more |

use bdh::{BoxError, Callback, EvalEnd, FitStart, HookResult, Outlook, callback};
use bdh_forecast::Past;
use bdh_sweep::runs::{Keys, Run, read_all, to_forecast};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::PathBuf;

/// Records at each eval where the run is likely to end, learned from the runs below a folder.
///
/// What it learns from is read when the run begins: the past runs' evals, the settings in which they and this run
/// differ, and how they ended. How far to trust it, `nanochat_sweep forecast` says of the same folder; a value of this
/// kind without the baselines beside it is no claim. The forecasts of a resumed run may differ where the folder does.
///
/// # Examples
///
/// ```
/// use bdh_callbacks::ForecastEnd;
///
/// let forecast = ForecastEnd::from_runs("runs/sweep").metric("bpb"); // records forecast/val_bpb
/// ```
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ForecastEnd {
    /// The folder with past runs. Defaults to `runs`.
    runs: PathBuf,
    /// The metric of the eval, without its `val/`; less is better. Defaults to `bpb`.
    metric: String,
    #[serde(skip)]
    past: Option<Past>,
    /// This run, with its evals so far.
    #[serde(skip)]
    now: bdh_forecast::Run,
}

impl Default for ForecastEnd {
    fn default() -> Self {
        let (runs, metric) = ("runs".into(), "bpb".to_owned());
        Self {
            runs,
            metric,
            past: None,
            now: bdh_forecast::Run::default(),
        }
    }
}

impl ForecastEnd {
    /// Learns from the runs below this folder.
    #[must_use]
    pub fn from_runs(runs: impl Into<PathBuf>) -> Self {
        Self {
            runs: runs.into(),
            ..Self::default()
        }
    }

    /// Foretells this metric of the evals, such as `bpb` or `loss`.
    #[must_use]
    pub fn metric(self, metric: impl Into<String>) -> Self {
        Self {
            metric: metric.into(),
            ..self
        }
    }

    /// What is read of past runs. Only what this run knows of itself by the time of an eval: no training loss.
    fn wanted(&self) -> Keys {
        let mut keys = Keys::new(format!("val/{}", self.metric));
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

    fn key(&self, ending: &str) -> String {
        format!("forecast/val_{}{ending}", self.metric)
    }
}

#[callback("forecast")]
impl Callback for ForecastEnd {
    fn check(&self, run: &Outlook<'_>) -> Result<(), BoxError> {
        if run.evals() == Some(0) {
            run.note("forecasts nothing: this run evaluates nothing");
            return Ok(());
        }
        run.check_metric(&self.metric)
    }

    fn keys(&self) -> Vec<String> {
        ["", "_low", "_high", "_settings_only"]
            .map(|ending| self.key(ending))
            .to_vec()
    }

    fn config(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn on_fit_start(&mut self, at: &FitStart<'_>) -> HookResult {
        let own = at
            .run_dir()
            .map(|dir| std::path::absolute(dir).unwrap_or_default());
        let mut runs = read_all([&self.runs], &self.wanted()).runs;
        runs.retain(|run| std::path::absolute(&run.dir).ok() != own);
        // Of this run too, what its directory says it was told to be.
        let told = at.run_dir().and_then(|dir| Run::read(dir, &[]).ok());
        let mut now = told.unwrap_or_else(|| Run::new(""));
        now.name = "this run".into(); // no other is called so: theirs are paths
        now.steps = at.steps().max(1);
        runs.push(now);
        let mut runs = to_forecast(&runs, &self.wanted());
        let now = runs.pop().unwrap_or_default();
        let metric = std::mem::take(&mut self.now.metric); // that of the checkpoint
        self.now = bdh_forecast::Run { metric, ..now };
        self.past = Some(Past::new(runs)?);
        Ok(())
    }

    fn on_eval(&mut self, at: &EvalEnd<'_>) -> HookResult {
        let value = at.metric(&self.metric)?;
        self.now.metric.push((at.step(), value));
        if at.step() == 0 {
            return Ok(()); // of the untrained model: the same for all
        }
        let Some(past) = &self.past else {
            return Ok(());
        };
        let Ok(foretold) = past.predict(&self.now) else {
            return Ok(());
        };
        at.log(self.key(""), foretold.value);
        if let Some(settings_only) = foretold.settings_only {
            at.log(self.key("_settings_only"), settings_only);
        }
        if let Some(interval) = foretold.interval {
            at.log(self.key("_low"), interval.low);
            at.log(self.key("_high"), interval.high);
        }
        Ok(())
    }

    fn state(&self) -> Value {
        // JSON has no others, and no forecast looks at them.
        let finite = self
            .now
            .metric
            .iter()
            .filter(|(_, value)| value.is_finite());
        serde_json::to_value(finite.collect::<Vec<_>>()).unwrap_or_default()
    }

    fn load_state(&mut self, state: Value) -> Result<(), BoxError> {
        self.now.metric = serde_json::from_value(state)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bdh::testing::tiny_run;
    use bdh::{MemorySink, every, last};
    use bdh_sweep::runs::Series;
    use serde_json::json;
    use std::fs;
    use std::path::Path;

    /// A run that is through, of which the loss ends 0.5 below what it was at half of its steps.
    fn past(dir: &Path, number: u32) {
        let (dir, half) = (dir.join(number.to_string()), 2.0 + 0.1 * f64::from(number));
        fs::create_dir_all(&dir).expect("a directory");
        let line = |step: u64, loss: f64| json!({ "step": step, "val/loss": loss }).to_string();
        let lines = [line(0, 4.0), line(4, half), line(8, half - 0.5)];
        fs::write(dir.join("metrics.jsonl"), lines.join("\n")).expect("records");
        let run = json!({ "steps": 8, "status": "completed", "config": {} });
        fs::write(dir.join("run.json"), run.to_string()).expect("a run");
    }

    /// The losses, the forecasts, the lower ends of their intervals.
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
    fn the_end_is_foretold_from_how_others_went_on() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        (0..12).for_each(|number| past(dir.path(), number));
        let [loss, foretold, low] = forecasts(dir.path());
        let (at, half) = loss[0];
        assert_eq!(at, 4);
        assert!(
            (foretold[0].1 - (half - 0.5)).abs() < 0.1,
            "{half} -> {foretold:?}"
        );
        assert_eq!((foretold.len(), low.len()), (2, 2));
        assert!(low[0].1 < foretold[0].1);
    }

    #[test]
    fn without_past_runs_it_is_the_last_value_and_no_interval() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let [loss, foretold, low] = forecasts(dir.path());
        assert_eq!(
            foretold, loss,
            "which `nanochat_sweep forecast` calls a baseline"
        );
        assert!(low.is_empty());
    }
}
