//! Settings of a run: those the loop reads, and all of them as saved.

use super::TrainerConfig;
use crate::cadence::Cadence;
use crate::feedback::Feedback;
use crate::optim::{Group, Optimizers};
use crate::params::ParamTable;
use crate::run::RunInfo;
use crate::task::Task;
use crate::trainer::callbacks::Callbacks;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::path::Path;

/// Settings that the training loop reads.
#[derive(Debug, Clone, Serialize)]
pub(in crate::trainer) struct Settings {
    pub(in crate::trainer) steps: u64,
    pub(in crate::trainer) grad_accum_steps: usize,
    #[serde(skip_serializing_if = "is_one")]
    // equal to configurations saved before multi-device runs existed
    pub(in crate::trainer) devices: usize,
    #[serde(skip)]
    pub(in crate::trainer) check_replicas: Cadence,
    pub(in crate::trainer) clip_grad_norm: Option<f64>,
    pub(in crate::trainer) log: Cadence,
    /// Steps on which the trainer's own values are recorded: those of `log`, and the last.
    #[serde(skip)]
    pub(in crate::trainer) record: Cadence,
    pub(in crate::trainer) eval: Cadence,
    pub(in crate::trainer) checkpoint: Cadence,
    pub(in crate::trainer) keep_checkpoints: usize,
    pub(in crate::trainer) seed: u64,
}

impl<T: Task> TrainerConfig<T> {
    pub(super) fn settings(&self) -> Settings {
        Settings {
            steps: self.steps,
            grad_accum_steps: self.grad_accum_steps,
            devices: self.devices.len().max(1),
            check_replicas: self.check_replicas.clone(),
            clip_grad_norm: self.clip_grad_norm,
            log: self.log.clone(),
            record: with_last(&self.log),
            eval: match &self.eval {
                _ if self.task.val_batches().is_empty() => Cadence::Never,
                Some(cadence) => cadence.clone(),
                None => Cadence::Last,
            },
            checkpoint: self.checkpoint.clone(),
            keep_checkpoints: self.keep_checkpoints,
            seed: self.seed,
        }
    }

    pub(super) fn info(
        &self,
        settings: &Settings,
        optimizers: &Optimizers,
        table: &ParamTable,
        callbacks: &Callbacks,
    ) -> RunInfo {
        let mut groups = Map::new();
        for group in optimizers.describe(table) {
            groups.insert(group.name.clone(), json!(group));
        }
        let config = json!({
            "trainer": settings,
            "groups": groups,
            "interventions": self.intervention_configs(),
            "callbacks": callbacks.configs(),
            "parameters": table.num_elements(),
            "user": self.config,
        });
        info(self.run_dir.as_deref(), self.steps, self.seed, config)
    }

    fn intervention_configs(&self) -> Map<String, Value> {
        let mut configs = Map::new();
        for intervention in &self.interventions {
            configs.insert(intervention.name(), intervention.config());
        }
        configs
    }
}

/// Adds the last step to a log cadence: tables of runs compare its values.
fn with_last(log: &Cadence) -> Cadence {
    match log {
        Cadence::Never => Cadence::Never,
        every if *every == Cadence::EVERY_STEP => every.clone(),
        some => some.clone() | Cadence::Last,
    }
}

/// Returns the keys that the trainer itself records, without the metrics of an eval.
pub(super) fn own_keys(groups: &[Group]) -> Vec<String> {
    let mut keys = ["train/loss", "train/skipped", "lr"]
        .map(str::to_owned)
        .to_vec();
    if groups.len() > 1 {
        for group in groups {
            keys.push(format!("lr/{}", group.name()));
        }
    }
    keys
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands out references"
)]
fn is_one(count: &usize) -> bool {
    *count == 1
}

/// Returns the description of a new run that the sinks and `run.json` receive.
pub(in crate::trainer) fn info(
    dir: Option<&Path>,
    steps: u64,
    seed: u64,
    config: Value,
) -> RunInfo {
    let name = match dir.and_then(Path::file_name) {
        Some(name) => name.to_string_lossy().into_owned(),
        None => "unnamed".to_owned(),
    };
    RunInfo {
        name,
        dir: dir.map(Path::to_owned),
        steps,
        seed,
        config,
        resumed_at: None,
        resumed_record: None,
        notes: Vec::new(),
        started_at: crate::clock::now(),
        feedback: Feedback::default(),
    }
}
