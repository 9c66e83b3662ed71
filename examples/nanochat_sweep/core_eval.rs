//! `nanochat_sweep core`: evaluation of a finished run on CORE.

use crate::checkpoint::{Source, Trained};
use crate::page::{remark, say};
use bdh::{BoxError, CausalLm, lm};
use bdh_examples::args::values::{count, count_or_all};
use bdh_models::core_eval::{Bundle, Evaluator, Report, TaskScore, core_from_bpb};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// Evaluates a checkpoint on CORE, prints a table, and writes core.json to the run's directory
#[derive(Debug, clap::Args)]
#[command(next_line_help = true)]
pub(crate) struct CoreArgs {
    #[command(flatten)]
    source: Source,
    /// Directory with CORE's tasks: nanochat's eval_bundle, or the folders in its eval_data
    #[arg(long, value_name = "DIR", visible_alias = "core-bundle")]
    bundle: PathBuf,
    /// Largest number of items of each task; -1 for all
    #[arg(
        long, value_name = "ITEMS", default_value = "500", value_parser = count_or_all,
        visible_alias = "core-metric-max-per-task"
    )]
    core_max_per_task: usize,
    /// Rows in a forward pass [default: the run's]
    #[arg(long, value_name = "ROWS", value_parser = count, visible_alias = "micro-batch")]
    device_batch_size: Option<usize>,
}

/// Evaluates the run of the arguments.
pub(crate) fn main(args: &CoreArgs) -> Result<ExitCode, BoxError> {
    // Errors that are cheap to find come first: tasks, run, model.
    let bundle = Bundle::open(&args.bundle, args.core_max_per_task)?;
    let trained = args.source.load()?;
    trained.print();
    let began = Instant::now();
    let report = evaluate(&trained, &bundle, args.device_batch_size)?;
    say(format_args!("\n{report}"));
    let seconds = began.elapsed().as_secs_f64();
    match trained.checkpoint.run_dir() {
        Some(dir) => {
            let path = save(dir, args, &trained, &report)?;
            say(format_args!("{} in {seconds:.1} s", path.display()));
        }
        None => say(format_args!("in {seconds:.1} s")),
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the expected CORE of the best run, from its actual or predicted loss.
pub(crate) fn print_predicted_core(report: &bdh_forecast::Report) {
    let ends = report.runs.iter().filter_map(|run| run.end);
    let predicted = report.predictions.iter().map(|prediction| prediction.value);
    let Some(best) = ends.chain(predicted).min_by(f64::total_cmp) else {
        return;
    };
    match core_from_bpb(best) {
        Ok(core) => say(format_args!(
            "expected CORE of the best val_bpb, {best:.4}: {:.3} ± {:.3}, the noise of seeds",
            core.core, core.floor
        )),
        Err(error) => remark(
            "note",
            format_args!("no CORE from the best val_bpb, {best:.4}: {error}"),
        ),
    }
}

/// Evaluates all tasks, and prints a line after each.
pub(crate) fn evaluate(
    trained: &Trained,
    bundle: &Bundle,
    rows: Option<usize>,
) -> Result<Report, BoxError> {
    let rows = rows.unwrap_or(trained.checkpoint.micro_batch);
    let trained_len = trained.model.config().sequence_len;
    let evaluator = Evaluator {
        vocabulary: &*trained.tokenizer,
        // Like in nanochat, a text may be longer than the sequences of the training.
        context: trained.model.max_context().unwrap_or(trained_len),
        batch_tokens: rows * trained_len,
    };
    say(format_args!("\n{}", TaskScore::COLUMNS));
    let mut scores = Vec::new();
    for task in bundle.tasks() {
        let score = evaluator.evaluate(task, |ids| lm::score(&trained.model, ids))?;
        say(&score);
        scores.push(score);
    }
    Ok(Report::new(scores, bundle.missing()))
}

/// Writes core.json to the directory of the run, first to another file, so that it is always complete.
fn save(
    dir: &Path,
    args: &CoreArgs,
    trained: &Trained,
    report: &Report,
) -> Result<PathBuf, BoxError> {
    let (path, scratch) = (dir.join("core.json"), dir.join(".core.json.tmp"));
    let checkpoint = &trained.checkpoint;
    let file = json!({
        "checkpoint": checkpoint.path.file_name().map(|name| name.to_string_lossy()),
        "step": checkpoint.step,
        "max_per_task": args.core_max_per_task,
        "core": report,
    });
    fs::write(&scratch, serde_json::to_vec_pretty(&file)?)
        .and_then(|()| fs::rename(&scratch, &path))
        .map_err(|error| format!("`{}` cannot be written: {error}", path.display()))?;
    Ok(path)
}
