//! Lines before and after a run.

use crate::compose::Plan;
use crate::data::Source;
use crate::page::{remark, say};
use crate::run_dir::RunDir;
use bdh::{Outcome, StopReason, TrainResult};
use bdh_examples::args::{Args, LogStyle};
use bdh_examples::summary::Summary;
use bdh_models::nanochat::Gpt;
use bdh_models::scaling::Recipe;

/// Prints what the run trains, on which data, and notes about its settings.
pub(crate) fn before(plan: &Plan<'_>) {
    let Plan { args, recipe, .. } = plan;
    plan.data.print();
    // With nanochat's lines the log has the recipe in nanochat's form, which scripts search.
    if args.log_style == LogStyle::Plain || args.dry_run {
        say(recipe);
    }
    print_places(plan);
    if let Some(reduced) = args.reduced() {
        remark("note", reduced);
    }
    for note in args.notes() {
        remark("note", note);
    }
    note_num_shards(plan);
    note_time_budget(args, recipe);
    note_missing_early_checkpoints(args, recipe.num_iterations);
    for warning in recipe.warnings() {
        remark("warning", warning);
    }
    say("");
}

/// Prints the directory of the run, and the files that it begins with.
fn print_places(plan: &Plan<'_>) {
    let Plan { args, dir, .. } = plan;
    let (path, hardware) = (dir.path.display(), &args.hardware);
    say(format_args!("run      {path} on {hardware}"));
    if let Some(checkpoint) = &dir.checkpoint {
        say(format_args!("resumes  {}", checkpoint.display()));
    } else if let Some(weights) = plan.weights.describe() {
        say(format_args!("weights  {weights}"));
    }
}

/// Prints a note about a number of shards for data that has none.
fn note_num_shards(plan: &Plan<'_>) {
    if let Some(count) = plan.args.num_shards
        && !matches!(plan.data.source, Source::Shards(_))
    {
        remark(
            "note",
            format_args!("--num-shards {count} has no effect: the data has no token shards"),
        );
    }
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

/// Prints the result of a run, and its summary.
pub(crate) fn after(result: &TrainResult<Gpt>, plan: &Plan<'_>, summary: &Summary) {
    say(format_args!("\n{}\n", result.overhead));
    if let Some(record) = &result.last
        && let Some(bpb) = record.scalar("val_bpb")
    {
        print_loss(bpb, plan);
    }
    let (outcome, path) = (&result.outcome, plan.dir.path.display());
    say(format_args!("run {outcome}; its files are in {path}"));
    if *outcome == Outcome::Stopped(StopReason::Signal) {
        print_resume(plan.dir);
    }
    say(format_args!("\n{summary}"));
}

fn print_loss(bpb: f64, plan: &Plan<'_>) {
    say(format_args!("val_bpb  {bpb:.4}"));
    if let Some(baselines) = &plan.data.baselines {
        say(format_args!("baseline {baselines}"));
    }
    if !bpb.is_finite() {
        remark(
            "warning",
            "the run diverged; a lower --lr-override may help",
        );
    }
}

/// Prints the flags that resume a run.
fn print_resume(dir: &RunDir) {
    let Some(name) = dir.path.file_name() else {
        return;
    };
    let runs = dir.path.parent().unwrap_or(&dir.path);
    say(format_args!(
        "resume it with: --resume --runs {} --name {}",
        runs.display(),
        name.display()
    ));
}
