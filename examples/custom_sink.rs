//! A custom sink, which writes every scalar as a row of `metrics.csv`.
//!
//! ```text
//! cargo run --example custom_sink
//! cargo test --example custom_sink
//! ```

use bdh::burn::{self, module::Module, nn, optim::AdamWConfig, tensor::Int, tensor::Tensor};
use bdh::lm::{RandomCrops, bytes, windows};
use bdh::{BoxError, CausalLm, NextToken, Probe, Record, RunInfo, Sink, Trainer};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};

#[derive(Default)]
struct Csv(Option<File>);

impl Sink for Csv {
    fn name(&self) -> String {
        "csv".to_owned()
    }

    fn files(&self) -> Vec<String> {
        vec!["metrics.csv".to_owned()]
    }

    fn open(&mut self, run: &RunInfo) -> Result<(), BoxError> {
        let path = run
            .dir
            .as_ref()
            .ok_or("it needs a run directory")?
            .join("metrics.csv");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        // A resumed run drops rows after its checkpoint, and an incomplete row of a crash.
        let step = |line: &str| {
            line.split(',')
                .next()
                .and_then(|step| step.parse::<u64>().ok())
        };
        let lines = text.split_inclusive('\n');
        let kept = lines.take_while(|line| line.ends_with('\n') && step(line) <= run.resumed_at);
        let (mut len, mut last) = (0, None);
        kept.for_each(|line| (len, last) = (len + line.len(), step(line)));
        file.set_len(len as u64)?;
        file.seek(SeekFrom::End(0))?;
        if len == 0 {
            file.write_all(b"step,key,value\n")?;
        }
        self.0 = Some(file);
        // A crash may have lost the record of the checkpoint's own step.
        let missing = run
            .resumed_record
            .as_ref()
            .filter(|record| last < Some(record.clock.step));
        missing.map_or(Ok(()), |record| self.write(record))
    }

    fn write(&mut self, record: &Record) -> Result<(), BoxError> {
        let mut rows = String::new();
        for (key, value) in record.scalars() {
            let key = key.replace(['\n', '\r'], " ").replace('"', "\"\"");
            rows += &format!("{},\"{key}\",{value}\n", record.clock.step);
        }
        let file = self.0.as_mut().ok_or("it is not open")?;
        Ok(file.write_all(rows.as_bytes())?) // in one call, so that a killed run has written whole records
    }

    fn flush(&mut self) -> Result<(), BoxError> {
        // Called before a checkpoint, so that its records survive a crash of the machine.
        Ok(self.0.as_ref().map_or(Ok(()), File::sync_data)?)
    }
}

#[test]
fn csv_sink_passes_the_conformance_suite() {
    bdh::testing::sink_conforms(|_| Csv::default());
}

#[derive(Module, Debug)]
struct Bigram {
    next: nn::Embedding,
}

impl CausalLm for Bigram {
    fn logits(&self, tokens: Tensor<2, Int>, _: &Probe<'_>) -> Tensor<3> {
        self.next.forward(tokens)
    }
}

fn main() -> bdh::Result {
    let text = include_str!("../docs/sinks.md");
    let device = bdh::device("cpu")?;
    bdh::seed(&device, 0); // first weights that are the same in every run
    let next = nn::EmbeddingConfig::new(256, 256).init(&device);
    let dir = std::env::temp_dir().join(format!("custom_sink-{}", std::process::id()));
    let trainer = Trainer::builder(NextToken::new(), Bigram { next })
        .train_data(RandomCrops::of_bytes(text, 16, 64, 0)?)
        .eval_data("val", windows(&bytes(text), 8, 64))
        .optimizer(AdamWConfig::new().build(), 0.05)
        .steps(20)
        .sink(Csv::default())
        .run_dir(&dir)
        .build()?;
    trainer.fit()?;
    eprint!("{}", std::fs::read_to_string(dir.join("metrics.csv"))?);
    Ok(())
}
