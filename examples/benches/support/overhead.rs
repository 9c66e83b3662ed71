//! Cost of callbacks in a run, in time and device reads.

use super::beside::{Job, Preset};
use super::interrupted::{BeforeBatch, Interrupted};
use super::observed::observed;
use bdh::burn::tensor::Device;
use bdh::{BoxError, CausalLm, MemorySink, Task, TrainerBuilder};
use serde_json::json;
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::time::Instant;

/// Trains without callbacks and with all of them, alternately in one process, so that both use the same compiled and
/// tuned kernels.
pub(crate) struct Overhead {
    pub(crate) device: Device,
    /// Number of steps before the measurement.
    pub(crate) warmup: u64,
    /// Number of measured steps of each run.
    pub(crate) steps: u64,
    /// Number of runs of each kind.
    pub(crate) rounds: usize,
    /// Parent of the run directories.
    pub(crate) runs: PathBuf,
}

/// Measurements of one run.
struct Took {
    /// Mean of one step.
    seconds: f64,
    /// Mean of one step.
    reads: f64,
}

impl Job for Overhead {
    fn run<M: CausalLm>(
        self,
        preset: &Preset,
        model: impl Fn() -> Result<M, BoxError>,
    ) -> Result<(), BoxError> {
        let mut took = [Vec::new(), Vec::new()];
        for round in 0..self.rounds {
            // In alternating order, so that a device that gets warmer affects both.
            for watched in [round % 2 == 1, round % 2 == 0] {
                took[usize::from(watched)].push(self.fit(preset, model()?, watched, round)?);
            }
        }
        let [none, all] = took.map(|runs| {
            let of = |value: fn(&Took) -> f64| runs.iter().map(value).collect::<Vec<_>>();
            json!({ "seconds": of(|took| took.seconds), "reads": of(|took| took.reads) })
        });
        println!("{}", json!({ "none": none, "all": all }));
        Ok(())
    }
}

impl Overhead {
    fn fit<M: CausalLm>(
        &self,
        preset: &Preset,
        model: M,
        watched: bool,
        round: usize,
    ) -> Result<Took, BoxError> {
        let (mark, marks) = channel();
        let marked = [self.warmup, self.warmup + self.steps];
        let device = self.device.clone();
        let before = Marks {
            device,
            given: 0,
            marked,
            mark,
        };
        let source = Interrupted {
            data: preset.crops()?,
            before,
        };
        let run = preset.trainer(model, source, MemorySink::default())?;
        let run = self
            .stopping(run)
            .run_dir(self.runs.join(format!("{watched}-{round}")));
        let fitted = if watched { observed(run) } else { run }.build()?.fit()?;
        fitted.warnings.iter().for_each(bdh_examples::page::warn);
        let (began, ended) = (marks.recv()?, marks.recv()?);
        let overhead = &fitted.overhead;
        let reads = overhead.reads + overhead.rows.iter().map(|row| row.reads).sum::<u64>();
        Ok(Took {
            seconds: (ended - began).as_secs_f64() / self.steps as f64,
            reads: reads as f64 / overhead.num_steps as f64,
        })
    }

    /// Stops the run one step after the measured ones, because a step ends where the next one begins.
    fn stopping<T: Task>(&self, run: TrainerBuilder<T>) -> TrainerBuilder<T> {
        let last = self.warmup + self.steps + 1;
        let stop = bdh::hooks::on_step(move |ctx| {
            if ctx.step() == last {
                ctx.stop("measured");
            }
            Ok(())
        });
        run.callback(stop)
    }
}

/// Source that records the times of two batches, after the device has finished all earlier work.
struct Marks {
    device: Device,
    given: u64,
    marked: [u64; 2],
    mark: Sender<Instant>,
}

impl BeforeBatch for Marks {
    fn before_batch(&mut self) -> Result<(), BoxError> {
        if self.marked.contains(&self.given) {
            self.device.sync().map_err(|error| error.to_string())?;
            self.mark.send(Instant::now())?;
        }
        self.given += 1;
        Ok(())
    }
}
