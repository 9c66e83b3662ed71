//! From arguments to a trained model in a run directory.

use crate::args::Args;
use crate::memory;
use bdh::cadence::{every, first, last};
use bdh::lm::RandomCrops;
use bdh::ops::AdamW;
use bdh::schedule::warmup_cosine;
use bdh::{
    BoxError, Cadence, CallbackExt, NextToken, Outcome, Record, Resume, Sink, StopReason,
    TrainResult, Trainer, TrainerBuilder, Value,
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
use bdh_models::bdh_model::Bdh;
use serde_json::json;
use std::process::ExitCode;

/// Steps between lines on the console. Source: the original.
const LINE_EVERY: u64 = 100;
/// Default project of W&B. Source: the original.
const PROJECT: &str = "bdh-training";

type Task = NextToken<Bdh>;

/// Trains the run of the command line, or prints its plan.
pub(crate) fn main(args: &Args) -> Result<ExitCode, BoxError> {
    // Errors that are cheap to find come first: flags, memory, directory, text, model.
    args.config().check()?;
    args.hardware.open()?;
    let memory = memory::check(args)?;
    let dir = RunDir::choose(
        &args.runs,
        &args.run_name(),
        args.name.is_some(),
        args.resume,
    )?;
    if let Some(complete) = dir.complete(args.length(), args.length_flag()) {
        say(complete);
        return Ok(ExitCode::SUCCESS);
    }
    let data: DataSpec = args.data.as_deref().unwrap_or_default().parse()?;
    let corpus = data.load()?;
    let dir = if args.dry_run { dir } else { dir.claim()? };
    let trainer = compose(args, &corpus, &dir)?.build()?;
    print_before(args, &corpus, &dir, &memory);
    if args.dry_run {
        say(trainer.plan());
        return Ok(ExitCode::SUCCESS);
    }
    let result = program::fit(trainer)?;
    print_after(&result, args, &dir);
    Ok(program::exit_code(&result.outcome))
}

/// Builds the run of arguments and text.
fn compose(args: &Args, corpus: &Corpus, dir: &RunDir) -> Result<TrainerBuilder<Task>, BoxError> {
    let sizes = args.sizes();
    let (rows, seq_len) = (sizes.batch_size, sizes.block_size);
    let val = stream(&PlainBytes, &corpus.val);
    let val = fixed_crops(val, rows, seq_len, args.eval_iters)?;
    let train = stream(&PlainBytes, &corpus.train);
    let train = RandomCrops::new(train, rows, seq_len, args.seed)?;
    let model = args.config().init(args.seed, &args.hardware.open()?[0])?;

    // The console prints a line every 100 steps, and can only print recorded steps.
    let log = every(args.log_train_freq) | every(LINE_EVERY) | first() | last();
    let seldom = every(args.eval_freq) | last();
    let lr = warmup_cosine(args.learning_rate, args.warmup_iters).to(args.final_lr_frac);
    let adamw = AdamW {
        weight_decay: args.weight_decay,
        ..AdamW::default()
    };
    let mut builder = Trainer::builder(NextToken::new().vocabulary(PlainBytes), model)
        .train_data(train)
        .optimizer(adamw, lr)
        .duration(args.length())
        .grad_accum_steps(args.hardware.count()) // one batch for each device
        .seed(args.seed)
        .log(log.clone())
        .eval(seldom.clone())
        .checkpoint(every(args.save_freq) | last())
        .callback(norms(log.clone()))
        .callback(Throughput::default().on(log))
        .callback(
            Norms::default()
                .on(seldom.clone())
                .per_parameter(true)
                .no_global(true)
                .named("each_norm"),
        )
        .callback(Activations::default().on(seldom.clone()))
        .callback(Histograms::default().params(ParamFilter::all()).on(seldom))
        .callback(samples(args))
        .callback(Artifacts::default())
        .sinks(sinks(args)?)
        .sink(Console::default().line_every(LINE_EVERY))
        .run_dir(dir.path.clone())
        .config(json!({ "args": args, "model": args.config(), "text": corpus.name }));
    builder = args.hardware.share(builder)?;
    if !val.is_empty() {
        builder = builder.eval_data("val", val);
    }
    if let Some(norm) = args.grad_clip {
        builder = builder.clip_grad_norm(norm);
    }
    if dir.resumes {
        let allowed = may_change(&args.allow_changed);
        builder = builder.resume(Resume::Auto).allow_changed(allowed);
    }
    Ok(builder)
}

/// Returns the callback of global norms, and of norms of each part of the model.
fn norms(on: Cadence) -> Norms {
    Norms::default()
        .group("embed", "embed.*")
        .group("encoder", "encoder")
        .group("encoder_v", "encoder_v")
        .group("decoder", "decoder")
        .group("lm_head", "lm_head")
        .on(on)
}

fn samples(args: &Args) -> Samples {
    let longest = args.prompts.iter().map(String::len).max().unwrap_or(0);
    Samples::default()
        .on(every(args.generate_freq) | last())
        .prompts(&args.prompts)
        .max_tokens(args.max_new_tokens)
        .temperature(args.temperature)
        .top_k(args.top_k)
        .max_context(longest + args.max_new_tokens) // the state of a BDH includes all tokens
}

/// Returns the sinks of `--log-backend`. The console and metrics.jsonl are always there.
fn sinks(args: &Args) -> Result<Vec<Box<dyn Sink>>, BoxError> {
    let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
    for sink in bdh_callbacks::sinks(&args.log_backend)? {
        match sink.name().as_str() {
            "wandb" => sinks.push(Box::new(wandb(args))),
            "tensorboard" => sinks.push(Box::new(TensorBoard::default())),
            _ => {}
        }
    }
    Ok(sinks)
}

/// Returns the W&B sink. Flags take precedence over the environment, and the environment over the default project.
fn wandb(args: &Args) -> Wandb {
    let mut wandb = Wandb::from_env();
    let is_named = std::env::var_os("WANDB_PROJECT").is_some_and(|name| !name.is_empty());
    if let Some(project) = &args.wandb_project {
        wandb = wandb.project(project);
    } else if !is_named {
        wandb = wandb.project(PROJECT);
    }
    if let Some(entity) = &args.wandb_entity {
        wandb = wandb.entity(entity);
    }
    wandb
}

fn print_before(args: &Args, corpus: &Corpus, dir: &RunDir, memory: &str) {
    say(format_args!("text     {corpus}"));
    print_cost(args);
    let mut prompts = Vec::new();
    for prompt in &args.prompts {
        prompts.push(format!("{prompt:?}"));
    }
    say(format_args!("prompts  {}", prompts.join(", ")));
    say(format_args!("memory   {memory}"));
    say(format_args!(
        "run      {} on {}\n",
        dir.path.display(),
        args.hardware
    ));
}

/// Prints the size of the model, and the operations of the run.
fn print_cost(args: &Args) {
    let (config, sizes) = (args.config(), args.sizes());
    let (rows, seq_len) = (sizes.batch_size, sizes.block_size);
    let (tokens, length) = (rows * seq_len, args.length());
    let flops = config.flops_per_token(seq_len);
    say(format_args!(
        "model    {} parameters, shared by {} layers; {flops:.2e} FLOPs per token",
        config.num_params(),
        config.n_layer,
    ));
    let Some(steps) = length.steps() else {
        say(format_args!(
            "steps    of {tokens} tokens ({rows} x {seq_len}), for {length}"
        ));
        return;
    };
    let total = flops * tokens as f64 * steps as f64;
    say(format_args!(
        "steps    {steps} of {tokens} tokens ({rows} x {seq_len}); {total:.2e} FLOPs in total"
    ));
}

fn print_after(result: &TrainResult<Bdh>, args: &Args, dir: &RunDir) {
    say(format_args!("\n{}\n", result.overhead));
    if let Some(record) = &result.last {
        print_samples(record);
    }
    say(format_args!(
        "run {}; its files are in {}",
        result.outcome,
        dir.path.display()
    ));
    if args.log_backend.contains("tensorboard") {
        say(format_args!("tensorboard --logdir {}", args.runs.display()));
    }
    if result.outcome == Outcome::Stopped(StopReason::Signal)
        && let Some(name) = dir.path.file_name()
    {
        let (runs, name) = (args.runs.display(), name.display());
        say(format_args!(
            "resume it with: --resume --runs {runs} --name {name}"
        ));
    }
}

fn print_samples(record: &Record) {
    for (key, value) in &record.values {
        if let Value::Text(text) = value
            && key.starts_with("samples/")
        {
            say(format_args!("{text}\n"));
        }
    }
}
