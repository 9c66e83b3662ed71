//! `nanochat_sweep core`: evaluation of a finished run on CORE.

use crate::page::{remark, say};
use crate::prepare::Text;
use bdh::burn::tensor::Device;
use bdh::checkpoint::Checkpoint;
use bdh::data::TrainData;
use bdh::device::DeviceSpec;
use bdh::ops::Precision;
use bdh::{BoxError, checkpoint, lm, load_weights};
use bdh_data::{Packed, Tokenizer, passages};
use bdh_examples::args::values::count;
use bdh_examples::args::{self, Args, Hardware, normalize};
use bdh_models::core_eval::{Bundle, Evaluator, Report, TaskScore, core_from_bpb};
use bdh_models::nanochat::{Gpt, GptConfig};
use clap::Args as _;
use serde::Deserialize;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

/// Evaluates the newest checkpoint of a run on CORE, prints a table, and writes core.json to the run's directory
#[derive(Debug, clap::Args)]
#[command(next_line_help = true)]
pub(crate) struct CoreArgs {
    /// Directory of the run
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    /// Directory with CORE's tasks: nanochat's eval_bundle, or the folders in its eval_data
    #[arg(long, value_name = "DIR", visible_alias = "core-bundle")]
    bundle: PathBuf,
    /// Largest number of items of each task
    #[arg(
        long, value_name = "ITEMS", default_value = "500", value_parser = count,
        visible_alias = "core-metric-max-per-task"
    )]
    core_max_per_task: usize,
    /// Rows in a forward pass [default: the run's]
    #[arg(long, value_name = "ROWS", value_parser = count, visible_alias = "micro-batch")]
    device_batch_size: Option<usize>,
    /// Device: cpu, cuda, cuda:0, wgpu, vulkan or metal [default: the fastest of this build]
    #[arg(long, value_name = "DEVICE", visible_alias = "device-type")]
    device: Option<DeviceSpec>,
    /// Precision of activations: f32 or bf16 [default: the run's]
    #[arg(long, value_name = "PRECISION")]
    precision: Option<Precision>,
}

/// Trained model of a run, with its tokenizer.
struct Trained {
    checkpoint: PathBuf,
    step: u64,
    model: Gpt,
    tokenizer: Arc<Tokenizer>,
    /// Sequences in a forward pass of the training.
    micro_batch: usize,
}

/// Returns the arguments of the process, with the flags after `core` in one spelling.
pub(crate) fn normalized(words: Vec<OsString>) -> Vec<OsString> {
    if words.get(1).is_none_or(|word| word != "core") {
        return words;
    }
    let command = CoreArgs::augment_args(clap::Command::new("core"));
    let mut words = words.into_iter();
    let mut normalized: Vec<OsString> = words.next().into_iter().collect(); // the program's name
    normalized.extend(normalize(words.collect(), command));
    normalized
}

/// Evaluates the run of the arguments.
pub(crate) fn main(args: &CoreArgs) -> Result<ExitCode, BoxError> {
    // Errors that are cheap to find come first: tasks, run, text, model.
    let bundle = Bundle::open(&args.bundle, args.core_max_per_task)?;
    let trained = Trained::load(&args.run, args.device.clone(), args.precision)?;
    let precision = trained.model.config().precision;
    let (path, step) = (trained.checkpoint.display(), trained.step);
    say(format_args!("model    {path}, step {step}, in {precision}"));
    let began = Instant::now();
    let report = evaluate(&trained, &bundle, args.device_batch_size)?;
    say(format_args!("\n{report}"));
    let path = save(args, &trained, &report)?;
    say(format_args!(
        "{} in {:.1} s",
        path.display(),
        began.elapsed().as_secs_f64()
    ));
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
fn evaluate(trained: &Trained, bundle: &Bundle, rows: Option<usize>) -> Result<Report, BoxError> {
    let evaluator = Evaluator {
        vocabulary: &*trained.tokenizer,
        context: trained.model.config().sequence_len,
        batch_rows: rows.unwrap_or(trained.micro_batch),
    };
    say(format_args!("\n{}", TaskScore::COLUMNS));
    let mut scores = Vec::new();
    for task in bundle.tasks() {
        let score = evaluator.evaluate(task, |rows| lm::score(&trained.model, rows))?;
        say(&score);
        scores.push(score);
    }
    Ok(Report::new(scores, bundle.missing()))
}

impl Trained {
    /// Loads the model of a run's newest checkpoint, with the settings in the checkpoint.
    ///
    /// The model uses the given precision, or that of the training.
    fn load(
        run: &Path,
        device: Option<DeviceSpec>,
        precision: Option<Precision>,
    ) -> Result<Self, BoxError> {
        let path = checkpoint::latest(&run.join("checkpoints")).ok_or_else(|| {
            format!(
                "`{}` has no complete checkpoint: give the directory of a run",
                run.display()
            )
        })?;
        let state = Checkpoint::read(&path)?.state; // checks all files of the checkpoint
        let args = &state.config["user"]["args"];
        let recipe = &state.config["user"]["recipe"];
        let (Ok(mut config), Some(micro_batch)) = (
            GptConfig::deserialize(&recipe["config"]),
            recipe["micro_batch"].as_u64(),
        ) else {
            let path = path.display();
            return Err(format!("`{path}` is not a checkpoint of nanochat_sweep").into());
        };
        config.precision = precision.unwrap_or(config.precision);
        let device = open(device, config.precision)?;

        let tokenizer = tokenizer(args::from_saved(args)?, &config, &state.data)?;
        let model = load_weights(config.init(0, &device)?, path.join("model.safetensors"))?;
        Ok(Self {
            checkpoint: path,
            step: state.clock.step,
            model,
            tokenizer,
            micro_batch: micro_batch as usize,
        })
    }
}

/// Opens the device, and checks that it supports the precision.
fn open(device: Option<DeviceSpec>, precision: Precision) -> Result<Device, BoxError> {
    let hardware = Hardware {
        device,
        precision: Some(precision),
        ..Hardware::default()
    };
    Ok(hardware.open()?.remove(0))
}

/// Returns the tokenizer of a run. A trained tokenizer is trained again, on the same text.
///
/// The saved `position` identifies the run's text.
fn tokenizer(
    mut args: Args,
    config: &GptConfig,
    position: &Value,
) -> Result<Arc<Tokenizer>, BoxError> {
    let is_bytes = config.vocab_size == Tokenizer::Bytes.vocab_size();
    if is_bytes && args.tokenizer != Some(args::Tokenizer::Bpe) {
        return Ok(Arc::new(Tokenizer::Bytes));
    }
    args.tokenizer = Some(args::Tokenizer::Bpe); // the default depends on the device
    let text = Text::load(&args)?;
    let documents = passages(&text.tokenizer, &text.corpus.train, config.sequence_len + 1);
    let mut data = Packed::new(documents, 1, config.sequence_len, args.seed)?;
    data.load_state(position).map_err(|_| {
        format!(
            "the run was trained on another text than {}",
            text.corpus.origin
        )
    })?;
    Ok(text.tokenizer)
}

/// Writes core.json to the directory of the run, first to another file, so that it is always complete.
fn save(args: &CoreArgs, trained: &Trained, report: &Report) -> Result<PathBuf, BoxError> {
    let (path, scratch) = (args.run.join("core.json"), args.run.join(".core.json.tmp"));
    let file = json!({
        "checkpoint": trained.checkpoint.file_name().map(|name| name.to_string_lossy()),
        "step": trained.step,
        "max_per_task": args.core_max_per_task,
        "core": report,
    });
    fs::write(&scratch, serde_json::to_vec_pretty(&file)?)
        .and_then(|()| fs::rename(&scratch, &path))
        .map_err(|error| format!("`{}` cannot be written: {error}", path.display()))?;
    Ok(path)
}
