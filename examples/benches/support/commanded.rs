//! A run that takes steps on command.

use super::beside::{Job, Preset};
use super::interrupted::{BeforeBatch, Interrupted};
use bdh::burn::tensor::Device;
use bdh::{BoxError, CausalLm, MemorySink};
use serde_json::json;
use std::time::Instant;

/// Trains by commands on the standard input.
pub(crate) struct Obey(pub(crate) Device);

impl Job for Obey {
    fn run<M: CausalLm>(
        self,
        preset: &Preset,
        model: impl Fn() -> Result<M, BoxError>,
    ) -> Result<(), BoxError> {
        let (model, records) = (model()?, MemorySink::default());
        let before = Commanded {
            device: self.0,
            flops_per_token: model.flops_per_token(preset.seq_len()),
            left: 1,
            began: None,
            took: Vec::new(),
            records: records.clone(),
        };
        let source = Interrupted {
            data: preset.crops()?,
            before,
        };
        preset.trainer(model, source, records)?.build()?.fit()?;
        Ok(())
    }
}

/// Callback before each batch, which waits for commands.
///
/// The time between two batches is the time of a step. The last step of a turn includes the rest of the work on a GPU.
struct Commanded {
    device: Device,
    flops_per_token: Option<f64>,
    /// Number of steps before the next command.
    left: u64,
    began: Option<Instant>,
    /// Seconds of each step since the last command.
    took: Vec<f64>,
    records: MemorySink,
}

impl Commanded {
    /// Answers, and waits for the next command. The program exits at the end of the input.
    fn obey(&mut self) -> Result<u64, BoxError> {
        let loss = self
            .records
            .series("train/loss")
            .last()
            .map(|(_, loss)| *loss);
        let answer = json!({
            "seconds": std::mem::take(&mut self.took),
            "loss": loss,
            "memory": self.device.memory_pool_usage().map(|pool| pool.bytes_reserved),
            "flops_per_token": self.flops_per_token,
        });
        println!("{answer}");
        let mut line = String::new();
        if std::io::stdin().read_line(&mut line)? == 0 {
            std::process::exit(0);
        }
        let steps = line
            .trim()
            .strip_prefix("run ")
            .ok_or("a command is `run STEPS`")?;
        Ok(steps.parse()?)
    }
}

impl BeforeBatch for Commanded {
    fn before_batch(&mut self) -> Result<(), BoxError> {
        if self.left == 0 {
            self.device.sync().map_err(|error| error.to_string())?;
        }
        self.took
            .extend(self.began.map(|began| began.elapsed().as_secs_f64()));
        while self.left == 0 {
            self.left = self.obey()?;
        }
        self.left -= 1;
        self.began = Some(Instant::now());
        Ok(())
    }
}
