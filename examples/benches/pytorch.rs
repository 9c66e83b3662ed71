//! Our side of the comparison with PyTorch: trains a preset of `benches/torch/presets.json`, some steps at a time.
//!
//! ```text
//! benches/torch/run.sh                                                     # the whole comparison, on the CPU
//! benches/gpu.sh                                                           # and on a GPU
//! cargo bench --profile dev -p bdh-examples --bench pytorch -- worker gpt2   # this side, by hand
//! ```
//!
//! A worker takes one step and answers; then, for each line `run 10` that it reads, it takes ten more and answers. An
//! answer is a line of JSON: the seconds of each step, the last loss that was recorded, which is every tenth, the bytes
//! that the device's allocator holds where it tells, and the operations that a token costs. At the end of its input it
//! ends. `benches/torch/worker.py` speaks the same.
//!
//! `overhead` trains without callbacks and with all of them, and prints one line: seconds and device reads of a step.
//! `peak` prints what a device could do at best: `h100-bf16` is 989.4e12 operations per second.

#![expect(
    clippy::print_stdout,
    reason = "a bench answers on its standard output"
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

/// A step's tensors take the memory that the last step's have freed.
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
    /// Trains a preset as it is told on the standard input
    Worker {
        preset: String,
        #[command(flatten)]
        hardware: Hardware,
    },
    /// Trains a preset without callbacks and with all of them, and tells what they cost
    Overhead {
        preset: String,
        #[command(flatten)]
        hardware: Hardware,
        /// Steps of a run that count
        #[arg(long, default_value = "100")]
        steps: u64,
        /// Runs without callbacks, and as many with them
        #[arg(long, default_value = "2")]
        rounds: usize,
    },
    /// Operations per second of a device by its name
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
            // The warm-up ends with a read, as what counts does.
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
