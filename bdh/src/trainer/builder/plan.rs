//! The plan of a run, made before it begins.

use super::TrainerConfig;
use crate::cadence::{Cadence, CadenceError};
use crate::clock::{Clock, RunLength};
use crate::error::ConfigError;
use crate::hook::Hooks;
use crate::intervention;
use crate::optim::Optimizers;
use crate::params::ParamTable;
use crate::plan::{Plan, PlanRow, check_keys};
use crate::task::Task;
use crate::trainer::builder::settings::Settings;
use crate::trainer::callbacks::Callbacks;
use crate::trainer::checkpoint_name;
use crate::trainer::eval_sets;
use std::collections::BTreeSet;

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
        let mut plan = Plan {
            steps: settings.steps,
            length: settings.length,
            grad_accum_steps: self.grad_accum_steps,
            devices: settings.devices,
            clip_grad_norm: self.clip_grad_norm,
            params: (table.len(), table.num_elements()),
            tied: table.tied(),
            frozen: Vec::new(),
            groups: optimizers.plan(table, settings.length, &self.clock_of_one_step())?,
            eval_sets: eval_sets::names(&self.eval_sets),
            files: self.files(settings, callbacks, &rows),
            rows,
            interventions: self.interventions.iter().map(|i| i.name()).collect(),
            sinks: self.sinks.iter().map(|sink| sink.name()).collect(),
            notes: self.notes(settings, optimizers, table),
        };
        let has_run_dir = self.run_dir.is_some();
        eval_sets::with_metrics(&self.eval_sets, &self.task, &self.model, |metrics| {
            check_keys(&plan.rows, own_keys, metrics)?;
            callbacks.check(&mut plan, has_run_dir, metrics)?;
            intervention::check(&self.interventions, &mut plan, has_run_dir, metrics)
        })?;
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
        let length = settings.length;
        let row = |name: &str, cadence: &Cadence, keys| {
            self.row(name, Hooks::NONE, cadence, keys, length)
        };
        self.training_row(
            "record",
            Hooks::NONE,
            &settings.log,
            loss_and_lr.clone(),
            length,
        )?;
        let mut rows = vec![
            self.training_row("record", Hooks::NONE, &settings.record, loss_and_lr, length)?,
            row("eval", &settings.eval, self.eval_keys())?,
            row("checkpoint", &settings.checkpoint, Vec::new())?,
        ];
        for set in &self.eval_sets {
            if let Some(cadence) = &set.cadence {
                let keys = vec![format!("{}/*", set.name)];
                let name = format!("eval {}", set.name);
                rows.push(row(&name, cadence, keys)?);
            }
        }
        for callback in callbacks.iter() {
            let (name, cadence) = (callback.name(), callback.cadence());
            rows.push(self.training_row(
                &name,
                callback.hooks(),
                &cadence,
                callback.keys(),
                length,
            )?);
        }
        Ok(rows)
    }

    /// Returns the keys of the eval sets without a cadence of their own.
    fn eval_keys(&self) -> Vec<String> {
        let mut keys = Vec::new();
        for set in &self.eval_sets {
            if set.cadence.is_none() {
                keys.push(format!("{}/*", set.name));
            }
        }
        keys
    }

    /// Makes the row of something that happens only in training.
    fn training_row(
        &self,
        name: &str,
        hooks: Hooks,
        cadence: &Cadence,
        keys: Vec<String>,
        length: RunLength,
    ) -> Result<PlanRow, ConfigError> {
        let mut row = self.row(name, hooks, cadence, keys, length)?;
        // The first step trains nothing: it may have an eval and a checkpoint, but no loss and no hooks.
        keep_from(&mut row, self.first_step() + 1, length)?;
        Ok(row)
    }

    fn row(
        &self,
        name: &str,
        hooks: Hooks,
        cadence: &Cadence,
        keys: Vec<String>,
        length: RunLength,
    ) -> Result<PlanRow, ConfigError> {
        let per_step = self.clock_of_one_step();
        let knows_size = self.train_data.batch_size().is_some() && self.starts_on_a_step(&per_step);
        check_cadence(name, cadence, &per_step, knows_size, length)?;
        let cadence = cadence.clone();
        let mut row = PlanRow::new(name, hooks, cadence, keys, &per_step, knows_size, length);
        keep_from(&mut row, self.first_step(), length)?;
        Ok(row)
    }

    /// Returns the step at which the run starts, which trains nothing.
    fn first_step(&self) -> u64 {
        let start = self.start_from.as_ref();
        start.map_or(0, |start| start.clock.step)
    }

    /// Whether the clock at the start is that of steps of this run: another program's may have had another size.
    fn starts_on_a_step(&self, per_step: &Clock) -> bool {
        let start = self.start_from.as_ref();
        let clock = start.map_or(Clock::default(), |start| start.clock);
        let even = per_step.after(clock.step);
        even.tokens == clock.tokens && even.samples == clock.samples
    }

    /// Returns notes on the trainer's own settings that have no effect.
    fn notes(
        &self,
        settings: &Settings,
        optimizers: &Optimizers,
        table: &ParamTable,
    ) -> Vec<String> {
        let mut notes = Vec::new();
        notes.extend(self.eval_note());
        notes.extend(self.before_eval_note());
        match settings.length {
            RunLength::Steps(steps) => notes.extend(warmup_note(optimizers, table, steps)),
            RunLength::Time(_) => notes.push(TIMED_NOTE.to_owned()),
        }
        notes.extend(self.state_note());
        notes
    }

    fn eval_note(&self) -> Option<String> {
        let eval = self.eval.as_ref()?;
        if *eval == Cadence::Never || !self.has_own_cadences() {
            return None;
        }
        let why = if self.eval_sets.is_empty() {
            "there is no eval: the run has no eval set (`.eval_data`)"
        } else {
            "each eval set has a cadence of its own (`.eval_data_on`)"
        };
        Some(format!("`eval` is `{eval}`, but {why}"))
    }

    fn before_eval_note(&self) -> Option<String> {
        let is_idle = self.checkpoint_before_eval && self.eval_sets.is_empty();
        is_idle
            .then(|| "`checkpoint_before_eval` saves nothing: the run has no eval set".to_owned())
    }

    fn state_note(&self) -> Option<String> {
        let saves = self.checkpoint != Cadence::Never
            || self.checkpoint_before_eval
            || self.resume.is_some();
        if !saves || !self.train_data.state().is_null() {
            return None;
        }
        let note = "no checkpoint of this run can be resumed: the training data does not report its position \
                    (`TrainData::state`), for example because several workers yield its batches in no fixed order";
        Some(note.to_owned())
    }

    /// Returns the clock after one step; without tokens and samples if the size of the batches is not known.
    pub(super) fn clock_of_one_step(&self) -> Clock {
        let micro_batches = self.grad_accum_steps as u64;
        let size = self.train_data.batch_size().unwrap_or_default();
        Clock {
            step: 1,
            micro_batches,
            tokens: size.tokens as u64 * micro_batches,
            samples: size.samples as u64 * micro_batches,
            batches_per_epoch: self.train_data.batches_per_epoch().unwrap_or(0),
            ..Clock::default()
        }
    }

    fn files(&self, settings: &Settings, callbacks: &Callbacks, rows: &[PlanRow]) -> Vec<String> {
        if self.run_dir.is_none() {
            return Vec::new();
        }
        let mut files = vec!["run.json".to_owned()];
        for sink in &self.sinks {
            files.extend(sink.files());
        }
        // Only the newest ones remain at the end of the run.
        let saved = self.saved_steps(rows);
        for step in saved.iter().rev().take(self.keep_checkpoints.max(1)) {
            files.push(format!("checkpoints/{}", checkpoint_name(*step)));
        }
        for callback in callbacks.iter() {
            files.extend(callback.files(settings.steps));
        }
        files
    }

    /// Returns the steps on which the trainer saves a checkpoint of its own, as far as they are known.
    fn saved_steps(&self, rows: &[PlanRow]) -> BTreeSet<u64> {
        let mut steps = BTreeSet::new();
        steps.extend(rows[CHECKPOINTS].firings.iter().flatten());
        if self.checkpoint_before_eval {
            for row in rows.iter().filter(|row| row.is_eval()) {
                // The first step has no update to lose.
                let firings = row.firings.iter().flatten();
                steps.extend(firings.filter(|step| **step > self.first_step()));
            }
        }
        steps
    }
}

/// Removes the firings before a step from a row. A cadence that has only such firings is refused.
fn keep_from(row: &mut PlanRow, first: u64, length: RunLength) -> Result<(), ConfigError> {
    let Some(firings) = &mut row.firings else {
        return Ok(());
    };
    let before = firings.len();
    firings.retain(|step| *step >= first);
    let has_lost_all = firings.is_empty() && before > 0;
    if has_lost_all && !row.is_passive() {
        return Err(only_before(row, first, length.steps().unwrap_or(0)));
    }
    Ok(())
}

/// Returns the error of a cadence that is due only before a step, where the run does not train.
fn only_before(row: &PlanRow, first: u64, steps: u64) -> ConfigError {
    let source = CadenceError::NeverFires {
        cadence: row.cadence.to_string(),
        num_steps: steps,
        advice: format!(
            "use a step from {first} to {steps}; nothing is trained before step {first}"
        ),
    };
    ConfigError::Cadence {
        whose: row.name.clone(),
        source,
    }
}

const TIMED_NOTE: &str = "the run is limited by time: its steps, and the steps of cadences with shares or `last`, \
                          are not known before it, and another run of it gives other results";

fn warmup_note(optimizers: &Optimizers, table: &ParamTable, steps: u64) -> Option<String> {
    let (mut count, mut longest) = (0, 0);
    for group in optimizers.describe(table) {
        let warmup = group.schedule.warmup();
        if warmup > steps {
            count += 1;
            longest = longest.max(warmup);
        }
    }
    let groups = match count {
        0 => return None,
        1 => "1 group".to_owned(),
        _ => format!("{count} groups"),
    };
    Some(format!(
        "{groups} will not reach the peak learning rate: the warmup takes {longest} updates, the run {steps} steps"
    ))
}

fn check_cadence(
    whose: &str,
    cadence: &Cadence,
    per_step: &Clock,
    knows_size: bool,
    length: RunLength,
) -> Result<(), ConfigError> {
    // If the batch size is not known beforehand, a cadence on tokens is assumed to fire.
    let plenty = Clock {
        tokens: 1 << 32,
        samples: 1 << 32,
        ..*per_step
    };
    let per_step = if knows_size { per_step } else { &plenty };
    cadence
        .check(per_step, length)
        .map_err(|source| ConfigError::Cadence {
            whose: whose.to_owned(),
            source,
        })
}
