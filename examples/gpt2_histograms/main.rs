//! Trains a small GPT-2, and shows histograms of its weights and gradients: on the terminal, as images, and in
//! TensorBoard.
//!
//! ```text
//! cargo run --example gpt2_histograms                        # a minute or two on two cores
//! tensorboard --logdir=log
//! cargo run --example gpt2_histograms -- --weights gpt2 --max_steps 20   # the weights of GPT-2, from a local directory
//! cargo run --example gpt2_histograms -- --help
//! ```

mod args;
mod log_txt;
mod run;

use bdh_examples::program;
use std::process::ExitCode;

/// Allocator that reuses the memory of the previous step's tensors, while the system's returns large blocks.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    program::end(run::main(&args::parse()))
}
