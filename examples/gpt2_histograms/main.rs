//! Trains a small GPT-2 and shows how its weights and gradients are distributed: on the terminal, as pictures, and
//! in TensorBoard.
//!
//! ```text
//! cargo run --example gpt2_histograms                        # a minute or two on two cores
//! tensorboard --logdir=log
//! cargo run --example gpt2_histograms -- --weights gpt2 --max_steps 20   # GPT-2 itself, from a local directory
//! cargo run --example gpt2_histograms -- --help
//! ```

mod args;
mod log_txt;
mod run;

use bdh_examples::program;
use std::process::ExitCode;

/// A step's tensors take the memory that the last step's have freed.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    program::end(run::main(&args::parse()))
}
