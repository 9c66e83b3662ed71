//! Sends or repairs the W&B log of a run, without programs of W&B. It is `bdh wandb` as a separate program.

use bdh_cli::wandb::Command;
use bdh_examples::page;
use clap::Parser;
use std::process::ExitCode;

/// Allocator of the example programs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Sends or repairs the W&B log of a run
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    Args::parse().command.run().unwrap_or_else(|error| {
        page::error(&*error);
        ExitCode::FAILURE
    })
}
