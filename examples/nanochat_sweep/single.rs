//! One run: from arguments to a trained model in a run directory.

use crate::page::{self, remark, say};
use crate::prepare::Text;
use crate::run_dir::RunDir;
use bdh::cadence::{every, last, start};
use bdh::hooks::EvalEnd;

use bdh::{
    BoxError, Cadence, Callback, CallbackExt, HookResult, NextToken, Outcome, Resume, Sink,
    StopReason, TrainResult, Trainer, TrainerBuilder, callback,
};
use bdh_callbacks::{Artifacts, Console, EarlyCheckpoints, Norms, Throughput};
use bdh_examples::args::{self, Args, Every, Hardware, is_agents_run};
use bdh_examples::program;
use bdh_models::core_eval::{Bundle, CoreMetric};
use bdh_models::nanochat::{Gpt, GptConfig};
use bdh_models::scaling::Recipe;
use serde_json::json;
use std::process::ExitCode;

type Task = NextToken<Gpt>;

/// Trains the run of the command line, or prints its plan.
pub(crate) fn main(args: &Args) -> Result<ExitCode, BoxError> {
    // Errors that are cheap to find come first: flags, directory, text, batches, model.
    check_flags(args)?;
    let dir = choose_dir(args)?;
    let text = Text::load(args)?;
    let recipe = Recipe::derive(&args.request(text.tokenizer.vocab_size()))?;
    let length = args.length(recipe.num_iterations);
    args.check_steps(length)?;
    if let Some(complete) = dir.complete(length, args.length_flag()) {
        if !args.quiet {
            say(complete);
        }
        return Ok(ExitCode::SUCCESS);
    }
    if args.dry_run {
        return dry_run(args, &text, &recipe, &dir);
    }
    let dir = dir.claim()?;
    let mut builder = compose(args, &text, &recipe, &dir)?;
    if !args.quiet {
        builder = builder.sink(console(args, &recipe));
    }
    let trainer = builder.build()?;
    if !args.quiet {
        print_before(args, &text, &recipe, &dir);
    }
    let result = program::fit(trainer)?;
    if args.quiet {
        // A console has already printed the warnings.
        result.warnings.iter().for_each(page::warn);
    } else {
        print_after(&result, &text, &dir);
    }
    // A W&B agent that stops a run must not count it as failed.
    if is_agents_run() {
        return Ok(ExitCode::SUCCESS);
    }
    Ok(program::exit_code(&result.outcome))
}

/// Checks flags before the text is loaded. The final recipe needs the tokenizer's vocabulary.
fn check_flags(args: &Args) -> Result<(), BoxError> {
    if !args.dry_run {
        args.hardware.open()?;
    }
    Recipe::derive(&args.request(args.vocab_size()))?;
    callbacks_from_file(args)?;
    Ok(())
}

/// Chooses the directory of the run. A sweep chooses the directories of its trials.
fn choose_dir(args: &Args) -> Result<RunDir, BoxError> {
    match bdh_sweep::trial_dir() {
        Some(path) => Ok(RunDir::of_trial(path)),
        None => RunDir::choose(
            &args.runs,
            &args.run_name(),
            args.name.is_some(),
            args.resume,
        ),
    }
}

/// Creates the callbacks of the file of `--callbacks`.
fn callbacks_from_file(args: &Args) -> Result<Vec<Box<dyn Callback>>, BoxError> {
    let Some(path) = &args.callbacks else {
        return Ok(Vec::new());
    };
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("`{}` cannot be read: {error}", path.display()))?;
    let extension = path.extension().unwrap_or_default();
    if extension == "yaml" || extension == "yml" {
        return Ok(bdh::registry::from_yaml(&text)?);
    }
    Ok(bdh::registry::from_toml(&text)?)
}

/// Builds the run of arguments, text and recipe, without a console.
pub(crate) fn compose(
    args: &Args,
    text: &Text,
    recipe: &Recipe,
    dir: &RunDir,
) -> Result<TrainerBuilder<Task>, BoxError> {
    let (train, val) = text.batches(recipe, args)?;
    let task = NextToken::new().vocabulary(text.tokenizer.clone());
    let model = model(args, recipe)?;
    let length = args.length(recipe.num_iterations);
    let log = every(args.log_every);
    let early = args.early_save().cadence(length);
    let mut builder = Trainer::builder(task, model)
        .train_data(train)
        .duration(length)
        .grad_accum_steps(recipe.grad_accum_steps())
        .seed(args.seed)
        .log(log.clone())
        .eval(and_last(args.eval_every) | start())
        .checkpoint(and_last(args.save_every))
        .callback(Norms::default().on(log))
        .callback(throughput(args))
        .callback(early.map(|on| EarlyCheckpoints::default().on(on)))
        .callback(Artifacts::best_by("bpb"))
        .callback(ValBpb.named("val_bpb"))
        .callback(core_metric(args, text, recipe)?)
        .callbacks(callbacks_from_file(args)?)
        .sinks(sinks(args)?)
        .run_dir(dir.path.clone())
        .config(json!({
            "args": args,
            "recipe": recipe,
            "text": { "name": text.corpus.name, "levels": text.baselines },
        }));
    if !val.is_empty() {
        builder = builder.eval_data("val", val);
    }
    if !args.dry_run {
        builder = args.hardware.share(builder)?;
    }
    for group in recipe.scheduled_groups(args.lr_schedule()) {
        builder = builder.group(group);
    }
    if dir.resumes {
        let allowed = args::may_change(&args.allow_changed);
        builder = builder.resume(Resume::Auto).allow_changed(allowed);
    }
    Ok(builder)
}

fn throughput(args: &Args) -> Throughput {
    let throughput = Throughput::default().on(every(args.log_every));
    match args.peak_flops {
        Some(peak) => throughput.peak_flops(peak),
        None => throughput,
    }
}

/// Returns the callback that evaluates CORE during training, if the flags request it.
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

/// Returns the sinks of `--log-backend`, without the console, which depends on `--quiet`.
fn sinks(args: &Args) -> Result<Vec<Box<dyn Sink>>, BoxError> {
    let mut sinks = bdh_callbacks::sinks(args.log_backend())?;
    sinks.retain(|sink| sink.name() != "console");
    Ok(sinks)
}

/// Returns the model. For a dry run it is a small one, so that a laptop can plan a run that does not fit its memory.
fn model(args: &Args, recipe: &Recipe) -> Result<Gpt, BoxError> {
    if !args.dry_run {
        return Ok(recipe.config.init(args.seed, &args.hardware.open()?[0])?);
    }
    let config = GptConfig {
        n_layer: 2,
        n_head: 1,
        n_kv_head: 1,
        n_embd: 64,
        vocab_size: recipe.config.vocab_size, // the trainer checks the text's tokens against it
        sequence_len: 64,
        ..GptConfig::default()
    };
    // A build without the CPU backend has another device.
    let device = match bdh::device("cpu") {
        Ok(device) => device,
        Err(_) => Hardware::default().open()?.remove(0),
    };
    Ok(config.init(args.seed, &device)?)
}

/// Callback that records `val/bpb`, which nanochat's dashboards use, as `val_bpb` for W&B's sweep.
struct ValBpb;

#[callback]
impl Callback for ValBpb {
    fn keys(&self) -> Vec<String> {
        vec!["val_bpb".to_owned()]
    }

    fn on_eval(&mut self, ctx: &EvalEnd<'_>) -> HookResult {
        if let Some(bpb) = ctx.report.get("bpb") {
            ctx.log("val_bpb", bpb);
        }
        Ok(())
    }
}

/// Returns the cadence of a flag, and the last step in any case.
fn and_last(steps: Every) -> Cadence {
    match steps {
        Every::Never => last(),
        Every::Steps(steps) => every(steps.get()) | last(),
    }
}

fn console(args: &Args, recipe: &Recipe) -> Console {
    // Without a terminal, about twenty lines, at most a hundred steps apart.
    let apart = (recipe.num_iterations / 20).clamp(1, 100);
    Console::default().line_every(apart.max(args.log_every))
}

fn dry_run(args: &Args, text: &Text, recipe: &Recipe, dir: &RunDir) -> Result<ExitCode, BoxError> {
    let trainer = compose(args, text, recipe, dir)?.build()?;
    print_before(args, text, recipe, dir);
    if let Err(error) = args.hardware.open() {
        remark("note", error);
    }
    let mut plan = trainer.plan().clone();
    plan.groups.clear(); // the recipe prints the groups, with their optimizers
    let plan = plan.to_string();
    // The first line describes the small model.
    say(plan.split_once('\n').map_or("", |(_, rows)| rows));
    Ok(ExitCode::SUCCESS)
}

fn print_before(args: &Args, text: &Text, recipe: &Recipe, dir: &RunDir) {
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
    note_time_budget(args, recipe);
    note_missing_early_checkpoints(args, recipe.num_iterations);
    for warning in recipe.warnings() {
        remark("warning", warning);
    }
    say("");
}

/// Prints a note about a run that is limited by time, whose recipe has a number of steps all the same.
fn note_time_budget(args: &Args, recipe: &Recipe) {
    let Some(budget) = args.time_budget else {
        return;
    };
    remark(
        "note",
        format_args!(
            "the run ends after {budget}; its learning rates follow the time, and Muon's momentum \
             and weight decay the {} steps of the recipe",
            recipe.num_iterations
        ),
    );
}

/// Prints a note about early checkpoints that the run does not reach.
fn note_missing_early_checkpoints(args: &Args, steps: u64) {
    let mut missing = String::new();
    for step in args.early_save().beyond(args.length(steps)) {
        if !missing.is_empty() {
            missing += ", ";
        }
        missing += &step.to_string();
    }
    if missing.is_empty() {
        return;
    }
    remark(
        "note",
        format_args!(
            "no early checkpoint at {missing}, because the run has {steps} steps; \
             --early-save 10%,25%,50% scales with the length of the run"
        ),
    );
}

fn print_after(result: &TrainResult<Gpt>, text: &Text, dir: &RunDir) {
    say(format_args!("\n{}\n", result.overhead));
    if let Some(record) = &result.last
        && let Some(bpb) = record.scalar("val_bpb")
    {
        say(format_args!("val_bpb  {bpb:.4}"));
        say(format_args!("baseline {}", text.baselines));
        if !bpb.is_finite() {
            remark(
                "warning",
                "the run diverged; a lower --lr-override may help",
            );
        }
    }
    say(format_args!(
        "run {}; its files are in {}",
        result.outcome,
        dir.path.display()
    ));
    if result.outcome == Outcome::Stopped(StopReason::Signal)
        && let Some(name) = dir.path.file_name()
    {
        let runs = dir.path.parent().unwrap_or(&dir.path);
        say(format_args!(
            "resume it with: --resume --runs {} --name {}",
            runs.display(),
            name.display()
        ));
    }
}
