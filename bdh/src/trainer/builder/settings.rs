//! Settings of a run: those the loop reads, and all of them as saved.

use super::TrainerConfig;
use crate::cadence::Cadence;
use crate::clock::{RunLength, Span};
use crate::error::ConfigError;
use crate::feedback::Feedback;
use crate::optim::{Group, Optimizers};
use crate::params::ParamTable;
use crate::run::RunInfo;
use crate::task::Task;
use crate::trainer::callbacks::Callbacks;
use crate::trainer::{eval_sets, start};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::path::Path;
use std::time::Duration;

/// Settings that the training loop reads.
#[derive(Debug, Clone, Serialize)]
pub(in crate::trainer) struct Settings {
    /// 0 if the run is limited by time.
    pub(in crate::trainer) steps: u64,
    /// Limit of the training time, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    // equal to configurations saved before timed runs existed
    pub(in crate::trainer) seconds: Option<f64>,
    #[serde(skip)]
    pub(in crate::trainer) length: RunLength,
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
    #[serde(skip)]
    pub(in crate::trainer) checkpoint_before_eval: bool,
    pub(in crate::trainer) keep_checkpoints: usize,
    pub(in crate::trainer) seed: u64,
}

impl<T: Task> TrainerConfig<T> {
    pub(super) fn settings(&self) -> Result<Settings, ConfigError> {
        let length = self.length()?;
        if let Some(start) = &self.start_from {
            start::check_length(&start.clock, length)?;
        }
        Ok(Settings {
            steps: length.steps().unwrap_or(0),
            seconds: match length {
                RunLength::Time(limit) => Some(limit.as_secs_f64()),
                RunLength::Steps(_) => None,
            },
            length,
            grad_accum_steps: self.grad_accum_steps,
            devices: self.devices.len().max(1),
            check_replicas: self.check_replicas.clone(),
            clip_grad_norm: self.clip_grad_norm,
            log: self.log.clone(),
            record: with_last(&self.log),
            eval: match &self.eval {
                _ if self.has_own_cadences() => Cadence::Never,
                Some(cadence) => cadence.clone(),
                None => Cadence::Last,
            },
            checkpoint: self.checkpoint.clone(),
            checkpoint_before_eval: self.checkpoint_before_eval,
            keep_checkpoints: self.keep_checkpoints,
            seed: self.seed,
        })
    }

    /// Whether no eval set is evaluated on the `eval` cadence, because each has its own or there is none.
    pub(super) fn has_own_cadences(&self) -> bool {
        self.eval_sets.iter().all(|set| set.cadence.is_some())
    }

    /// Returns the length of the run, in steps or as a time.
    fn length(&self) -> Result<RunLength, ConfigError> {
        let duration = self.duration;
        let refused = |problem: &str| ConfigError::invalid("duration", duration, problem);
        let length = match duration {
            Span::Time(limit) => RunLength::Time(limit),
            Span::Fraction(_) => {
                return Err(refused("a run has no share of itself as length; use steps"));
            }
            counted => match counted.resolve_steps(&self.clock_of_one_step()) {
                Some(steps) => RunLength::Steps(steps),
                None => return Err(refused(why_unknown(counted))),
            },
        };
        match length {
            RunLength::Steps(0) => Err(refused("a run takes at least 1 step")),
            RunLength::Time(Duration::ZERO) => Err(refused("a run takes some time")),
            length => Ok(length),
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
        let mut config = json!({
            "trainer": settings,
            "groups": groups,
            "interventions": self.intervention_configs(),
            "callbacks": callbacks.configs(),
            "parameters": table.num_elements(),
            "user": self.config,
        });
        if !self.freezes.is_empty() {
            config["freeze"] = json!(self.freezes); // absent otherwise, as in runs saved before freezing existed
        }
        RunInfo {
            eval_sets: eval_sets::names(&self.eval_sets),
            ..info(self.run_dir.as_deref(), settings.length, self.seed, config)
        }
    }

    fn intervention_configs(&self) -> Map<String, Value> {
        let mut configs = Map::new();
        for intervention in &self.interventions {
            configs.insert(intervention.name(), intervention.config());
        }
        configs
    }
}

/// Returns the reason why a duration cannot be converted to steps.
fn why_unknown(duration: Span) -> &'static str {
    match duration {
        Span::Epochs(_) => {
            "the training data does not know the length of an epoch (`TrainData::batches_per_epoch`); use steps"
        }
        _ => {
            "the training data does not know the size of its batches (`TrainData::batch_size`); use steps"
        }
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
    length: RunLength,
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
        steps: length.steps().unwrap_or(0),
        length,
        seed,
        config,
        eval_sets: Vec::new(),
        resumed_at: None,
        resumed_record: None,
        notes: Vec::new(),
        started_at: crate::clock::now(),
        feedback: Feedback::default(),
    }
}
