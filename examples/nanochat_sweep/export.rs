//! `nanochat_sweep export`: a checkpoint as another program reads it.

use crate::checkpoint::{AnyCheckpoint, Origin};
use crate::page::{remark, say};
use bdh::checkpoint::State;
use bdh::{BoxError, Record};
use bdh_data::Tokenizer;
use bdh_models::nanochat::{Meta, export_nanochat};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Writes a checkpoint as nanochat reads it: model_NNNNNN.pt, meta_NNNNNN.json, and the tokenizer
#[derive(Debug, clap::Args)]
#[command(next_line_help = true)]
pub(crate) struct ExportArgs {
    /// Writes nanochat's files, the only format
    #[arg(long)]
    nanochat: bool,
    /// Directory of a run, or of one of its checkpoints
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// Directory to write to, such as base_checkpoints/d12 in nanochat's home
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Step of the checkpoint [default: the newest]
    #[arg(long, value_name = "STEP")]
    step: Option<u64>,
}

/// Exports the checkpoint of the arguments, and prints each path.
pub(crate) fn main(args: &ExportArgs) -> Result<ExitCode, BoxError> {
    if !args.nanochat {
        return Err("the format is missing: nanochat_sweep export --nanochat RUN DIR".into());
    }
    let checkpoint = AnyCheckpoint::open(&args.run, args.step)?;
    let device = bdh::device("cpu")?;
    let model = checkpoint.load(&checkpoint.config, &device)?;
    let meta = meta(&checkpoint);
    let path = export_nanochat(&model, checkpoint.step, &meta, &args.dir)?;
    say(path.display());
    let described = format!("meta_{:06}.json", checkpoint.step);
    say(path.with_file_name(described).display());
    export_tokenizer(&checkpoint, &args.dir)?;
    Ok(ExitCode::SUCCESS)
}

/// Returns the description of a checkpoint, as far as it is known.
fn meta(checkpoint: &AnyCheckpoint) -> Meta {
    let state = match &checkpoint.origin {
        Origin::Nanochat(found) => return found.meta.clone(),
        Origin::Ours(state) => state,
    };
    let user = &state.config["user"];
    let total = user["recipe"]["total_batch_size"].as_u64();
    Meta {
        val_bpb: val_bpb(state),
        user_config: user["args"].clone(),
        device_batch_size: checkpoint.micro_batch,
        max_seq_len: checkpoint.config.sequence_len,
        total_batch_size: total.unwrap_or_default() as usize,
        ..Meta::new(checkpoint.step, &checkpoint.config)
    }
}

/// Returns the validation loss of the checkpoint's step, if it was evaluated there.
fn val_bpb(state: &State) -> Option<f64> {
    Record::from_json(&state.record)?.scalar("val/bpb")
}

/// Writes the tokenizer to the place where nanochat has it. One that is there already stays.
fn export_tokenizer(checkpoint: &AnyCheckpoint, dir: &Path) -> Result<(), BoxError> {
    let tokenizer = checkpoint.tokenizer(None)?;
    let place = place_of_tokenizer(dir);
    if !place.exists() {
        match tokenizer.save_nanochat(&place) {
            Ok(()) => say(place.display()),
            Err(error) => remark("note", format_args!("no tokenizer is written: {error}")),
        }
        return Ok(());
    }
    let is_same = Tokenizer::load(&place).is_ok_and(|found| found.id() == tokenizer.id());
    if !is_same {
        let place = place.display();
        remark(
            "warning",
            format_args!("`{place}` is another tokenizer than the model's, and stays as it is"),
        );
    }
    Ok(())
}

/// Returns the directory of the tokenizer: in nanochat's home, or beside the weights in another directory.
fn place_of_tokenizer(dir: &Path) -> PathBuf {
    let home = match dir.parent() {
        Some(models) if models.file_name() == Some(OsStr::new("base_checkpoints")) => {
            models.parent()
        }
        _ => None,
    };
    home.unwrap_or(dir).join("tokenizer")
}
