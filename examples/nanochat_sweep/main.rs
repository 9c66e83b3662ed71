//! Trains nanochat models, one or many.
//!
//! ```text
//! cargo run --example nanochat_sweep                    # eight small trials on the CPU, ranked
//! cargo run --example nanochat_sweep -- --depth 2 --n_embd_override 64 --device cpu --max-iterations 10
//! cargo run --example nanochat_sweep -- sweep sweep.yaml --count 20   # the trials of a file, without a server
//! cargo run --example nanochat_sweep -- compare runs                  # runs side by side
//! cargo run --example nanochat_sweep -- forecast runs                 # where they will end, and how sure that is
//! cargo run --example nanochat_sweep -- core --run runs/d2-w64 --bundle eval_bundle # a run on CORE's tasks
//! cargo run --example nanochat_sweep -- --help
//! cargo run --release --features cuda --example nanochat_sweep -- --depth 12 --device cuda
//! ```

mod compare;
mod core;
mod forecast;
mod list;
mod live;
mod local;
mod prepare;
mod single;
mod sweep;

use bdh::BoxError;
use bdh_examples::args::{self, Args};
use bdh_examples::{page, program, run_dir};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    let outcome = match words.next().as_ref().map(|word| word.to_str()) {
        None => local::main(),
        Some(Some("sweep")) => sweep::main(words),
        Some(Some("compare")) => compare::main(words),
        Some(Some("core")) => core::main(words),
        Some(Some("forecast")) => forecast::main(words),
        Some(_) => one_run(),
    };
    program::end(outcome)
}

/// What the flags ask for.
fn one_run() -> Result<ExitCode, BoxError> {
    let args = args::parse();
    if args.list_callbacks {
        list::callbacks();
        return Ok(ExitCode::SUCCESS);
    }
    single::main(&if args.resume { resumed(&args)? } else { args })
}

/// The flags of the run that is to go on, under those given now.
fn resumed(args: &Args) -> Result<Args, BoxError> {
    Ok(args::parse_over(&run_dir::saved_args(&args.runs.join(args.run_name()))?))
}
