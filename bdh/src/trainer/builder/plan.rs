//! The plan of a run, made before it begins.

use super::{TrainerConfig, metrics_of};
use crate::cadence::{Cadence, CadenceError};
use crate::clock::Clock;
use crate::error::ConfigError;
use crate::hook::Hooks;
use crate::optim::Optimizers;
use crate::params::ParamTable;
use crate::plan::{Metrics, Plan, PlanRow, check_keys};
use crate::task::{BatchSize, Task};
use crate::trainer::builder::settings::Settings;
use crate::trainer::callbacks::Callbacks;
use crate::trainer::checkpoint_name;

impl<T: Task> TrainerConfig<T> {
    /// Predicts the run.
    pub(super) fn plan(
        &self,
        settings: &Settings,
        table: &ParamTable,
        optimizers: &Optimizers,
        callbacks: &Callbacks,
        own_keys: &[String],
    ) -> Result<Plan, ConfigError> {
        let per_step = self
            .task
            .batch_size()
            .map(|size| self.clock_of_one_step(size));
        let row = |name: &str, hooks, cadence: &Cadence, keys: &[&str]| {
            let keys = keys.iter().map(ToString::to_string).collect();
            let row = PlanRow::new(
                name,
                hooks,
                cadence.clone(),
                keys,
                per_step.as_ref(),
                self.steps,
            );
            check_cadence(name, cadence, per_step.as_ref(), self.steps).map(|()| row)
        };
        // Step 0 is no step of training: it has an eval and a checkpoint, but no loss and no hooks.
        let of_training = |mut row: PlanRow| {
            row.firings
                .iter_mut()
                .for_each(|firings| firings.retain(|step| *step > 0));
            let is_idle = row.firings.as_ref().is_some_and(Vec::is_empty);
            if is_idle && row.cadence != Cadence::Never && !row.is_passive() {
                return Err(only_at_the_start(&row, self.steps));
            }
            Ok(row)
        };
        let mut rows = vec![
            row("record", Hooks::NONE, &settings.log, &["train/loss", "lr"])
                .and_then(of_training)
                .and_then(|_| {
                    row(
                        "record",
                        Hooks::NONE,
                        &settings.record,
                        &["train/loss", "lr"],
                    )
                })
                .and_then(of_training)?,
            row("eval", Hooks::NONE, &settings.eval, &["val/*"])?,
            row("checkpoint", Hooks::NONE, &settings.checkpoint, &[])?,
        ];
        for callback in callbacks.iter() {
            let keys = callback.keys();
            let keys: Vec<_> = keys.iter().map(String::as_str).collect();
            let row = row(
                &callback.name(),
                callback.hooks(),
                &callback.cadence(),
                &keys,
            )?;
            rows.push(of_training(row)?);
        }
        let find_metrics = || metrics_of(&self.task, &self.model);
        let metrics = Metrics::new(&find_metrics);
        check_keys(&rows, own_keys, &metrics)?;
        let mut plan = Plan {
            steps: self.steps,
            grad_accum_steps: self.grad_accum_steps,
            devices: settings.devices,
            clip_grad_norm: self.clip_grad_norm,
            params: (table.len(), table.num_elements()),
            groups: optimizers.describe(table),
            files: self.files(callbacks, &rows[2]),
            rows,
            interventions: self.interventions.iter().map(|i| i.name()).collect(),
            sinks: self.sinks.iter().map(|sink| sink.name()).collect(),
            notes: self.notes(optimizers, table),
        };
        callbacks.check(&mut plan, self.run_dir.is_some(), &metrics)?;
        Ok(plan)
    }

    /// Settings of the trainer's own that have no effect.
    fn notes(&self, optimizers: &Optimizers, table: &ParamTable) -> Vec<String> {
        let mut notes = Vec::new();
        let evals = self.eval.as_ref().filter(|eval| **eval != Cadence::Never);
        if let Some(eval) = evals.filter(|_| self.task.val_batches().is_empty()) {
            notes.push(format!(
                "`eval` is `{eval}`, but nothing is evaluated: the task has no validation batches (a text shorter \
                 than one window makes none)"
            ));
        }
        let groups = optimizers
            .describe(table)
            .into_iter()
            .map(|group| group.schedule.warmup());
        let warmups: Vec<u64> = groups.filter(|warmup| *warmup > self.steps).collect();
        if let Some(longest) = warmups.iter().max() {
            let (count, steps) = (warmups.len(), self.steps);
            let groups = if count == 1 {
                "1 group".to_owned()
            } else {
                format!("{count} groups")
            };
            notes.push(format!(
                "{groups} will not reach the peak learning rate: {longest} updates of warmup, {steps} steps"
            ));
        }
        let saves = self.checkpoint != Cadence::Never || self.resume.is_some();
        if saves && self.task.position().is_null() {
            notes.push(
                "no checkpoint of this run can be resumed: the task does not say where its data stands \
                 (`Task::position`)"
                    .to_owned(),
            );
        }
        notes
    }

    /// What one step of micro-batches of this size adds to the clock.
    fn clock_of_one_step(&self, size: BatchSize) -> Clock {
        let micro_batches = self.grad_accum_steps as u64;
        Clock {
            step: 1,
            micro_batches,
            tokens: size.tokens as u64 * micro_batches,
            samples: size.samples as u64 * micro_batches,
            ..Clock::default()
        }
    }

    fn files(&self, callbacks: &Callbacks, checkpoints: &PlanRow) -> Vec<String> {
        if self.run_dir.is_none() {
            return Vec::new();
        }
        let firings = checkpoints.firings.iter().flatten();
        let newest = firings.rev().take(self.keep_checkpoints.max(1));
        let mut files = vec!["run.json".to_owned()];
        files.extend(self.sinks.iter().flat_map(|sink| sink.files()));
        files.extend(newest.map(|step| format!("checkpoints/{}", checkpoint_name(*step))));
        files.extend(
            callbacks
                .iter()
                .flat_map(|callback| callback.files(self.steps)),
        );
        files
    }
}

/// The error for a cadence of something that happens in training, due only before it.
fn only_at_the_start(row: &PlanRow, steps: u64) -> ConfigError {
    let source = CadenceError::NeverFires {
        cadence: row.cadence.to_string(),
        horizon: steps,
        advice: format!("a step from 1 to {steps}; before the first there is nothing to see"),
    };
    ConfigError::Cadence {
        whose: row.name.clone(),
        source,
    }
}

fn check_cadence(
    whose: &str,
    cadence: &Cadence,
    per_step: Option<&Clock>,
    steps: u64,
) -> Result<(), ConfigError> {
    // Where the size of a batch is not known beforehand, cadences by tokens get the benefit of the doubt.
    let plenty = Clock {
        step: 1,
        tokens: 1 << 32,
        samples: 1 << 32,
        ..Clock::default()
    };
    cadence
        .check(per_step.unwrap_or(&plenty), steps)
        .map_err(|source| ConfigError::Cadence {
            whose: whose.to_owned(),
            source,
        })
}
