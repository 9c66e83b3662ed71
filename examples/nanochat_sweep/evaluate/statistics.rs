//! Norms and distributions of a checkpoint's weights and gradients, by a replay.

use super::{EvaluateArgs, converted, data};
use crate::checkpoint::{Origin, Trained};
use crate::data::Shape;
use crate::page::say;
use bdh::checkpoint::Checkpoint;
use bdh::{BoxError, MemorySink, NextToken, Record, Replay, ReplayBuilder};
use bdh_callbacks::{Histograms, Norms};
use bdh_models::nanochat::{Gpt, GptConfig, LearningRates, groups};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

/// Measures what the arguments request, prints the norms, and returns everything as JSON.
pub(super) fn of(args: &EvaluateArgs, trained: &Trained) -> Result<Value, BoxError> {
    let scratch = tempfile::tempdir()?;
    let path = match &trained.checkpoint.origin {
        Origin::Ours(_) => trained.checkpoint.path.clone(),
        Origin::Nanochat(found) => converted::write(trained, found, scratch.path())?,
    };
    let memory = MemorySink::default();
    let replay = builder(args, trained, &path)?.sink(memory.clone());
    replay.build()?.run()?;
    let mut all = serde_json::Map::new();
    for record in memory.records() {
        print_norms(&record);
        if let Value::Object(values) = record.to_json() {
            all.extend(values);
        }
    }
    for key in ["step", "tokens", "elapsed"] {
        all.remove(key); // the clock, which differs between weights and gradients
    }
    Ok(Value::Object(all))
}

/// Configures the replay of one checkpoint.
fn builder(
    args: &EvaluateArgs,
    trained: &Trained,
    path: &Path,
) -> Result<ReplayBuilder<NextToken<Gpt>>, BoxError> {
    let config = &trained.checkpoint.config;
    let task = NextToken::new().vocabulary(Arc::clone(&trained.tokenizer));
    let mut replay = Replay::builder(task, config.init(0, &trained.device)?).checkpoints(path);
    if args.norms {
        replay = replay.callback(norms(config, path)?);
    }
    if args.histograms {
        replay = replay.callback(Histograms::default().gradients(args.gradients));
    }
    if args.gradients {
        let training = data::training_args(args, &trained.checkpoint)?;
        let shape = Shape {
            is_plan: false, // the position is one of the prepared data
            ..data::shape(args, &training, &trained.checkpoint)
        };
        let batches = data::open(&training, trained)?.batches(&shape)?;
        replay = replay.train_data(batches.train).gradients(true);
    }
    Ok(replay)
}

/// Returns the callback that measures the norms of all parameters, and of each group of the optimizers.
fn norms(config: &GptConfig, path: &Path) -> Result<Norms, BoxError> {
    let saved = Checkpoint::read(path)?.model;
    let mut norms = Norms::default();
    for group in groups(config, LearningRates::default(), 0.0, None) {
        let names = saved.keys().filter(|name| group.owns(name));
        let names: Vec<String> = names.cloned().collect();
        if !names.is_empty() {
            norms = norms.group(group.name, names);
        }
    }
    Ok(norms)
}

fn print_norms(record: &Record) {
    for (key, value) in record.scalars() {
        if let Some(name) = key.strip_prefix("train/")
            && name.contains("_norm")
        {
            say(format_args!("{name:<28} {value:.6}"));
        }
    }
}
