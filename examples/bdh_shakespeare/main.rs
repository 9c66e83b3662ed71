//! Trains BDH, the Baby Dragon Hatchling, on the bytes of a text, watched in every way.
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

/// A step's tensors take the memory that the last step's have freed.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = args::parse();
    let args = if args.resume {
        resumed(&args)
    } else {
        Ok(args)
    };
    program::end(args.and_then(|args| run::main(&args)))
}

/// The flags of the run that is to go on, under those given now.
fn resumed(args: &args::Args) -> Result<args::Args, BoxError> {
    Ok(args::parse_over(&run_dir::saved_args(
        &args.runs.join(args.run_name()),
    )?))
}
