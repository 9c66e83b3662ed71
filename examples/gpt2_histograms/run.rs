//! From arguments to a trained model in a run directory.

use crate::args::{Args, MAY_CHANGE};
use crate::data::{self, Data};
use crate::log_txt::LogTxt;
use crate::setup::Setup;
use bdh::cadence::{every, last, start};
use bdh::{BoxError, NextToken, Outcome, Resume, StopReason, TrainResult, Trainer, TrainerBuilder};
use bdh_callbacks::{
    Histograms, Norms, Overlay, ParamFilter, Samples, TensorBoard, Throughput, UpdateRatios,
};
use bdh_examples::args::may_change;
use bdh_examples::page::say;
use bdh_examples::program;
use bdh_examples::run_dir::RunDir;
use bdh_models::gpt2::{Gpt2, Gpt2Config, groups, schedule};
use bdh_models::hellaswag::{HellaSwag, HellaSwagMetric};
use serde_json::json;
use std::path::Path;
use std::process::ExitCode;

/// Texts that samples continue; the first is build-nanogpt's.
const PROMPTS: [&str; 4] = [
    "Hello, I'm a language model,",
    "The capital of France is",
    "Once upon a time",
    "The meaning of life is",
];
/// Number of tokens of a sample, and of the likeliest tokens to sample from. Source: build-nanogpt.
const SAMPLE_TOKENS: usize = 32;
const SAMPLE_TOP_K: usize = 50;

type Task = NextToken<Gpt2>;

/// Trains the run of the command line, or prints its plan.
pub(crate) fn main(args: &Args) -> Result<ExitCode, BoxError> {
    // Errors that are cheap to find come first: flags, directory, shards, model, text.
    args.hardware.open()?;
    args.grad_accum_steps()?;
    let dir = run_dir(args)?;
    if let Some(complete) = dir.complete(args.length(), args.length_flag()) {
        say(complete);
        return Ok(ExitCode::SUCCESS);
    }
    let shards = data::shards(args)?;
    let setup = Setup::of(args, shards.as_ref())?;
    let data = Data::load(args, shards)?;
    let dir = if args.dry_run { dir } else { dir.claim()? };
    let trainer = compose(args, &setup, &data, &dir)?.build()?;
    print_before(args, &setup, &data, &dir);
    if args.dry_run {
        say(trainer.plan());
        return Ok(ExitCode::SUCCESS);
    }
    let result = program::fit(trainer)?;
    print_after(&result, &dir);
    Ok(program::exit_code(&result.outcome))
}

/// Chooses a new directory for the run, or that of the run to resume.
fn run_dir(args: &Args) -> Result<RunDir, BoxError> {
    let name = args
        .log_dir
        .file_name()
        .ok_or("--log-dir needs a name, such as log")?;
    let parent = args.log_dir.parent().unwrap_or(Path::new(""));
    RunDir::choose(parent, &name.to_string_lossy(), false, args.resume)
}

/// Builds the run of arguments, model and data.
fn compose(
    args: &Args,
    setup: &Setup,
    data: &Data,
    dir: &RunDir,
) -> Result<TrainerBuilder<Task>, BoxError> {
    let mut task = NextToken::new();
    if let Some(words) = &setup.words {
        task = task.vocabulary(words.clone());
    }
    let val = data.val(args, setup.vocabulary())?;
    let mut builder = Trainer::builder(task, model(args, &setup.config)?)
        .train_data(data.train(args, setup.vocabulary())?)
        .duration(args.length())
        .grad_accum_steps(args.grad_accum_steps()?)
        .seed(args.seed)
        .clip_grad_norm(1.0)
        .eval(start() | every(args.eval_freq) | last())
        .checkpoint(every(args.save_every) | last())
        .callback(Norms::default())
        .callback(Throughput::default())
        .callback(samples(args, setup))
        .callback(hellaswag(args, setup, val.is_some())?);
    if let Some(val) = val {
        builder = builder.eval_data("val", val);
    }
    if dir.resumes {
        let mut allowed = args.allow_changed.clone();
        allowed.extend(MAY_CHANGE.map(str::to_owned));
        builder = builder
            .resume(Resume::Auto)
            .allow_changed(may_change(&allowed));
    }
    let builder = with_histograms(builder, args)
        .sink(TensorBoard::default())
        .sink(LogTxt::default())
        .run_dir(dir.path.clone())
        .config(json!({ "args": args, "model": setup.config, "text": data.identity() }));
    let lr = schedule(args.max_lr, args.warmup_steps);
    let [decay, no_decay] = groups(args.weight_decay as f32, lr);
    Ok(args.hardware.share(builder)?.group(decay).group(no_decay))
}

/// Loads the weights of `--weights`, or draws new ones.
fn model(args: &Args, config: &Gpt2Config) -> Result<Gpt2, BoxError> {
    let device = &args.hardware.open()?[0];
    match &args.weights {
        Some(weights) => Ok(config.load(weights, device)?),
        None => Ok(config.init(args.seed, device)?),
    }
}

/// Returns the callback of samples, if there is a tokenizer.
fn samples(args: &Args, setup: &Setup) -> Option<Samples> {
    setup.words.as_ref()?;
    let samples = Samples::default()
        .on(every(args.sample_every) | last())
        .prompts(PROMPTS)
        .max_tokens(SAMPLE_TOKENS)
        .top_k(SAMPLE_TOP_K);
    Some(samples.max_context(setup.config.block_size))
}

/// Returns the callback of HellaSwag, if the flags request it.
fn hellaswag(
    args: &Args,
    setup: &Setup,
    has_val: bool,
) -> Result<Option<HellaSwagMetric>, BoxError> {
    let Some(path) = &args.hellaswag else {
        return Ok(None);
    };
    if !has_val {
        return Err(
            "--hellaswag runs with the validation, and the data has no validation shards: add one"
                .into(),
        );
    }
    let vocabulary = setup.vocabulary().ok_or(
        "--hellaswag needs a tokenizer, which token shards lack: give the directory of GPT-2's with --tokenizer",
    )?;
    let items = HellaSwag::open(path, vocabulary, setup.config.block_size)?;
    let on = start() | every(args.hellaswag_every) | last();
    Ok(Some(HellaSwagMetric::new(items, args.batch_size, on)))
}

/// Adds the callbacks of histograms, overlays and update ratios, for the same parameters and steps.
fn with_histograms(builder: TrainerBuilder<Task>, args: &Args) -> TrainerBuilder<Task> {
    let on = every(args.histogram_freq) | last();
    let mut params = ParamFilter::representative();
    if let Some(most) = args.max_histograms {
        params = params.limit(most);
    }
    let histograms = Histograms::default().params(params.clone()).on(on.clone());
    let overlay = Overlay::default().params(params.clone()).on(on.clone());
    let ratios = UpdateRatios::default().params(params).on(on);
    builder
        .callback(histograms)
        .callback(overlay)
        .callback(ratios)
}

fn print_before(args: &Args, setup: &Setup, data: &Data, dir: &RunDir) {
    say(format_args!("text     {data}"));
    say(format_args!(
        "model    {} parameters, {} tokens",
        setup.config.num_params(),
        setup.config.vocab_size
    ));
    say(format_args!(
        "run      {} on {}\n",
        dir.path.display(),
        args.hardware
    ));
}

fn print_after(result: &TrainResult<Gpt2>, dir: &RunDir) {
    let path = dir.path.display();
    say(format_args!("\n{}\n", result.overhead));
    say(format_args!(
        "run {}; images are in {path}/histograms, losses in {path}/log.txt",
        result.outcome
    ));
    say(format_args!("tensorboard --logdir={path}"));
    if result.outcome == Outcome::Stopped(StopReason::Signal) {
        say(format_args!("resume it with: --resume --log-dir {path}"));
    }
}
