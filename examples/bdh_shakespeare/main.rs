//! Trains BDH, the Baby Dragon Hatchling, on the bytes of a text, with many callbacks.
//!
//! ```text
//! cargo run --example bdh_shakespeare                        # a minute or two on two cores
//! cargo run --example bdh_shakespeare -- --preset small --data shakespeare --log_backend tensorboard
//! cargo run --example bdh_shakespeare -- --help
//! cargo run --release --features cuda --example bdh_shakespeare -- --data shakespeare
//! ```

mod args;
mod memory;
mod preset;
mod run;

use bdh::BoxError;
use bdh_examples::{program, run_dir};
use std::process::ExitCode;

/// Allocator that reuses the memory of the previous step's tensors, while the system's returns large blocks.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    program::end(train(args::parse()))
}

fn train(args: args::Args) -> Result<ExitCode, BoxError> {
    run::main(&if args.resume { resumed(&args)? } else { args })
}

/// Returns the saved flags of the run to resume, with the flags of the command line on top.
fn resumed(args: &args::Args) -> Result<args::Args, BoxError> {
    let saved = run_dir::saved_args(&args.runs.join(args.run_name()))?;
    Ok(args::parse_over(&saved))
}
