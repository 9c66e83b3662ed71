//! Lines during and after the run, from its records.

use super::text::{fixed, grouped};
use super::train;
use crate::summary::host_peak;
use bdh::clock::RunLength;
use bdh::{Clock, Record};
use bdh_models::scaling::Recipe;

/// Updates at the beginning whose time does not count: kernels are compiled and caches filled in them.
pub(super) const UNCOUNTED_STEPS: u64 = 11;

/// Lines of a run.
#[derive(Debug)]
pub(super) struct Lines {
    pub(super) length: RunLength,
    tokens_per_step: f64,
    flops_per_token: f64,
    /// Peak of all devices in operations per second.
    peak_flops: Option<f64>,
    /// Values of the latest records, for the end of the run.
    training_time: f64,
    min_val_bpb: Option<f64>,
    peak_memory: Option<f64>,
}

impl Lines {
    pub(super) fn new(recipe: &Recipe, peak_flops: Option<f64>) -> Self {
        Self {
            length: RunLength::Steps(recipe.num_iterations),
            tokens_per_step: recipe.total_batch_size as f64,
            flops_per_token: recipe.flops_per_token(),
            peak_flops,
            training_time: 0.0,
            min_val_bpb: None,
            peak_memory: None,
        }
    }

    /// Returns the lines of a record: of the update, and of the evals after it.
    pub(super) fn of(&mut self, record: &Record) -> Vec<String> {
        self.training_time = record
            .scalar(train::TRAINING_TIME)
            .unwrap_or(self.training_time);
        self.min_val_bpb = record.scalar(train::MIN_BPB).or(self.min_val_bpb);
        self.peak_memory = record.scalar(train::PEAK_MEMORY).or(self.peak_memory);
        let mut lines = Vec::from_iter(self.train_line(record));
        let step = record.clock.step;
        if let Some(bpb) = record.scalar("val/bpb") {
            lines.push(format!(
                "Step {step:05} | Validation bpb: {}",
                fixed(bpb, 6)
            ));
        }
        for (key, value) in record.scalars() {
            if let Some(name) = core_name(key) {
                lines.push(format!(
                    "Step {step:05} | {name} metric: {}",
                    fixed(value, 4)
                ));
            }
        }
        lines
    }

    /// Returns the lines after the last record.
    pub(super) fn at_end(&self) -> Vec<String> {
        let memory = self.peak_memory.or_else(host_peak).unwrap_or(0.0);
        let mut lines = vec![
            format!("Peak memory usage: {memory:.2}MiB"),
            format!("Total training time: {:.2}m", self.training_time / 60.0),
        ];
        if let Some(bpb) = self.min_val_bpb {
            lines.push(format!("Minimum validation bpb: {}", fixed(bpb, 6)));
        }
        lines
    }

    /// Returns the line of an update, if the record has its values.
    fn train_line(&self, record: &Record) -> Option<String> {
        let loss = record.scalar(train::LOSS)?;
        let lrm = record.scalar(train::LRM)?;
        let seconds = record.scalar(train::STEP_TIME)?;
        let place = self.place(&record.clock);
        let rate = self.tokens_per_step / seconds;
        Some(format!(
            "step {place} | loss: {} | lrm: {} | dt: {:.2}ms | tok/sec: {} | bf16_mfu: {:.2} | epoch: {} | \
             total time: {:.2}m{}",
            fixed(loss, 6),
            fixed(lrm, 2),
            seconds * 1000.0,
            grouped(rate as u64),
            self.mfu(rate),
            data_place(record),
            self.training_time / 60.0,
            self.time_left(&record.clock),
        ))
    }

    /// Returns the number of the update, from 0, with the length and the share of the run.
    fn place(&self, clock: &Clock) -> String {
        let step = clock.step.saturating_sub(1);
        match self.length {
            RunLength::Time(_) => format!("{step:05} ({:.2}%)", 100.0 * self.length.share(clock)),
            length => {
                let steps = length.steps().unwrap_or(0);
                let share = 100.0 * step as f64 / steps.max(1) as f64;
                format!("{step:05}/{steps:05} ({share:.2}%)")
            }
        }
    }

    /// Returns the used share of the peak, in percent.
    fn mfu(&self, tokens_per_second: f64) -> f64 {
        match self.peak_flops {
            Some(peak) => 100.0 * self.flops_per_token * tokens_per_second / peak,
            None => 0.0,
        }
    }

    /// Returns the remaining time, from the mean time of a step, as the end of a line; empty until it is known.
    fn time_left(&self, clock: &Clock) -> String {
        let counted = clock.step.saturating_sub(UNCOUNTED_STEPS);
        if counted == 0 {
            return String::new();
        }
        let seconds = match self.length {
            RunLength::Time(limit) => limit.saturating_sub(clock.elapsed).as_secs_f64(),
            length => {
                let left = (length.steps().unwrap_or(0) + 1).saturating_sub(clock.step);
                self.training_time / counted as f64 * left as f64
            }
        };
        format!(" | eta: {:.1}m", seconds / 60.0)
    }
}

/// Returns the epoch, and the position in nanochat's files if it is recorded.
fn data_place(record: &Record) -> String {
    let epoch = record.scalar(train::EPOCH).unwrap_or(1.0);
    match (record.scalar(train::PQ_IDX), record.scalar(train::RG_IDX)) {
        (Some(pq), Some(rg)) => format!("{epoch} pq: {pq} rg: {rg}"),
        _ => format!("{epoch}"),
    }
}

/// Returns the name of a CORE by its key: `CORE`, or `CORE-20` for 20 tasks, which cannot be compared with CORE.
fn core_name(key: &str) -> Option<String> {
    let tasks = key.strip_prefix("core_metric")?;
    if tasks.is_empty() {
        return Some("CORE".to_owned());
    }
    let tasks: usize = tasks.strip_prefix('_')?.parse().ok()?;
    Some(format!("CORE-{tasks}"))
}
