//! From arguments to a trained model in a run directory.

use crate::args::Args;
use crate::memory;
use bdh::lm::RandomCrops;
use bdh::ops::AdamW;
use bdh::{
    Attach, BoxError, Cadence, Fitted, NextToken, Outcome, Resume, Sink, StopReason, Trainer,
    TrainerBuilder, Value, every, first, last, warmup_cosine,
};
use bdh_callbacks::{
    Activations, Artifacts, Console, Histograms, Norms, ParamFilter, Samples, TensorBoard,
    Throughput, Wandb,
};
use bdh_data::{Corpus, DataSpec, PlainBytes, fixed_crops, stream};
use bdh_examples::args::may_change;
use bdh_examples::page::say;
use bdh_examples::program;
use bdh_examples::run_dir::RunDir;
use bdh_models::hatchling::Bdh;
use serde_json::json;
use std::process::ExitCode;

/// The original prints a line every so many steps.
const LINE_EVERY: u64 = 100;
const PROJECT: &str = "bdh-training";

type Task = NextToken<Bdh, RandomCrops>;

/// Runs what the command line asks for, and prints it.
pub(crate) fn main(args: &Args) -> Result<ExitCode, BoxError> {
    // In order of cost: flags, memory, directory, text, model.
    args.config().check()?;
    args.hardware.open()?;
    let memory = memory::check(args)?;
    let dir = RunDir::choose(
        &args.runs,
        &args.run_name(),
        args.name.is_some(),
        args.resume,
    )?;
    dir.check_steps(args.sizes().max_iters, "--max-iters")?;
    let corpus = args
        .data
        .as_deref()
        .unwrap_or_default()
        .parse::<DataSpec>()?
        .load()?;
    let dir = if args.dry_run { dir } else { dir.claim()? };
    let trainer = compose(args, &corpus, &dir)?.build()?;
    print_beforehand(args, &corpus, &dir, &memory);
    if args.dry_run {
        say(trainer.plan());
        return Ok(ExitCode::SUCCESS);
    }
    let fitted = program::fit(trainer)?;
    print_afterwards(&fitted, args, &dir);
    Ok(program::exit_code(&fitted.outcome))
}

/// The run that arguments and text describe.
fn compose(args: &Args, corpus: &Corpus, dir: &RunDir) -> Result<TrainerBuilder<Task>, BoxError> {
    let sizes = args.sizes();
    let (rows, seq_len) = (sizes.batch_size, sizes.block_size);
    let text = |documents: &[String]| stream(&PlainBytes, documents);
    let val = fixed_crops(text(&corpus.val), rows, seq_len, args.eval_iters)?;
    let train = RandomCrops::new(text(&corpus.train), rows, seq_len, args.seed)?;
    let model = args.config().init(args.seed, &args.hardware.open()?[0])?;

    // The console prints a line every 100 steps, which has to be recorded for that.
    let log = every(args.log_train_freq) | every(LINE_EVERY) | first() | last();
    let seldom = every(args.eval_freq) | last();
    let lr = warmup_cosine(args.learning_rate, args.warmup_iters).to(args.final_lr_frac);
    let adamw = AdamW {
        weight_decay: args.weight_decay,
        ..AdamW::default()
    };
    let mut builder = Trainer::builder(NextToken::new(train, val).vocabulary(PlainBytes), model)
        .optimizer(adamw, lr)
        .steps(sizes.max_iters)
        .grad_accum_steps(args.hardware.count()) // a batch for each device
        .seed(args.seed)
        .log(log.clone())
        .eval(seldom.clone())
        .checkpoint(every(args.save_freq) | last())
        .callback(norms(log.clone())?)
        .callback(Throughput::builder().every(log).build()?)
        .callback(
            Norms::builder()
                .cadence(seldom.clone())
                .per_parameter(true)
                .no_global(true)
                .build()?
                .named("each_norm"),
        )
        .callback(Activations::builder().cadence(seldom.clone()).build()?)
        .callback(
            Histograms::builder()
                .params(ParamFilter::all())
                .cadence(seldom)
                .build()?,
        )
        .callback(samples(args)?)
        .callback(Artifacts::default())
        .sinks(sinks(args)?)
        .sink(Console::default().line_every(LINE_EVERY))
        .run_dir(dir.path.clone())
        .config(json!({ "args": args, "model": args.config(), "text": corpus.name }));
    builder = args.hardware.share(builder)?;
    if let Some(norm) = args.grad_clip {
        builder = builder.clip_grad_norm(norm);
    }
    if dir.resumes {
        let allowed = may_change(&args.allow_changed);
        builder = builder.resume(Resume::Auto).allow_changed(allowed);
    }
    Ok(builder)
}

/// Global norms, and those of each part of the model.
fn norms(cadence: Cadence) -> Result<Norms, BoxError> {
    let parts = [
        ("embed", "embed.*"),
        ("encoder", "encoder"),
        ("encoder_v", "encoder_v"),
    ];
    let parts = parts
        .into_iter()
        .chain([("decoder", "decoder"), ("lm_head", "lm_head")]);
    let norms = parts.fold(Norms::builder(), |norms, (name, params)| {
        norms.group(name, params)
    });
    Ok(norms.cadence(cadence).build()?)
}

fn samples(args: &Args) -> Result<Samples, BoxError> {
    let longest = args.prompts.iter().map(String::len).max().unwrap_or(0);
    let samples = Samples::builder()
        .cadence(every(args.generate_freq) | last())
        .prompts(&args.prompts)
        .max_tokens(args.max_new_tokens)
        .temperature(args.temperature)
        .top_k(args.top_k)
        .max_context(longest + args.max_new_tokens); // the state of a BDH forgets nothing
    Ok(samples.build()?)
}

/// Where records go; the console is another matter.
fn sinks(args: &Args) -> Result<Vec<Box<dyn Sink>>, BoxError> {
    let mut sinks = bdh_callbacks::sinks(&args.log_backend)?;
    let names: Vec<_> = sinks.iter().map(|sink| sink.name()).collect();
    sinks.clear();
    for name in names {
        match name.as_str() {
            "wandb" => sinks.push(Box::new(wandb(args))),
            "tensorboard" => sinks.push(Box::new(TensorBoard::default())),
            _ => {} // the run has its console and its metrics.jsonl in any case
        }
    }
    Ok(sinks)
}

fn wandb(args: &Args) -> Wandb {
    let is_named = std::env::var_os("WANDB_PROJECT").is_some_and(|name| !name.is_empty());
    let project = args
        .wandb_project
        .as_deref()
        .or((!is_named).then_some(PROJECT));
    let wandb = project.into_iter().fold(Wandb::from_env(), Wandb::project);
    args.wandb_entity.iter().fold(wandb, Wandb::entity)
}

fn print_beforehand(args: &Args, corpus: &Corpus, dir: &RunDir, memory: &str) {
    let (config, sizes) = (args.config(), args.sizes());
    let tokens = sizes.batch_size * sizes.block_size;
    let per_token = config.flops_per_token(sizes.block_size);
    say(format_args!("text     {corpus}"));
    say(format_args!(
        "model    {} parameters, gone through {} times; {:.2e} FLOPs a token",
        config.num_params(),
        config.n_layer,
        per_token
    ));
    say(format_args!(
        "steps    {} of {tokens} tokens ({} x {}); {:.2e} FLOPs in all",
        sizes.max_iters,
        sizes.batch_size,
        sizes.block_size,
        per_token * tokens as f64 * sizes.max_iters as f64
    ));
    let prompts: Vec<_> = args
        .prompts
        .iter()
        .map(|prompt| format!("{prompt:?}"))
        .collect();
    say(format_args!("prompts  {}", prompts.join(", ")));
    say(format_args!("memory   {memory}"));
    say(format_args!(
        "run      {} on {}\n",
        dir.path.display(),
        args.hardware
    ));
}

fn print_afterwards(fitted: &Fitted<Bdh>, args: &Args, dir: &RunDir) {
    say(format_args!("\n{}\n", fitted.overhead));
    for text in fitted
        .last
        .iter()
        .flat_map(|record| &record.values)
        .filter_map(sample)
    {
        say(format_args!("{text}\n"));
    }
    say(format_args!(
        "run {}; everything it left is in {}",
        fitted.outcome,
        dir.path.display()
    ));
    if args.log_backend.contains("tensorboard") {
        say(format_args!("tensorboard --logdir {}", args.runs.display()));
    }
    if fitted.outcome == Outcome::Stopped(StopReason::Signal)
        && let Some(name) = dir.path.file_name()
    {
        let (runs, name) = (args.runs.display(), name.display());
        say(format_args!(
            "go on with it: --resume --runs {runs} --name {name}"
        ));
    }
}

/// A sample, if this is one.
fn sample((key, value): &(String, Value)) -> Option<&str> {
    match value {
        Value::Text(text) if key.starts_with("samples/") => Some(text),
        _ => None,
    }
}
