//! One run: from arguments to a trained model in a run directory.

use crate::callbacks;
use crate::compose::Plan;
use crate::data::RunData;
use crate::dirs::{self, SavedTokenizer};
use crate::given::is_given;
use crate::notes;
use crate::page::{self, remark, say};
use crate::sinks;
use crate::weights::Weights;
use bdh::{BoxError, TrainResult};
use bdh_data::Packing;
use bdh_examples::args::{Args, is_agents_run};
use bdh_examples::nanochat_home::NanochatHome;
use bdh_examples::program;
use bdh_examples::summary::{Summary, host_peak, peak_memory};
use bdh_models::nanochat::Gpt;
use bdh_models::scaling::Recipe;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

/// Trains the run of the command line, or prints its plan.
pub(crate) fn main(args: Args) -> Result<ExitCode, BoxError> {
    let began = Instant::now();
    // Errors that are cheap to find come first: flags, weights, directory, data, batches, model.
    let weights = Weights::find(&args)?;
    let args = &weights.settle(with_packing(args))?;
    check_flags(args)?;
    let dir = dirs::choose(args)?;
    let data = RunData::load(args, dir.resumes.then_some(&*dir.path))?;
    let args = &data.settle(args.clone());
    let recipe = Recipe::derive(&args.request(data.vocab_size()))?;
    weights.check(&recipe.config)?;
    let length = args.length(recipe.num_iterations);
    args.check_steps(length)?;
    if let Some(complete) = dir.complete(length, args.length_flag()) {
        if !args.quiet {
            say(complete);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let dir = if args.dry_run { dir } else { dir.claim()? };
    let plan = Plan {
        args,
        data: &data,
        recipe: &recipe,
        dir: &dir,
        weights: &weights,
    };
    if args.dry_run {
        return dry_run(&plan);
    }
    train(&plan, began)
}

/// Trains the planned run.
fn train(plan: &Plan<'_>, began: Instant) -> Result<ExitCode, BoxError> {
    let Plan { args, dir, .. } = plan;
    let mut builder = plan.compose()?;
    if !args.quiet {
        builder = builder.sinks([sinks::console(args, plan.recipe)]);
    }
    let trainer = builder.build()?;
    if !args.quiet {
        notes::before(plan);
    }
    let saved = SavedTokenizer::new(dir, &plan.data.tokenizer)?;
    let result = program::fit(trainer).inspect_err(|_| saved.remove_if_unused(&dir.path))?;
    let summary = summary(plan, &result, began);
    if let Err(error) = summary.save() {
        page::warn(format_args!("the summary is not in run.json: {error}"));
    }
    if args.quiet {
        // A console has already printed the warnings.
        result.warnings.iter().for_each(page::warn);
    } else {
        notes::after(&result, plan, &summary);
    }
    // A W&B agent that stops a run must not count it as failed.
    if is_agents_run() {
        return Ok(ExitCode::SUCCESS);
    }
    Ok(program::exit_code(&result.outcome))
}

/// Returns the arguments with nanochat's packing, if the data is that of nanochat's home and no packing is given.
fn with_packing(mut args: Args) -> Args {
    let Some(home) = NanochatHome::given() else {
        return args;
    };
    let is_homes = args
        .data
        .as_deref()
        .is_some_and(|data| Path::new(data) == home.data_dir());
    if is_homes && !dirs::is_resumed(&args) && !is_given("packing") {
        args.packing = Packing::Nanochat;
    }
    args
}

/// Checks flags before the data is opened. The final recipe needs the tokenizer's vocabulary.
fn check_flags(args: &Args) -> Result<(), BoxError> {
    if !args.dry_run {
        args.hardware.open()?;
    }
    Recipe::derive(&args.request(args.vocab_size()))?;
    callbacks::from_file(args)?;
    Ok(())
}

fn dry_run(plan: &Plan<'_>) -> Result<ExitCode, BoxError> {
    let trainer = plan.compose()?.build()?;
    notes::before(plan);
    if let Err(error) = plan.args.hardware.open() {
        remark("note", error);
    }
    let mut outline = trainer.plan().clone();
    outline.groups.clear(); // the recipe prints the groups, with their optimizers
    let outline = outline.to_string();
    // The first line describes the small model.
    say(outline.split_once('\n').map_or("", |(_, rows)| rows));
    Ok(ExitCode::SUCCESS)
}

/// Returns the summary of a finished run.
fn summary(plan: &Plan<'_>, result: &TrainResult<Gpt>, began: Instant) -> Summary {
    let Plan { args, recipe, .. } = plan;
    let peak = args.peak_flops();
    let devices = args.hardware.open().unwrap_or_default();
    Summary {
        total_seconds: began.elapsed(),
        peak_memory_mb: devices.first().map_or_else(host_peak, peak_memory),
        num_params: recipe.config.num_params().total() as u64,
        ..Summary::of(result, &plan.dir.path)
    }
    .utilization(
        recipe.flops_per_token(),
        peak.map(|peak| peak * args.hardware.count() as f64),
    )
}
