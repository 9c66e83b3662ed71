//! A run that takes steps when it is told to.

use super::beside::{Job, Preset};
use super::interrupted::{BeforeBatch, Interrupted};
use bdh::burn::tensor::Device;
use bdh::{BoxError, CausalLm, MemorySink};
use serde_json::json;
use std::time::Instant;

/// Trains as far as the lines on the standard input say.
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
            source: preset.crops()?,
            before,
        };
        preset.trainer(model, source, records)?.build()?.fit()?;
        Ok(())
    }
}

/// Lets a run go on only as far as it was told to.
///
/// Between two batches lies all that a step costs. What a GPU has still to do at the end of
/// a turn is in the turn's last step.
struct Commanded {
    device: Device,
    flops_per_token: Option<f64>,
    /// Steps to take before the next command is read.
    left: u64,
    began: Option<Instant>,
    /// Seconds of each step since the last command.
    took: Vec<f64>,
    records: MemorySink,
}

impl Commanded {
    /// Answers, and waits for the next command. At the end of the input the program ends.
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
