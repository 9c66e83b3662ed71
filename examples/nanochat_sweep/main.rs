//! Trains nanochat models, one or many.
//!
//! ```text
//! cargo run --example nanochat_sweep                    # eight small trials on the CPU, ranked
//! cargo run --example nanochat_sweep -- --depth 2 --n_embd_override 64 --device cpu --max-iterations 10
//! cargo run --example nanochat_sweep -- core --run runs/d2-w64 --bundle eval_bundle
//! cargo run --example nanochat_sweep -- --help
//! cargo run --release --features cuda --example nanochat_sweep -- --depth 12 --device cuda
//! ```

mod core;
mod list;
mod local;
mod prepare;
mod single;

use bdh::{BoxError, TrainError};
use bdh_examples::args::{self, Args};
use bdh_examples::{page, run_dir};
use std::process::ExitCode;

fn main() -> ExitCode {
    let outcome = if std::env::args_os().len() == 1 {
        local::main()
    } else if std::env::args_os().nth(1).is_some_and(|word| word == "core") {
        core::main(std::env::args_os().skip(1).collect())
    } else {
        let args = args::parse();
        if args.list_callbacks {
            list::callbacks();
            return ExitCode::SUCCESS;
        }
        let args = if args.resume { resumed(&args) } else { Ok(args) };
        args.and_then(|args| single::main(&args))
    };
    outcome.unwrap_or_else(|error| {
        page::error(&*error);
        // What had begun to train is told apart from what a user can put right.
        ExitCode::from(if error.is::<TrainError>() { 1 } else { 2 })
    })
}

/// The flags of the run that is to go on, under those given now.
fn resumed(args: &Args) -> Result<Args, BoxError> {
    Ok(args::parse_over(&run_dir::saved_args(&args.runs.join(args.run_name()))?))
}
