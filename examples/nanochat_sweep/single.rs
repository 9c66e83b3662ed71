//! One run: from arguments to a trained model in a run directory.

use crate::page::{self, remark, say};
use crate::prepare::Text;
use crate::run_dir::RunDir;
use bdh::{
    Attach, BoxError, Cadence, Callback, EvalEnd, Fitted, HookResult, NextToken, Outcome, Resume,
    Sink, StopReason, Trainer, TrainerBuilder, callback, every, last, start, warmup_stable_decay,
};
use bdh_callbacks::{Artifacts, Console, EarlyCheckpoints, Norms, Throughput};
use bdh_data::Packed;
use bdh_examples::args::{self, Args, Every, Hardware};
use bdh_examples::program;
use bdh_models::core_eval::{Bundle, CoreMetric};
use bdh_models::nanochat::{Gpt, GptConfig, Schedule};
use bdh_models::scaling::Recipe;
use serde_json::json;
use std::process::ExitCode;

type Task = NextToken<Gpt, Packed>;

/// Runs what the command line asks for, and prints it.
pub(crate) fn main(args: &Args) -> Result<ExitCode, BoxError> {
    // In order of cost: flags, directory, text, batches, model.
    if !args.dry_run {
        args.hardware.open()?;
    }
    Recipe::derive(&args.request(args.vocab_size()))?;
    from_file(args)?;
    let dir = match bdh_sweep::trial_dir() {
        Some(path) => RunDir::of_trial(path),
        None => RunDir::choose(
            &args.runs,
            &args.run_name(),
            args.name.is_some(),
            args.resume,
        )?,
    };
    let text = Text::load(args)?;
    let recipe = Recipe::derive(&args.request(text.tokenizer.vocab_size()))?;
    args.check_steps(recipe.num_iterations)?;
    dir.check_steps(recipe.num_iterations, "--num-iterations")?;
    if args.dry_run {
        return dry_run(args, &text, &recipe, &dir);
    }
    let dir = dir.claim()?;
    let builder = compose(args, &text, &recipe, &dir)?;
    let builder = if args.quiet {
        builder
    } else {
        builder.sink(console(args, &recipe))
    };
    let trainer = builder.build()?;
    if !args.quiet {
        print_beforehand(args, &text, &recipe, &dir);
    }
    let fitted = program::fit(trainer)?;
    if args.quiet {
        // With a console, each was told when it happened.
        fitted.problems.iter().for_each(page::warn);
    } else {
        print_afterwards(&fitted, &text, &dir);
    }
    // An agent of W&B's that ends a run wants no run that failed.
    let is_agents = std::env::var_os("WANDB_SWEEP_ID").is_some_and(|id| !id.is_empty());
    Ok(if is_agents {
        ExitCode::SUCCESS
    } else {
        program::exit_code(&fitted.outcome)
    })
}

/// The callbacks that the file of `--callbacks` names.
fn from_file(args: &Args) -> Result<Vec<Box<dyn Callback>>, BoxError> {
    let Some(path) = &args.callbacks else {
        return Ok(Vec::new());
    };
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("`{}` cannot be read: {error}", path.display()))?;
    let is_yaml = path
        .extension()
        .is_some_and(|ending| ending == "yaml" || ending == "yml");
    let build = if is_yaml {
        bdh::callbacks_from_yaml
    } else {
        bdh::callbacks_from_toml
    };
    Ok(build(&text)?)
}

/// The run that arguments, text and recipe describe, without a console.
pub(crate) fn compose(
    args: &Args,
    text: &Text,
    recipe: &Recipe,
    dir: &RunDir,
) -> Result<TrainerBuilder<Task>, BoxError> {
    let (train, val) = text.batches(recipe, args)?;
    let task = NextToken::new(train, val).vocabulary(text.tokenizer.clone());
    let model = model(args, recipe)?;
    let steps = recipe.num_iterations;
    let log = every(args.log_every);
    let throughput = Throughput::builder().every(log.clone());
    let throughput = match args.peak_flops {
        Some(peak) => throughput.peak_flops(peak),
        None => throughput,
    };
    let mut builder = Trainer::builder(task, model)
        .steps(steps)
        .grad_accum_steps(recipe.grad_accum_steps())
        .seed(args.seed)
        .log(log.clone())
        .eval(and_last(args.eval_every) | start())
        .checkpoint(and_last(args.save_every))
        .callback(Norms::builder().cadence(log).build()?)
        .callback(throughput.build()?)
        .callback(args.early_save().cadence(steps).map(EarlyCheckpoints::when))
        .callback(Artifacts::best_by("bpb"))
        .callback(ValBpb.named("val_bpb"))
        .callback(core_metric(args, text, recipe)?)
        .callbacks(from_file(args)?)
        .sinks(sinks(args)?)
        .run_dir(dir.path.clone())
        .config(json!({
            "args": args,
            "recipe": recipe,
            "text": { "name": text.corpus.name, "levels": text.levels },
        }));
    if !args.dry_run {
        builder = args.hardware.share(builder)?;
    }
    let lr = |peak| {
        warmup_stable_decay(peak, args.warmup_steps, args.warmdown_ratio).to(args.final_lr_frac)
    };
    let muons = Schedule {
        warmdown_ratio: args.warmdown_ratio,
        ..Schedule::new(steps)
    };
    for group in recipe.groups(muons) {
        builder = builder.group(group.scheduled(lr));
    }
    if dir.resumes {
        let allowed = args::may_change(&args.allow_changed);
        builder = builder.resume(Resume::Auto).allow_changed(allowed);
    }
    Ok(builder)
}

/// CORE during training, where it is asked for.
fn core_metric(args: &Args, text: &Text, recipe: &Recipe) -> Result<Option<CoreMetric>, BoxError> {
    let (Every::Steps(_), Some(dir)) = (args.core_metric_every, &args.core_bundle) else {
        return Ok(None);
    };
    let bundle = Bundle::open(dir, args.core_max_per_task)?;
    let (context, rows) = (recipe.config.sequence_len, recipe.micro_batch);
    let cadence = and_last(args.core_metric_every);
    Ok(Some(CoreMetric::new(
        bundle,
        text.tokenizer.clone(),
        context,
        rows,
        cadence,
    )))
}

/// Where records go; the console is another matter.
fn sinks(args: &Args) -> Result<Vec<Box<dyn Sink>>, BoxError> {
    let mut sinks = bdh_callbacks::sinks(args.log_backend())?;
    sinks.retain(|sink| sink.name() != "console");
    Ok(sinks)
}

/// The model, or for a dry run a small one in its place: what fires when does not depend on it, and so a laptop
/// can plan a run that it could never hold.
fn model(args: &Args, recipe: &Recipe) -> Result<Gpt, BoxError> {
    if !args.dry_run {
        return Ok(recipe.config.init(args.seed, &args.hardware.open()?[0])?);
    }
    let config = GptConfig {
        n_layer: 2,
        n_head: 1,
        n_kv_head: 1,
        n_embd: 64,
        ..GptConfig::default()
    };
    let vocab_size = recipe.config.vocab_size; // the text's tokens are checked against it
    let config = GptConfig {
        vocab_size,
        sequence_len: 64,
        ..config
    };
    // The CPU, which a laptop has; the fastest device otherwise.
    let device = bdh::device("cpu");
    let device = device.or_else(|_| Hardware::default().open().map(|mut found| found.remove(0)))?;
    Ok(config.init(args.seed, &device)?)
}

/// W&B's sweep asks for `val_bpb`, nanochat's dashboards for `val/bpb`: two names of one number.
struct ValBpb;

#[callback]
impl Callback for ValBpb {
    fn keys(&self) -> Vec<String> {
        vec!["val_bpb".to_owned()]
    }

    fn on_eval(&mut self, at: &EvalEnd<'_>) -> HookResult {
        if let Some(bpb) = at.report.get("bpb") {
            at.log("val_bpb", bpb);
        }
        Ok(())
    }
}

/// The steps that a flag asks for, and the last one in any case.
fn and_last(steps: Every) -> Cadence {
    match steps {
        Every::Never => last(),
        Every::Steps(steps) => every(steps.get()) | last(),
    }
}

fn console(args: &Args, recipe: &Recipe) -> Console {
    // About twenty lines where there is no terminal, at most a hundred steps apart.
    let apart = (recipe.num_iterations / 20).clamp(1, 100);
    Console::default().line_every(apart.max(args.log_every))
}

fn dry_run(args: &Args, text: &Text, recipe: &Recipe, dir: &RunDir) -> Result<ExitCode, BoxError> {
    let trainer = compose(args, text, recipe, dir)?.build()?;
    print_beforehand(args, text, recipe, dir);
    if let Err(error) = args.hardware.open() {
        remark("note", error);
    }
    let mut plan = trainer.plan().clone();
    plan.groups.clear(); // the recipe has them, with their rules
    let plan = plan.to_string();
    // Its first line is about the model in place of the real one.
    say(plan.split_once('\n').map_or("", |(_, rows)| rows));
    Ok(ExitCode::SUCCESS)
}

fn print_beforehand(args: &Args, text: &Text, recipe: &Recipe, dir: &RunDir) {
    text.print();
    say(recipe);
    say(format_args!(
        "run      {} on {}",
        dir.path.display(),
        args.hardware
    ));
    if let Some(checkpoint) = &dir.checkpoint {
        say(format_args!("resumes  {}", checkpoint.display()));
    }
    if let Some(reduced) = args.reduced() {
        remark("note", reduced);
    }
    let steps = recipe.num_iterations;
    let beyond: Vec<_> = args
        .early_save()
        .beyond(steps)
        .iter()
        .map(ToString::to_string)
        .collect();
    if !beyond.is_empty() {
        let beyond = beyond.join(", ");
        remark(
            "note",
            format_args!(
                "no early checkpoint at {beyond}, beyond the run's {steps} steps; \
                 --early-save 10%,25%,50% goes with its length"
            ),
        );
    }
    for warning in recipe.warnings() {
        remark("warning", warning);
    }
    say("");
}

fn print_afterwards(fitted: &Fitted<Gpt>, text: &Text, dir: &RunDir) {
    say(format_args!("\n{}\n", fitted.overhead));
    let bpb = fitted
        .last
        .as_ref()
        .and_then(|record| record.scalar("val_bpb"));
    if let Some(bpb) = bpb {
        say(format_args!("val_bpb  {bpb:.4}"));
        say(format_args!("levels   {}", text.levels));
    }
    if bpb.is_some_and(|bpb| !bpb.is_finite()) {
        remark(
            "warning",
            "the run diverged; a lower --lr-override may help",
        );
    }
    say(format_args!(
        "run {}; everything it left is in {}",
        fitted.outcome,
        dir.path.display()
    ));
    if fitted.outcome == Outcome::Stopped(StopReason::Signal)
        && let Some(name) = dir.path.file_name()
    {
        let runs = dir.path.parent().unwrap_or(&dir.path);
        say(format_args!(
            "go on with it: --resume --runs {} --name {}",
            runs.display(),
            name.display()
        ));
    }
}
