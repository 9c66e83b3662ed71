//! A small random sweep on the CPU, which the program runs without arguments.

use crate::PROGRAM;
use crate::data::RunData;
use crate::page::say;
use bdh::BoxError;
use bdh_cli::sweep;
use bdh_examples::args;
use bdh_sweep::{Runner, TrialStore};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Sweep over three parameters, at a size that a laptop trains in seconds.
const SWEEP: &str = include_str!("local.yaml");

/// Number of trials of the sweep, which take a few minutes.
const TRIALS: usize = 8;

/// Trains, evaluates and ranks the trials.
pub(crate) fn main() -> Result<ExitCode, BoxError> {
    let dir = free_dir();
    let args = args::try_parse_from(["nanochat_sweep", "--device=cpu"])?;
    let data = RunData::load(&args, None)?;
    say(
        "eight small random trials on the CPU, 160 steps of 1024 tokens each (see --help for a single run)",
    );
    data.print();
    let code = sweep::run(&PROGRAM, SWEEP, &Runner::default(), &dir, 42)?;
    say("To train one model for longer:\n  \
         cargo run --example nanochat_sweep -- --device cpu --depth 4 --n_embd_override 128 \\\n    \
         --lr_override 0.004 --weight-decay-override 0.1 --max-iterations 1000\n\
         To print the plan of twelve layers on a GPU, without a GPU:\n  \
         cargo run --example nanochat_sweep -- --depth 12 --device cuda --dry-run");
    Ok(code)
}

/// Returns the first of `local`, `local-2`, … under `runs` that does not exist, or has unfinished trials.
fn free_dir() -> PathBuf {
    let runs = Path::new("runs");
    let mut dir = runs.join("local");
    let mut number = 1;
    while dir.exists() && !is_unfinished(&dir) {
        number += 1;
        dir = runs.join(format!("local-{number}"));
    }
    dir
}

/// Returns whether an interrupted call left unfinished trials of this sweep.
fn is_unfinished(dir: &Path) -> bool {
    let is_ours = fs::read_to_string(dir.join("sweep.yaml")).is_ok_and(|yaml| yaml == SWEEP);
    let trials = TrialStore::read(dir).unwrap_or_default();
    is_ours && (trials.len() < TRIALS || trials.iter().any(|trial| !trial.status.is_over()))
}
