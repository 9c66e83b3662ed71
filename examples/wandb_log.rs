//! Sends or repairs the W&B log of a run, without any program of W&B's: `bdh wandb` as a program of its own.

use bdh_cli::wandb::Command;
use bdh_examples::page;
use clap::Parser;
use std::process::ExitCode;

/// A step's tensors take the memory that the last step's have freed.
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
