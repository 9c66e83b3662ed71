//! Trains nanochat models, one or many.
//!
//! ```text
//! cargo run --example nanochat_sweep                    # trains and ranks eight small trials on the CPU
//! cargo run --example nanochat_sweep -- --depth 2 --n_embd_override 64 --device cpu --max-iterations 10
//! cargo run --example nanochat_sweep -- sweep sweep.yaml --count 20   # runs the trials of a file, without a server
//! cargo run --example nanochat_sweep -- compare runs                  # compares runs in a table
//! cargo run --example nanochat_sweep -- forecast runs                 # predicts the end of runs, with intervals
//! cargo run --example nanochat_sweep -- core --run runs/d2-w64 --bundle eval_bundle # evaluates a run on CORE
//! cargo run --example nanochat_sweep -- evaluate --run runs/d2-w64 --norms --samples # loss, norms and texts
//! cargo run --example nanochat_sweep -- generate --run runs/d2-w64 --prompt "fn main"
//! cargo run --example nanochat_sweep -- prepare --data documents --out shards        # tokenizes documents once
//! cargo run --example nanochat_sweep -- export --nanochat runs/d2-w64 home/base_checkpoints/d2
//! cargo run --example nanochat_sweep -- --help
//! cargo run --release --features cuda --example nanochat_sweep -- --depth 12 --device cuda
//! ```

mod callbacks;
mod checkpoint;
mod compose;
mod core_eval;
mod data;
mod dirs;
mod evaluate;
mod export;
mod generate;
mod given;
mod local;
mod notes;
mod prepare;
mod progress;
mod single;
mod sinks;
mod weights;

use bdh::BoxError;
use bdh_cli::{Program, callbacks as list, compare, forecast, sweep};
use bdh_examples::args::{self, Args, normalize};
use bdh_examples::{page, program, run_dir};
use clap::{FromArgMatches, Subcommand};
use std::ffi::OsString;
use std::process::ExitCode;

/// Allocator that reuses the memory of the previous step's tensors, while the system's returns large blocks.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// This program, for suggestions of the subcommands.
const PROGRAM: Program<'static> = Program {
    command: "cargo run --example nanochat_sweep --",
    metric: METRIC,
    trains: true,
};

/// Metric of nanochat's models.
const METRIC: &str = "val_bpb";

// Subcommands. A doc comment would become the description of the whole program.
#[derive(Debug, Subcommand)]
enum Command {
    Sweep(sweep::Args),
    #[command(mut_arg("metric", |metric| metric.default_value(METRIC)))]
    Compare(compare::Args),
    #[command(mut_arg("metric", |metric| metric.default_value(METRIC)))]
    Forecast(forecast::Args),
    Core(core_eval::CoreArgs),
    Evaluate(evaluate::EvaluateArgs),
    Generate(generate::GenerateArgs),
    Prepare(prepare::PrepareArgs),
    Export(export::ExportArgs),
}

/// Subcommands whose flags may be written like those of a run.
const OWN: [&str; 5] = ["core", "evaluate", "generate", "prepare", "export"];

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().collect();
    let first = words.get(1).map(|word| word.to_string_lossy());
    let outcome = match first {
        None => local::main(),
        Some(word) if Command::has_subcommand(&word) || word == "help" => subcommand(words),
        Some(_) if words.iter().any(|word| word == "--help" || word == "-h") => Ok(help(words)),
        Some(_) => one_run(),
    };
    program::end(outcome)
}

/// Runs the subcommand in the arguments.
fn subcommand(words: Vec<OsString>) -> Result<ExitCode, BoxError> {
    let mut matches = command().get_matches_from(normalized(words));
    let command = Command::from_arg_matches_mut(&mut matches);
    match command.unwrap_or_else(|error| error.exit()) {
        Command::Sweep(args) => args.run(&PROGRAM),
        Command::Compare(args) => args.run(),
        Command::Forecast(args) if args.of.metric == METRIC => {
            args.run_with(core_eval::print_predicted_core)
        }
        Command::Forecast(args) => args.run(),
        Command::Core(args) => core_eval::main(&args),
        Command::Evaluate(args) => evaluate::main(&args),
        Command::Generate(args) => generate::main(&args),
        Command::Prepare(args) => prepare::main(&args),
        Command::Export(args) => export::main(&args),
    }
}

/// Returns the command with the flags of one run, and the subcommands.
fn command() -> clap::Command {
    Command::augment_subcommands(args::command())
        .subcommand_negates_reqs(true)
        .args_conflicts_with_subcommands(true)
}

/// Returns the arguments of the process, with the flags after a subcommand of this program in one spelling.
fn normalized(words: Vec<OsString>) -> Vec<OsString> {
    let Some(own) = OWN
        .iter()
        .find(|own| words.get(1).is_some_and(|word| word == *own))
    else {
        return words;
    };
    let command = command().find_subcommand(own).cloned();
    let mut words = words.into_iter();
    let mut normal: Vec<OsString> = words.next().into_iter().collect(); // the program's name
    normal.extend(normalize(words.collect(), command.unwrap_or_default()));
    normal
}

/// Prints the flags and the subcommands, for `--help` at any place.
fn help(words: Vec<OsString>) -> ExitCode {
    let program = words.into_iter().take(1);
    command().get_matches_from(program.chain([OsString::from("--help")]));
    ExitCode::SUCCESS
}

/// Trains the run of the flags.
fn one_run() -> Result<ExitCode, BoxError> {
    let args = args::parse();
    if args.list_callbacks {
        list::print();
        return Ok(ExitCode::SUCCESS);
    }
    if dirs::is_resumed(&args) {
        return single::main(resumed(&args)?);
    }
    single::main(args)
}

/// Returns the saved flags of the run to resume, with the flags of the command line on top.
fn resumed(args: &Args) -> Result<Args, BoxError> {
    let saved = run_dir::saved_args(&args.runs.join(args.run_name()))?;
    Ok(args::parse_over(&saved))
}
