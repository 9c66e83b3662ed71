//! The command `bdh`.

use bdh::BoxError;
use bdh_cli::{Program, average, compare, forecast, page, sweep, wandb};
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Runs sweeps over any program, compares runs, predicts how they will end, averages checkpoints, and uploads W&B logs
#[derive(Debug, Parser)]
#[command(name = "bdh", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Sweep(sweep::Args),
    Compare(compare::Args),
    Forecast(forecast::Args),
    Average(average::Args),
    /// Uploads or repairs the W&B log of a run
    #[command(subcommand)]
    Wandb(wandb::Command),
}

fn main() -> ExitCode {
    run(Args::parse().command).unwrap_or_else(|error| {
        page::error(&*error);
        ExitCode::from(2)
    })
}

fn run(command: Command) -> Result<ExitCode, BoxError> {
    match command {
        Command::Sweep(args) => args.run(&Program::BDH),
        Command::Compare(args) => args.run(),
        Command::Forecast(args) => args.run(),
        Command::Average(args) => args.run(),
        Command::Wandb(command) => command.run(),
    }
}
