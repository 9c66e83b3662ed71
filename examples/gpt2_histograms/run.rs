//! From arguments to a trained model in a run directory.

use crate::args::Args;
use crate::log_txt::LogTxt;
use bdh::cadence::{every, last, start};
use bdh::lm::{RandomCrops, Vocabulary};
use bdh::{BoxError, NextToken, TrainResult, Trainer, TrainerBuilder};
use bdh_callbacks::{
    Histograms, Norms, Overlay, ParamFilter, TensorBoard, Throughput, UpdateRatios,
};
use bdh_data::{Corpus, DataSpec, PlainBytes, Tokenizer, fixed_crops, stream};
use bdh_examples::page::say;
use bdh_examples::program;
use bdh_examples::run_dir::RunDir;
use bdh_models::gpt2::{Gpt2, Gpt2Config, groups, schedule};
use serde_json::json;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

type Task = NextToken<Gpt2>;

/// Trains the run of the command line, or prints its plan.
pub(crate) fn main(args: &Args) -> Result<ExitCode, BoxError> {
    // Errors that are cheap to find come first: flags, directory, text, model.
    args.hardware.open()?;
    let (config, vocabulary) = config_and_vocabulary(args)?;
    let dir = run_dir(&args.log_dir)?;
    let data: DataSpec = args.data.as_deref().unwrap_or_default().parse()?;
    let corpus = data.load()?;
    let dir = if args.dry_run { dir } else { dir.claim()? };
    let trainer = compose(args, &config, vocabulary, &corpus, &dir)?.build()?;
    say(format_args!("text     {corpus}"));
    say(format_args!(
        "model    {} parameters, {} tokens",
        config.num_params(),
        config.vocab_size
    ));
    say(format_args!(
        "run      {} on {}\n",
        dir.path.display(),
        args.hardware
    ));
    if args.dry_run {
        say(trainer.plan());
        return Ok(ExitCode::SUCCESS);
    }
    let result = program::fit(trainer)?;
    print_after(&result, &dir);
    Ok(program::exit_code(&result.outcome))
}

/// Returns the settings of the model and its vocabulary, from a directory of weights or from the flags.
fn config_and_vocabulary(
    args: &Args,
) -> Result<(Gpt2Config, Arc<dyn Vocabulary + Sync>), BoxError> {
    if let Some(dir) = &args.weights
        && dir.join("config.json").exists()
    {
        return pretrained(args, dir);
    }
    let config = args.config(PlainBytes.token_bytes().len());
    config.check()?;
    Ok((config, Arc::new(PlainBytes)))
}

/// Returns the settings and the vocabulary of the model in a directory.
fn pretrained(
    args: &Args,
    dir: &Path,
) -> Result<(Gpt2Config, Arc<dyn Vocabulary + Sync>), BoxError> {
    let config = Gpt2Config {
        precision: args.hardware.precision(),
        ..Gpt2Config::from_dir(dir)?
    };
    if args.block_size > config.block_size {
        return Err(format!(
            "--block-size {} is longer than the {} tokens of the model in `{}`",
            args.block_size,
            config.block_size,
            dir.display()
        )
        .into());
    }
    if config.vocab_size == PlainBytes.token_bytes().len() {
        return Ok((config, Arc::new(PlainBytes)));
    }
    let tokenizer = Tokenizer::gpt2(dir)?;
    if tokenizer.vocab_size() != config.vocab_size {
        return Err(format!(
            "the tokenizer in `{}` has {} tokens, and the model has {}",
            dir.display(),
            tokenizer.vocab_size(),
            config.vocab_size
        )
        .into());
    }
    Ok((config, Arc::new(tokenizer)))
}

/// Chooses a new directory for the run.
fn run_dir(log_dir: &Path) -> Result<RunDir, BoxError> {
    let name = log_dir
        .file_name()
        .ok_or("--log-dir needs a name, such as log")?;
    let parent = log_dir.parent().unwrap_or(Path::new(""));
    RunDir::choose(parent, &name.to_string_lossy(), false, false)
}

/// Builds the run of arguments, model and text.
fn compose(
    args: &Args,
    config: &Gpt2Config,
    vocabulary: Arc<dyn Vocabulary + Sync>,
    corpus: &Corpus,
    dir: &RunDir,
) -> Result<TrainerBuilder<Task>, BoxError> {
    let (rows, seq_len) = (args.batch_size, args.block_size);
    let val = stream(&*vocabulary, &corpus.val);
    let val = fixed_crops(val, rows, seq_len, args.eval_iters)?;
    let train = stream(&*vocabulary, &corpus.train);
    let train = RandomCrops::new(train, rows, seq_len, args.seed)?;
    let task = NextToken::new().vocabulary(vocabulary);
    let mut builder = Trainer::builder(task, model(args, config)?)
        .train_data(train)
        .duration(args.length())
        .grad_accum_steps(args.hardware.count()) // one batch for each device
        .seed(args.seed)
        .clip_grad_norm(1.0)
        .eval(start() | every(args.eval_freq) | last())
        .callback(Norms::default())
        .callback(Throughput::default());
    if !val.is_empty() {
        builder = builder.eval_data("val", val);
    }
    let builder = with_histograms(builder, args)
        .sink(TensorBoard::default())
        .sink(LogTxt::default())
        .run_dir(dir.path.clone())
        .config(json!({ "args": args, "model": config, "text": corpus.name }));
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

fn print_after(result: &TrainResult<Gpt2>, dir: &RunDir) {
    let path = dir.path.display();
    say(format_args!("\n{}\n", result.overhead));
    say(format_args!(
        "run {}; images are in {path}/histograms, losses in {path}/log.txt",
        result.outcome
    ));
    say(format_args!("tensorboard --logdir={path}"));
}
