//! The two sides, each run in a process of its own.

use crate::data::{Stack, images};
use crate::model::Cnn;
use crate::settings::VAL;
use crate::{learner, passes, trainer};
use bdh::BoxError;
use burn::data::dataloader::batcher::Batcher;
use burn::data::dataset::Dataset;
use burn::tensor::Device;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

#[derive(Clone, Copy)]
pub enum Side {
    Learner,
    Trainer,
}

/// Measurements of one run.
#[derive(Clone, Copy)]
pub struct Measured {
    /// Images a second after the first step, evals and checkpoints included.
    pub speed: f64,
    /// Seconds from the start of the process to the end of the first step.
    pub first_step: f64,
    /// Peak memory in MB; NaN where the system is not Linux.
    pub memory: f64,
    /// Share of new images that the model classifies correctly.
    pub accuracy: f64,
}

/// File with the measurements, in the directory of the run.
const FILE: &str = "measured.txt";

impl Side {
    pub const BOTH: [Self; 2] = [Self::Learner, Self::Trainer];

    pub fn name(self) -> &'static str {
        match self {
            Self::Learner => "learner",
            Self::Trainer => "trainer",
        }
    }

    /// Returns the number of lines of the side's file that are neither empty nor a comment.
    pub fn num_lines(self) -> usize {
        let source = match self {
            Self::Learner => include_str!("learner.rs"),
            Self::Trainer => include_str!("trainer.rs"),
        };
        let lines = source.lines().map(str::trim);
        lines
            .filter(|line| !line.is_empty() && !line.starts_with("//"))
            .count()
    }

    fn train(self, dir: &Path) -> Result<Cnn, BoxError> {
        match self {
            Self::Learner => learner::train(dir),
            Self::Trainer => trainer::train(dir),
        }
    }

    /// Trains in this process, which began at `began`, and writes the measurements.
    pub fn run(self, dir: &Path, began: Instant) -> Result<(), BoxError> {
        let model = self.train(dir)?;
        let ended = Instant::now();
        let memory = peak_memory();
        let passes = passes::so_far();
        let first = passes.first_step_ended.ok_or("the run had a single step")?;
        let speed = passes.images as f64 / (ended - first).as_secs_f64();
        let first_step = (first - began).as_secs_f64();
        let items: Result<Vec<_>, _> = images(VAL, 2).iter().collect();
        let accuracy = model.accuracy(Stack.batch(items?, &Device::flex()))?;
        let line = format!("{speed} {first_step} {memory} {accuracy}");
        Ok(fs::write(dir.join(FILE), line)?)
    }

    /// Trains in a new process.
    pub fn measure(self) -> Result<Measured, BoxError> {
        let dir = tempfile::tempdir()?;
        let mut process = Command::new(std::env::current_exe()?);
        process.args(["run", self.name()]).arg(dir.path());
        let status = process.stdout(Stdio::null()).status()?;
        if !status.success() {
            return Err(format!("the {} ended with {status}", self.name()).into());
        }
        let line = fs::read_to_string(dir.path().join(FILE))?;
        let numbers: Result<Vec<f64>, _> = line.split(' ').map(str::parse).collect();
        let [speed, first_step, memory, accuracy] = numbers?[..] else {
            return Err(format!("`{line}` is not four numbers").into());
        };
        Ok(Measured {
            speed,
            first_step,
            memory,
            accuracy,
        })
    }
}

/// Returns the peak memory of this process so far, in MB.
fn peak_memory() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = peak.and_then(|peak| peak.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kilobytes.map_or(f64::NAN, |kilobytes| kilobytes * 1024.0 / 1e6)
}
