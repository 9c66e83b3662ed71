//! A small random sweep on the CPU: what the program does when it is given nothing.

use crate::PROGRAM;
use crate::page::say;
use crate::prepare::Text;
use bdh::BoxError;
use bdh_cli::sweep;
use bdh_examples::args;
use bdh_sweep::{Ledger, Runner};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The request's three parameters, at a size that a laptop trains in seconds.
const SWEEP: &str = include_str!("local.yaml");

/// Its trials: enough for a ranking, few enough for a coffee.
const TRIALS: usize = 8;

/// Trains, evaluates and ranks the trials.
pub(crate) fn main() -> Result<ExitCode, BoxError> {
    let dir = free_dir();
    let text = Text::load(&args::try_parse_from(["nanochat_sweep", "--device=cpu"])?)?;
    say(
        "eight small random trials on the CPU, 160 steps of 1024 tokens each (--help for a run of your own)",
    );
    text.print();
    let code = sweep::run(&PROGRAM, SWEEP, &Runner::default(), &dir, 42)?;
    say("Next, train a model of your own for longer:\n  \
         cargo run --example nanochat_sweep -- --device cpu --depth 4 --n_embd_override 128 \\\n    \
         --lr_override 0.004 --weight-decay 0.1 --max-iterations 1000\n\
         or see what twelve layers would be on an H100, without one:\n  \
         cargo run --example nanochat_sweep -- --depth 12 --device cuda --dry-run");
    Ok(code)
}

/// The first of `local`, `local-2`, … under `runs` that is not there yet, or has trials left to run.
fn free_dir() -> PathBuf {
    let runs = Path::new("runs");
    let numbered = (2..).map(|number| runs.join(format!("local-{number}")));
    let mut dirs = std::iter::once(runs.join("local")).chain(numbered);
    dirs.find(|dir| !dir.exists() || is_unfinished(dir))
        .expect("there is always a number that is free")
}

/// Whether a call that was interrupted has left trials.
fn is_unfinished(dir: &Path) -> bool {
    let is_ours = fs::read_to_string(dir.join("sweep.yaml")).is_ok_and(|yaml| yaml == SWEEP);
    let trials = Ledger::read(dir).unwrap_or_default();
    is_ours && (trials.len() < TRIALS || trials.iter().any(|trial| !trial.status.is_over()))
}
