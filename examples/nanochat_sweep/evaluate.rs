//! `nanochat_sweep evaluate`: loss, CORE, samples, norms and distributions of any checkpoint.

mod converted;
mod data;
mod statistics;

use crate::callbacks::{PROMPTS, SAMPLE_TOKENS};
use crate::checkpoint::{Source, Trained};
use crate::core_eval;
use crate::generate::{How, Writer};
use crate::page::{remark, say};
use bdh::{BoxError, NextToken, number};
use bdh_examples::args::values::{count, count_or_all};
use bdh_models::core_eval::Bundle;
use bdh_models::nanochat::Gpt;
use data::Val;
use serde_json::{Map, Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// Evaluates a checkpoint of this program or of nanochat: loss on its validation data, and more on request
///
/// Writes the results to evaluate.json in the directory of the run.
#[derive(Debug, clap::Args)]
#[command(next_line_help = true)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub(crate) struct EvaluateArgs {
    #[command(flatten)]
    source: Source,
    /// Data whose validation part is used, or a file of documents to use whole [default: the data of the training]
    #[arg(long, value_name = "DATA")]
    data: Option<String>,
    /// Tokens of the evaluation [default: the run's]
    #[arg(long, value_name = "TOKENS", value_parser = count)]
    eval_tokens: Option<usize>,
    /// Rows in a forward pass [default: the run's]
    #[arg(long, value_name = "ROWS", value_parser = count, visible_alias = "micro-batch")]
    device_batch_size: Option<usize>,
    /// Evaluates CORE on the tasks of a directory: nanochat's eval_bundle, or the folders in its eval_data
    #[arg(long, value_name = "DIR")]
    core_bundle: Option<PathBuf>,
    /// Largest number of items of each CORE task; -1 for all
    #[arg(
        long, value_name = "ITEMS", default_value = "500", value_parser = count_or_all,
        visible_alias = "core-metric-max-per-task"
    )]
    core_max_per_task: usize,
    /// Measures the L2 norms of the weights, by parameter group
    #[arg(long)]
    norms: bool,
    /// Counts the weights in histograms
    #[arg(long)]
    histograms: bool,
    /// Measures the gradients of the next training step too, for --norms and --histograms; needs the training data
    #[arg(long)]
    gradients: bool,
    /// Continues a few short prompts
    #[arg(long)]
    samples: bool,
    /// Prompt to continue, in place of those of --samples; may be given several times
    #[arg(long, value_name = "TEXT")]
    prompt: Vec<String>,
    /// File for the results [default: evaluate.json in the directory of the run, none for nanochat's checkpoints]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Evaluates the checkpoint of the arguments.
pub(crate) fn main(args: &EvaluateArgs) -> Result<ExitCode, BoxError> {
    // Errors that are cheap to find come first: tasks, model, data.
    let bundle = match &args.core_bundle {
        Some(dir) => Some(Bundle::open(dir, args.core_max_per_task)?),
        None => None,
    };
    let trained = args.source.load()?;
    let place = args.place(&trained)?;
    let val = args.val(&trained)?;
    trained.print();
    let mut results = args.evaluate(&trained, val)?;
    if let Some(bundle) = bundle {
        let report = core_eval::evaluate(&trained, &bundle, args.device_batch_size)?;
        say(format_args!("\n{report}"));
        results.insert("core".to_owned(), json!(report));
    }
    if let Some(path) = place {
        save(&path, &Value::Object(results))?;
        say(format_args!("results  {}", path.display()));
    }
    Ok(ExitCode::SUCCESS)
}

impl EvaluateArgs {
    /// Measures everything except CORE.
    fn evaluate(
        &self,
        trained: &Trained,
        val: Option<Val>,
    ) -> Result<Map<String, Value>, BoxError> {
        let mut results = Map::new();
        results.insert("checkpoint".to_owned(), json!(trained.checkpoint.path));
        results.insert("step".to_owned(), json!(trained.checkpoint.step));
        if let Some(val) = val {
            results.extend(loss(trained, &val)?);
        }
        if self.norms || self.histograms {
            let statistics = statistics::of(self, trained)?;
            results.insert("statistics".to_owned(), statistics);
        }
        if self.samples || !self.prompt.is_empty() {
            results.insert("samples".to_owned(), self.write_samples(trained)?);
        }
        Ok(results)
    }

    /// Returns the file of the results, if there is one.
    fn place(&self, trained: &Trained) -> Result<Option<PathBuf>, BoxError> {
        let of_run = || Some(trained.checkpoint.run_dir()?.join("evaluate.json"));
        let path = self.out.clone().or_else(of_run);
        if path.is_none() && self.histograms {
            return Err("--histograms writes to a file: give one with --out FILE".into());
        }
        Ok(path)
    }

    /// Opens the validation data. Data of the training that is gone is a note, not an error.
    fn val(&self, trained: &Trained) -> Result<Option<Val>, BoxError> {
        match data::val(self, trained) {
            Ok(val) => Ok(Some(val)),
            Err(error) if self.data.is_none() => {
                remark(
                    "note",
                    format_args!(
                        "no loss, because the data of the training cannot be used; --data gives other data: {error}"
                    ),
                );
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Continues the prompts greedily, and prints the texts.
    fn write_samples(&self, trained: &Trained) -> Result<Value, BoxError> {
        let writer = Writer::new(trained, &How::greedy(SAMPLE_TOKENS));
        let usual = PROMPTS.map(str::to_owned);
        let prompts = if self.prompt.is_empty() {
            &usual[..]
        } else {
            &self.prompt
        };
        let mut samples = Vec::new();
        for prompt in prompts {
            let text = writer.write(prompt)?.text;
            say(format_args!("sample   {prompt}{text}"));
            samples.push(json!({ "prompt": prompt, "text": text }));
        }
        Ok(Value::Array(samples))
    }
}

/// Measures the loss on validation data, and prints it.
fn loss(trained: &Trained, val: &Val) -> Result<Map<String, Value>, BoxError> {
    say(format_args!("data     {}", val.name));
    let task = NextToken::<Gpt>::new().vocabulary(Arc::clone(&trained.tokenizer));
    let mut results = Map::new();
    for (name, value) in bdh::evaluate(&task, &trained.model, &val.batches)? {
        let key = format!("val_{name}");
        say(format_args!("{key:<16} {value:.6}"));
        results.insert(key, number::to_json(value));
    }
    Ok(results)
}

/// Writes the results, first to another file, so that they are always complete.
fn save(path: &Path, results: &Value) -> Result<(), BoxError> {
    let scratch = path.with_extension("json.tmp");
    fs::write(&scratch, serde_json::to_vec_pretty(results)?)
        .and_then(|()| fs::rename(&scratch, path))
        .map_err(|error| format!("`{}` cannot be written: {error}", path.display()).into())
}
