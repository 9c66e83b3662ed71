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

/// Index of the row of checkpoints in the plan.
const CHECKPOINTS: usize = 2;

impl<T: Task> TrainerConfig<T> {
    /// Makes the plan of the run, and checks every cadence and key.
    pub(super) fn plan(
        &self,
        settings: &Settings,
        table: &ParamTable,
        optimizers: &Optimizers,
        callbacks: &Callbacks,
        own_keys: &[String],
    ) -> Result<Plan, ConfigError> {
        let rows = self.rows(settings, callbacks)?;
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
            files: self.files(callbacks, &rows[CHECKPOINTS]),
            rows,
            interventions: self.interventions.iter().map(|i| i.name()).collect(),
            sinks: self.sinks.iter().map(|sink| sink.name()).collect(),
            notes: self.notes(optimizers, table),
        };
        callbacks.check(&mut plan, self.run_dir.is_some(), &metrics)?;
        Ok(plan)
    }

    /// Makes the rows of the trainer itself and of the callbacks.
    fn rows(
        &self,
        settings: &Settings,
        callbacks: &Callbacks,
    ) -> Result<Vec<PlanRow>, ConfigError> {
        let loss_and_lr = ["train/loss", "lr"].map(str::to_owned).to_vec();
        // `log` is checked by itself: `record` also has the last step, so it always fires.
        self.training_row("record", Hooks::NONE, &settings.log, loss_and_lr.clone())?;
        let metrics = vec!["val/*".to_owned()];
        let mut rows = vec![
            self.training_row("record", Hooks::NONE, &settings.record, loss_and_lr)?,
            self.row("eval", Hooks::NONE, &settings.eval, metrics)?,
            self.row("checkpoint", Hooks::NONE, &settings.checkpoint, Vec::new())?,
        ];
        for callback in callbacks.iter() {
            let (name, cadence) = (callback.name(), callback.cadence());
            rows.push(self.training_row(&name, callback.hooks(), &cadence, callback.keys())?);
        }
        Ok(rows)
    }

    /// Makes the row of something that happens only in training.
    fn training_row(
        &self,
        name: &str,
        hooks: Hooks,
        cadence: &Cadence,
        keys: Vec<String>,
    ) -> Result<PlanRow, ConfigError> {
        let mut row = self.row(name, hooks, cadence, keys)?;
        let Some(firings) = &mut row.firings else {
            return Ok(row);
        };
        // Step 0 trains nothing: it may have an eval and a checkpoint, but no loss and no hooks.
        firings.retain(|step| *step > 0);
        if firings.is_empty() && row.cadence != Cadence::Never && !row.is_passive() {
            return Err(only_at_the_start(&row, self.steps));
        }
        Ok(row)
    }

    fn row(
        &self,
        name: &str,
        hooks: Hooks,
        cadence: &Cadence,
        keys: Vec<String>,
    ) -> Result<PlanRow, ConfigError> {
        let size = self.task.batch_size();
        let first_clock = size.map(|size| self.clock_of_one_step(size));
        let per_step = first_clock.as_ref();
        check_cadence(name, cadence, per_step, self.steps)?;
        let cadence = cadence.clone();
        Ok(PlanRow::new(
            name, hooks, cadence, keys, per_step, self.steps,
        ))
    }

    /// Returns notes on the trainer's own settings that have no effect.
    fn notes(&self, optimizers: &Optimizers, table: &ParamTable) -> Vec<String> {
        let mut notes = Vec::new();
        notes.extend(self.eval_note());
        notes.extend(self.warmup_note(optimizers, table));
        notes.extend(self.position_note());
        notes
    }

    fn eval_note(&self) -> Option<String> {
        let eval = self.eval.as_ref()?;
        if *eval == Cadence::Never || !self.task.val_batches().is_empty() {
            return None;
        }
        Some(format!(
            "`eval` is `{eval}`, but there is no eval: the task has no validation batches (a text shorter than one \
             window gives none)"
        ))
    }

    fn warmup_note(&self, optimizers: &Optimizers, table: &ParamTable) -> Option<String> {
        let (mut count, mut longest) = (0, 0);
        for group in optimizers.describe(table) {
            let warmup = group.schedule.warmup();
            if warmup > self.steps {
                count += 1;
                longest = longest.max(warmup);
            }
        }
        let groups = match count {
            0 => return None,
            1 => "1 group".to_owned(),
            _ => format!("{count} groups"),
        };
        let steps = self.steps;
        Some(format!(
            "{groups} will not reach the peak learning rate: the warmup takes {longest} updates, the run {steps} steps"
        ))
    }

    fn position_note(&self) -> Option<String> {
        let saves = self.checkpoint != Cadence::Never || self.resume.is_some();
        if !saves || !self.task.position().is_null() {
            return None;
        }
        let note = "no checkpoint of this run can be resumed: the task does not report its data position \
                    (`Task::position`)";
        Some(note.to_owned())
    }

    /// Returns the clock after one step of micro-batches of this size.
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
        let mut files = vec!["run.json".to_owned()];
        for sink in &self.sinks {
            files.extend(sink.files());
        }
        // Only the newest ones remain at the end of the run.
        let firings = checkpoints.firings.iter().flatten();
        for step in firings.rev().take(self.keep_checkpoints.max(1)) {
            files.push(format!("checkpoints/{}", checkpoint_name(*step)));
        }
        for callback in callbacks.iter() {
            files.extend(callback.files(self.steps));
        }
        files
    }
}

/// Returns the error of a cadence that is due only on step 0, where nothing is trained.
fn only_at_the_start(row: &PlanRow, steps: u64) -> ConfigError {
    let source = CadenceError::NeverFires {
        cadence: row.cadence.to_string(),
        num_steps: steps,
        advice: format!("a step from 1 to {steps}; nothing is trained before step 1"),
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
    // If the batch size is not known beforehand, a cadence on tokens is assumed to fire.
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
