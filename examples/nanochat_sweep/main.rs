//! Trains nanochat models, one or many.
//!
//! ```text
//! cargo run --example nanochat_sweep                    # eight small trials on the CPU, ranked
//! cargo run --example nanochat_sweep -- --depth 2 --n_embd_override 64 --device cpu --max-iterations 10
//! cargo run --example nanochat_sweep -- --help
//! cargo run --release --features cuda --example nanochat_sweep -- --depth 12 --device cuda
//! ```

#![expect(clippy::print_stdout, reason = "a program for people prints what it does")]

mod local;
mod prepare;
mod single;

use bdh_examples::args;

fn main() {
    if std::env::args_os().len() == 1 {
        return local::sweep();
    }
    let args = args::parse();
    if let Err(error) = single::main(&args) {
        args::reject(&*error);
    }
}
