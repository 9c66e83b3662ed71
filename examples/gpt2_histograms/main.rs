//! Trains a small GPT-2, and shows histograms of its weights and gradients: on the terminal, as images, and in
//! TensorBoard.
//!
//! ```text
//! cargo run --example gpt2_histograms                        # a minute or two on two cores
//! tensorboard --logdir=log
//! cargo run --example gpt2_histograms -- --weights gpt2 --max_steps 20   # GPT-2's weights, from a local directory
//! cargo run --example gpt2_histograms -- --resume            # continues the run in log
//! cargo run --example gpt2_histograms -- --help
//! ```
//!
//! build-nanogpt's run, on its token shards (`fineweb.py` writes them to `edu_fineweb10B`):
//!
//! ```text
//! cargo run --release --features cuda --example gpt2_histograms -- --data edu_fineweb10B --tokenizer gpt2 \
//!     --hellaswag hellaswag/hellaswag_val.jsonl --n_head 12 --n_embd 768 --vocab_size 50304 --block_size 1024 \
//!     --batch_size 64 --total_batch_size 524288 --max_steps 19073 --warmup_steps 715 --max_lr 6e-4 --eval_freq 250
//! ```

mod args;
mod data;
mod log_txt;
mod run;
mod setup;

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
    if !args.log_dir.is_dir() {
        let dir = args.log_dir.display();
        let text =
            format!("there is no run `{dir}` to resume: leave --resume out, or give its --log-dir");
        return Err(text.into());
    }
    Ok(args::parse_over(&run_dir::saved_args(&args.log_dir)?))
}
