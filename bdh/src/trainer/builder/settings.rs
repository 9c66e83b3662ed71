//! The settings of a run: those that the loop goes by, and all of them as they are saved.

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

/// The settings that the loop goes by.
#[derive(Debug, Clone, Serialize)]
pub(in crate::trainer) struct Settings {
    pub(in crate::trainer) steps: u64,
    pub(in crate::trainer) grad_accum_steps: usize,
    #[serde(skip_serializing_if = "is_one")] // as in runs of versions that knew one device
    pub(in crate::trainer) devices: usize,
    #[serde(skip)]
    pub(in crate::trainer) check_replicas: Cadence,
    pub(in crate::trainer) clip_grad_norm: Option<f64>,
    pub(in crate::trainer) log: Cadence,
    /// When the trainer's own values are recorded: as `log` says, and on the last step.
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
        let groups = optimizers.describe(table).into_iter();
        let groups = groups.map(|group| (group.name.clone(), json!(group)));
        let interventions = self.interventions.iter().map(|i| (i.name(), i.config()));
        let config = json!({
            "trainer": settings,
            "groups": groups.collect::<Map<_, _>>(),
            "interventions": interventions.collect::<Map<_, _>>(),
            "callbacks": callbacks.configs(),
            "parameters": table.num_elements(),
            "user": self.config,
        });
        info(self.run_dir.as_deref(), self.steps, self.seed, config)
    }
}

/// A cadence of records, and the last step, whose values tables of runs compare.
fn with_last(log: &Cadence) -> Cadence {
    match log {
        Cadence::Never => Cadence::Never,
        every if *every == Cadence::EVERY_STEP => every.clone(),
        some => some.clone() | Cadence::Last,
    }
}

/// The keys that the trainer itself records, but for the metrics of an eval.
pub(super) fn own_keys(groups: &[Group]) -> Vec<String> {
    let of_groups = groups.iter().map(|group| format!("lr/{}", group.name()));
    let own = ["train/loss", "train/skipped", "lr"].map(str::to_owned);
    own.into_iter()
        .chain(of_groups.filter(|_| groups.len() > 1))
        .collect()
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands out references"
)]
fn is_one(count: &usize) -> bool {
    *count == 1
}

/// What the sinks are told of a run that begins.
pub(in crate::trainer) fn info(
    dir: Option<&Path>,
    steps: u64,
    seed: u64,
    config: Value,
) -> RunInfo {
    let dir_name = dir.and_then(Path::file_name);
    RunInfo {
        name: dir_name.map_or("unnamed".into(), |name| name.to_string_lossy().into_owned()),
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
