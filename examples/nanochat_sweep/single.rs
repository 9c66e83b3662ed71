//! One run: from arguments to a trained model in a run directory.

use crate::prepare::Text;
use bdh::{
    BoxError, Cadence, Callback, ConfigError, EvalEnd, Fitted, HookResult, NextToken, Outcome,
    StopReason, Trainer, TrainerBuilder, callback, every, last, latest_checkpoint, start,
    warmup_stable_decay,
};
use bdh_callbacks::{Console, EarlyCheckpoints, Norms, Throughput};
use bdh_examples::args::{Args, Every};
use bdh_examples::data::Packed;
use bdh_examples::nanochat::{Gpt, Schedule};
use bdh_examples::scaling::Recipe;
use serde_json::json;
use std::path::PathBuf;

type Task = NextToken<Gpt, Packed>;

/// Runs what the command line asks for, and prints it.
pub(crate) fn main(args: &Args) -> Result<(), BoxError> {
    let text = Text::load(args)?;
    let recipe = Recipe::derive(&args.request(text.tokenizer.vocab_size()))?;
    if !args.quiet {
        print_beforehand(args, &text, &recipe);
    }
    let (builder, dir) = compose(args, &text, &recipe)?;
    let builder = if args.quiet { builder } else { builder.sink(console(args, &recipe)) };
    let trainer = builder.build().map_err(explain)?;
    if args.dry_run {
        println!("{}", trainer.plan());
        return Ok(());
    }
    let fitted = trainer.fit()?;
    if !args.quiet {
        print_afterwards(&fitted, &text, &dir);
    }
    match fitted.outcome {
        Outcome::Stopped(StopReason::Signal) => std::process::exit(130), // as a shell reports Ctrl-C
        _ => Ok(()),
    }
}

/// The run that arguments, text and recipe describe, without a console; and its directory.
pub(crate) fn compose(
    args: &Args,
    text: &Text,
    recipe: &Recipe,
) -> Result<(TrainerBuilder<Task>, PathBuf), BoxError> {
    let device = bdh::device(&args.device().to_string())?;
    let (dir, checkpoint) = directory(args)?;
    let steps = recipe.num_iterations;

    let val = text.val(recipe, args.eval_tokens())?;
    let task =
        NextToken::new(text.train(recipe, args.seed)?, val).vocabulary(text.tokenizer.clone());
    let model = recipe.config.init(args.seed, &device)?;
    let schedule = Schedule {
        warmup: args.warmup_steps,
        warmdown_ratio: args.warmdown_ratio,
        final_fraction: args.final_lr_frac,
        ..Schedule::new(steps)
    };
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
        .eval(start() | cadence(args.eval_every) | last())
        .checkpoint(cadence(args.save_every) | last())
        .callback(Norms::builder().cadence(log).build()?)
        .callback(throughput.build()?)
        .callback((args.early_save != Cadence::Never).then(|| early(args, steps)))
        .callback(ValBpb)
        .run_dir(dir.clone())
        .config(json!({
            "args": args,
            "recipe": recipe,
            "text": { "name": text.corpus.name, "levels": text.levels },
        }));
    let lr = |peak| {
        warmup_stable_decay(peak, schedule.warmup, schedule.warmdown_ratio)
            .to(schedule.final_fraction)
    };
    for group in recipe.groups(schedule) {
        builder = builder.group(group.scheduled(lr));
    }
    if let Some(checkpoint) = checkpoint {
        builder = builder.resume(checkpoint);
    }
    Ok((builder, dir))
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

fn cadence(steps: Every) -> Cadence {
    match steps {
        Every::Never => Cadence::Never,
        Every::Steps(steps) => every(steps.get()),
    }
}

/// The early checkpoints that the run reaches; those that it never reaches are the plan's to show.
fn early(args: &Args, steps: u64) -> Option<EarlyCheckpoints> {
    let reached = args.early_save.check(&bdh::Clock::default(), steps).is_ok();
    reached.then(|| EarlyCheckpoints::when(args.early_save.clone()))
}

/// The run directory, and the checkpoint to go on from if the run is resumed.
fn directory(args: &Args) -> Result<(PathBuf, Option<PathBuf>), BoxError> {
    let name = args.run_name();
    let dir = args.runs.join(&name);
    if args.resume {
        let checkpoints = dir.join("checkpoints");
        let newest = latest_checkpoint(&checkpoints).ok_or_else(|| {
            format!("`{}` holds no checkpoint to resume from; run without --resume", dir.display())
        })?;
        return Ok((dir, Some(newest)));
    }
    if args.name.is_some() {
        return Ok((dir, None)); // never overwritten: the builder refuses a directory that holds a run
    }
    let numbered = (2..).map(|number| args.runs.join(format!("{name}-{number}")));
    let free = std::iter::once(dir).chain(numbered).find(|dir| !dir.exists());
    Ok((free.expect("there is always a number that is free"), None))
}

/// Says what works, in the words of the command line.
fn explain(error: ConfigError) -> BoxError {
    match error {
        ConfigError::RunExists { path } => format!(
            "`{}` holds a run already; add --resume to go on with it, or give another --name",
            path.display()
        )
        .into(),
        error => error.into(),
    }
}

fn console(args: &Args, recipe: &Recipe) -> Console {
    // About twenty lines where there is no terminal, at most a hundred steps apart.
    let apart = (recipe.num_iterations / 20).clamp(1, 100);
    Console::default().line_every(apart.max(args.log_every))
}

fn print_beforehand(args: &Args, text: &Text, recipe: &Recipe) {
    text.print();
    println!("{recipe}");
    if let Some(reduced) = args.reduced() {
        println!("note: {reduced}");
    }
    for warning in recipe.warnings() {
        println!("warning: {warning}");
    }
}

fn print_afterwards(fitted: &Fitted<Gpt>, text: &Text, dir: &std::path::Path) {
    println!("{}", fitted.overhead);
    let bpb = fitted.last.as_ref().and_then(|record| record.scalar("val_bpb"));
    if let Some(bpb) = bpb {
        println!("val_bpb {bpb:.4}, where the text's levels are {}", text.levels);
    }
    println!("run {}; everything it left is in {}", fitted.outcome, dir.display());
}
