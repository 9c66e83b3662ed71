//! Progress of a sweep on the terminal.

use crate::live::LivePredictor;
use crate::page::{remark, say};
use bdh_sweep::{Running, Status, Trial, Watcher};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Terminal with a line for each finished trial, and a bar for the running ones.
pub(super) struct Terminal {
    metric: String,
    bar: ProgressBar,
    total: u64,
    /// Number of finished trials, including those of earlier calls.
    over: u64,
    /// Seconds that each trial of this call took.
    took: Vec<f64>,
    jobs: usize,
    live: Option<LivePredictor>,
    /// Planned steps of each running trial.
    steps: BTreeMap<u64, u64>,
    /// Running trials whose prediction has been printed.
    printed: BTreeSet<u64>,
}

impl Terminal {
    pub(super) fn new(
        metric: &str,
        total: u64,
        over: u64,
        jobs: usize,
        live: Option<LivePredictor>,
    ) -> Self {
        let bar = ProgressBar::new(total);
        let style = ProgressStyle::with_template("{bar:24} {pos}/{len}  {wide_msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_position(over);
        Self {
            metric: metric.to_owned(),
            bar,
            total,
            over,
            took: Vec::new(),
            jobs,
            live,
            steps: BTreeMap::new(),
            printed: BTreeSet::new(),
        }
    }

    /// Removes the bar.
    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }

    /// Returns a sentence on the steps that the stop rule saved; `None` without a rule.
    pub(super) fn saving(&self) -> Option<String> {
        self.live.as_ref()?.saving()
    }

    /// Prints each prediction once, when a quarter of the trial is done: a log has no bar.
    fn print_predictions(&mut self, running: &[Running]) {
        let Some(live) = &self.live else { return };
        for trial in running {
            let (number, total) = (trial.trial.number, self.total);
            let (step, steps) = (trial.step, trial.steps.unwrap_or(u64::MAX));
            let prediction = live.shown(number);
            if step < steps / 4 || prediction.is_empty() || !self.printed.insert(number) {
                continue;
            }
            let last = trial.history.last().map_or(f64::NAN, |(_, value)| *value);
            self.bar.suspend(|| {
                say(format_args!(
                    "trial {number:>3}/{total}  {step}/{steps} {last:.3}{prediction}"
                ));
            });
        }
    }

    /// Returns the seconds until the end, if the remaining trials take as long as the finished ones.
    fn eta(&self) -> f64 {
        let mean = self.took.iter().sum::<f64>() / self.took.len().max(1) as f64;
        mean * self.total.saturating_sub(self.over) as f64 / self.jobs.max(1) as f64
    }

    /// Returns the line of a finished trial.
    fn line(&self, trial: &Trial) -> String {
        let value = match trial.value {
            Some(value) => format!("{value:.4}"),
            None => "-".to_owned(),
        };
        let line = format!(
            "trial {:>3}/{}  {:<11} {} {value:<8} {:>6.1} s  eta {:.0} s  {}",
            trial.number,
            self.total,
            trial.status,
            self.metric,
            trial.seconds,
            self.eta(),
            settings(trial),
        );
        line.trim_end().to_owned()
    }

    /// Returns a running trial's place on the bar: its number, step, metric and prediction.
    fn state(&self, running: &Running) -> String {
        let number = running.trial.number;
        let mut state = format!("#{number} {}", running.step);
        if let Some(steps) = running.steps {
            state += &format!("/{steps}");
        }
        if let Some((_, value)) = running.history.last() {
            state += &format!(" {value:.3}");
        }
        if let Some(live) = &self.live {
            state += &live.shown(number);
        }
        state
    }
}

impl Watcher for Terminal {
    fn ended(&mut self, trial: &Trial) {
        if trial.status.is_over() {
            self.over += 1;
            self.took.push(trial.seconds);
        }
        let line = self.line(trial);
        self.bar.set_position(self.over);
        // Suspended: a line printed while the bar is drawn would be overwritten.
        self.bar.suspend(|| {
            say(line);
            if let Some(why) = &trial.why {
                let has_failed = trial.status == Status::Failed;
                let kind = if has_failed { "warning" } else { "note" };
                remark(kind, format_args!("trial {}: {why}", trial.number));
            }
        });
        let steps = self.steps.remove(&trial.number).unwrap_or_default();
        if let Some(live) = &mut self.live
            && trial.status.is_over()
        {
            live.ended(trial.number, steps);
        }
    }

    fn looked(&mut self, running: &[Running]) -> Vec<(u64, String)> {
        let ends = match &mut self.live {
            Some(live) => live.look(running),
            None => Vec::new(),
        };
        self.print_predictions(running);
        let states: Vec<_> = running.iter().map(|trial| self.state(trial)).collect();
        self.bar.set_message(states.join("  "));
        for trial in running {
            if let Some(steps) = trial.steps {
                self.steps.insert(trial.trial.number, steps);
            }
        }
        ends
    }
}

/// Returns the values of a trial in short form.
fn settings(trial: &Trial) -> String {
    let mut settings = Vec::new();
    for (key, value) in &trial.values {
        settings.push(format!("{key}={}", short(value)));
    }
    settings.join(" ")
}

fn short(value: &Value) -> String {
    match value.as_f64() {
        Some(number) if value.is_f64() => format!("{number:.3e}"),
        _ => value.to_string().replace('"', ""),
    }
}
