//! Our side of the comparison with PyTorch, which trains a preset of `benches/torch/presets.json`, some steps at a
//! time.
//!
//! ```text
//! benches/torch/run.sh                                                     # the whole comparison, on the CPU
//! benches/gpu.sh                                                           # and on a GPU
//! cargo bench --profile dev -p bdh-examples --bench pytorch -- worker gpt2   # this side, by hand
//! ```
//!
//! A worker takes one step and answers. Then, for each line `run 10` of its input, it takes ten steps and answers. An
//! answer is a line of JSON: the seconds of each step, the last recorded loss (every tenth step is recorded), the bytes
//! of the device's allocator if it reports them, and the operations per token. The worker exits at the end of its
//! input. `benches/torch/worker.py` has the same protocol.
//!
//! `overhead` trains without callbacks and with all of them, and prints one line: seconds and device reads per step.
//! `peak` prints the peak of a device: `h100-bf16` is 989.4e12 operations per second.

#![expect(
    clippy::print_stdout,
    reason = "the bench answers on its standard output"
)]

#[path = "support/beside.rs"]
mod beside;
#[path = "support/commanded.rs"]
mod commanded;
#[path = "support/interrupted.rs"]
mod interrupted;
#[path = "support/observed.rs"]
mod observed;
#[path = "support/overhead.rs"]
mod overhead;

use bdh::BoxError;
use bdh::burn::tensor::Device;
use bdh_callbacks::DevicePeak;
use bdh_examples::args::Hardware;
use bdh_examples::page;
use beside::{LOSS_EVERY, Preset};
use clap::{Parser, Subcommand};
use commanded::Obey;
use overhead::Overhead;
use serde::Deserialize;
use serde_json::Value;
use std::process::ExitCode;

/// Allocator that reuses the memory of the previous step's tensors, like that of the programs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// cargo adds it.
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Trains a preset by commands on the standard input
    Worker {
        preset: String,
        #[command(flatten)]
        hardware: Hardware,
    },
    /// Trains a preset without callbacks and with all of them, and prints their cost
    Overhead {
        preset: String,
        #[command(flatten)]
        hardware: Hardware,
        /// Number of measured steps of a run
        #[arg(long, default_value = "100")]
        steps: u64,
        /// Number of runs without callbacks, and of runs with callbacks
        #[arg(long, default_value = "2")]
        rounds: usize,
    },
    /// Prints the peak operations per second of a device
    Peak { name: String },
}

fn main() -> ExitCode {
    match main_of(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            page::error(&*error);
            ExitCode::from(2)
        }
    }
}

fn main_of(command: Command) -> Result<(), BoxError> {
    match command {
        Command::Worker { preset, hardware } => {
            let (preset, device) = open(&preset, &hardware)?;
            preset.with(&device, Obey(device.clone()))
        }
        Command::Overhead {
            preset,
            hardware,
            steps,
            rounds,
        } => {
            let (preset, device) = open(&preset, &hardware)?;
            let dir = tempfile::tempdir()?;
            // The warm-up ends with a device read, like the measured steps.
            let warmup = 2 * LOSS_EVERY;
            let runs = dir.path().to_owned();
            let job = Overhead {
                device: device.clone(),
                warmup,
                steps,
                rounds,
                runs,
            };
            preset.with(&device, job)
        }
        Command::Peak { name } => {
            println!("{:e}", DevicePeak::deserialize(Value::from(name))?.flops());
            Ok(())
        }
    }
}

fn open(preset: &str, hardware: &Hardware) -> Result<(Preset, Device), BoxError> {
    let preset = Preset::named(preset, hardware.precision())?;
    Ok((preset, hardware.open()?.remove(0)))
}
