//! Data on which a checkpoint is evaluated.

use super::EvaluateArgs;
use crate::checkpoint::{AnyCheckpoint, Origin, Trained};
use crate::data::{BoxEval, RunData, Shape, Source};
use bdh::BoxError;
use bdh_data::{Documents, NanochatEval, Packing};
use bdh_examples::args::{self, Args};
use bdh_examples::nanochat_home::NanochatHome;
use bdh_models::nanochat::NanochatCheckpoint;
use std::path::Path;
use std::sync::Arc;

/// Validation batches with the name of their data.
pub(super) struct Val {
    pub(super) name: String,
    pub(super) batches: BoxEval,
}

/// Returns the validation batches of the arguments, or those of the training.
pub(super) fn val(evaluate: &EvaluateArgs, trained: &Trained) -> Result<Val, BoxError> {
    let args = training_args(evaluate, &trained.checkpoint)?;
    let shape = shape(evaluate, &args, &trained.checkpoint);
    let path = evaluate.data.as_deref().map(Path::new);
    if let Some(path) = path.filter(|path| is_documents(path)) {
        let documents = Documents::open(path)?;
        let tokenizer = Arc::clone(&trained.tokenizer);
        let batches = NanochatEval::new(
            documents,
            tokenizer,
            shape.rows,
            shape.seq_len,
            shape.whole_eval_tokens(),
        )?;
        return Ok(Val {
            name: path.display().to_string(),
            batches: Box::new(batches),
        });
    }
    let data = open(&args, trained)?;
    Ok(Val {
        name: data.source.to_string(),
        batches: data.val(&shape)?,
    })
}

/// Opens the data of arguments, with the tokenizer of the model.
pub(super) fn open(args: &Args, trained: &Trained) -> Result<RunData, BoxError> {
    RunData::with(Source::open(args)?, Arc::clone(&trained.tokenizer))
}

/// Returns the arguments that describe the data of the training, or other data if it is given.
pub(super) fn training_args(
    evaluate: &EvaluateArgs,
    checkpoint: &AnyCheckpoint,
) -> Result<Args, BoxError> {
    let mut args = match (&checkpoint.origin, checkpoint.args()?) {
        (Origin::Nanochat(found), _) => of_nanochat(found, &checkpoint.path)?,
        (Origin::Ours(_), Some(args)) => args,
        (Origin::Ours(_), None) => args::try_parse_from(["nanochat_sweep"])?,
    };
    if let Some(data) = &evaluate.data {
        args.data = Some(data.clone());
    }
    args.eval_tokens = evaluate.eval_tokens.or(Some(args.eval_tokens()));
    args.quiet = true;
    Ok(args)
}

/// Returns arguments for the data of nanochat's home, in which the checkpoint is.
fn of_nanochat(found: &NanochatCheckpoint, dir: &Path) -> Result<Args, BoxError> {
    let mut args = args::try_parse_from(["nanochat_sweep"])?;
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    if let Some(home) = dir.ancestors().nth(2) {
        let home = NanochatHome {
            dir: home.to_owned(),
        };
        args.data = Some(home.data_dir().to_string_lossy().into_owned());
    }
    args.packing = Packing::Nanochat;
    let tokens = found.meta.user_config["eval_tokens"].as_u64();
    args.eval_tokens = tokens.map(|tokens| tokens as usize);
    Ok(args)
}

/// Returns the sizes of the batches.
pub(super) fn shape(evaluate: &EvaluateArgs, args: &Args, checkpoint: &AnyCheckpoint) -> Shape {
    Shape {
        rows: evaluate.device_batch_size.unwrap_or(checkpoint.micro_batch),
        seq_len: checkpoint.config.sequence_len,
        devices: 1,
        eval_tokens: args.eval_tokens(),
        seed: args.seed,
        is_plan: true,
        is_quiet: true,
    }
}

/// Returns whether a path is a file of documents, such as one shard of nanochat's data.
fn is_documents(path: &Path) -> bool {
    let ending = path.extension().unwrap_or_default();
    path.is_file()
        && ["parquet", "jsonl", "ndjson"]
            .iter()
            .any(|known| ending == *known)
}
