//! From arguments to a trained model in a run directory.

use crate::args::Args;
use crate::log_txt::LogTxt;
use bdh::lm::{RandomCrops, Vocabulary};
use bdh::{BoxError, Fitted, NextToken, Trainer, TrainerBuilder, every, last, start};
use bdh_callbacks::{Histograms, Norms, Overlay, ParamFilter, Ratios, TensorBoard, Throughput};
use bdh_data::{Corpus, DataSpec, PlainBytes, Tokenizer, fixed_crops, stream};
use bdh_examples::page::say;
use bdh_examples::program;
use bdh_examples::run_dir::RunDir;
use bdh_models::gpt2::{Gpt2, Gpt2Config, groups, schedule};
use serde_json::json;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

type Task = NextToken<Gpt2, RandomCrops>;

/// Runs what the command line asks for, and prints it.
pub(crate) fn main(args: &Args) -> Result<ExitCode, BoxError> {
    // In order of cost: flags, directory, text, model.
    args.hardware.open()?;
    let (config, vocabulary) = model_and_words(args)?;
    let dir = run_dir(&args.log_dir)?;
    let corpus = args
        .data
        .as_deref()
        .unwrap_or_default()
        .parse::<DataSpec>()?
        .load()?;
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
    let fitted = program::fit(trainer)?;
    print_afterwards(&fitted, &dir);
    Ok(program::exit_code(&fitted.outcome))
}

/// The settings of the model, and what its tokens mean.
fn model_and_words(args: &Args) -> Result<(Gpt2Config, Arc<dyn Vocabulary + Sync>), BoxError> {
    let bytes = PlainBytes.token_bytes().len();
    let Some(dir) = args
        .weights
        .as_deref()
        .filter(|dir| dir.join("config.json").exists())
    else {
        let config = args.config(bytes);
        config.check()?;
        return Ok((config, Arc::new(PlainBytes)));
    };
    let precision = args.hardware.precision();
    let config = Gpt2Config {
        precision,
        ..Gpt2Config::from_dir(dir)?
    };
    if args.block_size > config.block_size {
        return Err(format!(
            "--block-size {} is longer than the {} tokens that the model in `{}` was made for",
            args.block_size,
            config.block_size,
            dir.display()
        )
        .into());
    }
    if config.vocab_size == bytes {
        return Ok((config, Arc::new(PlainBytes)));
    }
    let words = Tokenizer::gpt2(dir)?;
    if words.vocab_size() != config.vocab_size {
        return Err(format!(
            "`{}` has words for {} tokens and a model for {}",
            dir.display(),
            words.vocab_size(),
            config.vocab_size
        )
        .into());
    }
    Ok((config, Arc::new(words)))
}

/// A directory of its own for the run.
fn run_dir(asked: &Path) -> Result<RunDir, BoxError> {
    let name = asked
        .file_name()
        .ok_or("--log-dir needs a name, such as log")?;
    let below = asked.parent().unwrap_or(Path::new(""));
    RunDir::choose(below, &name.to_string_lossy(), false, false)
}

/// The run that arguments, model and text describe.
fn compose(
    args: &Args,
    config: &Gpt2Config,
    vocabulary: Arc<dyn Vocabulary + Sync>,
    corpus: &Corpus,
    dir: &RunDir,
) -> Result<TrainerBuilder<Task>, BoxError> {
    let (rows, seq_len) = (args.batch_size, args.block_size);
    let val = fixed_crops(
        stream(&*vocabulary, &corpus.val),
        rows,
        seq_len,
        args.eval_iters,
    )?;
    let train = stream(&*vocabulary, &corpus.train);
    let crops = RandomCrops::new(train, rows, seq_len, args.seed)?;
    let task = NextToken::new(crops, val).vocabulary(vocabulary);
    let device = &args.hardware.open()?[0];
    let model = match &args.weights {
        Some(weights) => config.load(weights, device)?,
        None => config.init(args.seed, device)?,
    };

    let seldom = every(args.histogram_freq) | last();
    let params = args
        .max_histograms
        .into_iter()
        .fold(ParamFilter::representative(), ParamFilter::limit);
    let builder = Trainer::builder(task, model)
        .steps(args.max_steps)
        .grad_accum_steps(args.hardware.count()) // a batch for each device
        .seed(args.seed)
        .clip_grad_norm(1.0)
        .eval(start() | every(args.eval_freq) | last())
        .callback(Norms::default())
        .callback(Throughput::default())
        .callback(
            Histograms::builder()
                .params(params.clone())
                .cadence(seldom.clone())
                .build()?,
        )
        .callback(
            Overlay::builder()
                .params(params.clone())
                .cadence(seldom.clone())
                .build()?,
        )
        .callback(Ratios::builder().params(params).cadence(seldom).build()?)
        .sink(TensorBoard::default())
        .sink(LogTxt::default())
        .run_dir(dir.path.clone())
        .config(json!({ "args": args, "model": config, "text": corpus.name }));
    let builder = args.hardware.share(builder)?;
    let groups = groups(
        args.weight_decay as f32,
        schedule(args.max_lr, args.warmup_steps),
    );
    Ok(groups.into_iter().fold(builder, TrainerBuilder::group))
}

fn print_afterwards(fitted: &Fitted<Gpt2>, dir: &RunDir) {
    let path = dir.path.display();
    say(format_args!("\n{}\n", fitted.overhead));
    say(format_args!(
        "run {}; pictures are in {path}/histograms, losses in {path}/log.txt",
        fitted.outcome
    ));
    say(format_args!("tensorboard --logdir={path}"));
}
