//! nanochat's names of metrics, for sinks whose charts are compared with nanochat's.
//!
//! | recorded | under nanochat's names |
//! |---|---|
//! | `train/loss` | `train/loss_raw` |
//! | `train/loss_ema` | `train/loss`: the debiased average of [`NanochatTrain`](crate::nanochat_log::NanochatTrain) |
//! | `train/mfu` | `train/mfu`, in percent |
//! | `train/flops` | `total_training_flops` |
//! | `train/training_time` | `total_training_time` |
//! | `core/<task>` | `centered_results/<task>` |
//! | every other key, such as `train/lrm`, `train/dt`, `train/epoch`, `val/bpb`, `core_metric` | unchanged |
//!
//! nanochat logs the values of an update under the number of updates before it, this project under the number after it:
//! its step 100 is step 101 here. Its evals have the same step in both.
//!
//! The file `metrics.jsonl` keeps the recorded names, which tables of runs and forecasts read.

use crate::nanochat_log::{LOSS, TRAINING_TIME};
use bdh::{BoxError, Message, Outcome, Record, RunInfo, Sink, Value};
use std::fmt;
use std::time::Duration;

/// Wraps sinks so that they receive records under nanochat's names.
#[must_use]
pub fn nanochat_names(sinks: Vec<Box<dyn Sink>>) -> Vec<Box<dyn Sink>> {
    let mut renaming: Vec<Box<dyn Sink>> = Vec::new();
    for sink in sinks {
        renaming.push(Box::new(NanochatNames(sink)));
    }
    renaming
}

/// Sink that receives records under nanochat's names.
struct NanochatNames(Box<dyn Sink>);

impl fmt::Debug for NanochatNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NanochatNames")
            .field(&self.0.name())
            .finish()
    }
}

impl Sink for NanochatNames {
    fn name(&self) -> String {
        self.0.name()
    }

    fn files(&self) -> Vec<String> {
        self.0.files()
    }

    fn open(&mut self, run: &RunInfo) -> Result<(), BoxError> {
        // A sink may write the record of the resumed step again.
        let run = RunInfo {
            resumed_record: run.resumed_record.as_ref().map(renamed),
            ..run.clone()
        };
        self.0.open(&run)
    }

    fn write(&mut self, record: &Record) -> Result<(), BoxError> {
        self.0.write(&renamed(record))
    }

    fn message(&mut self, message: &Message) {
        self.0.message(message);
    }

    fn flush(&mut self) -> Result<(), BoxError> {
        self.0.flush()
    }

    fn close(&mut self, outcome: &Outcome) -> Result<(), BoxError> {
        self.0.close(outcome)
    }

    fn flush_timeout(&self) -> Duration {
        self.0.flush_timeout()
    }

    fn is_lossy(&self) -> bool {
        self.0.is_lossy()
    }
}

/// Returns a record under nanochat's names.
fn renamed(record: &Record) -> Record {
    let mut values = Vec::with_capacity(record.values.len());
    for (key, value) in &record.values {
        let value = match (key.as_str(), value) {
            ("train/mfu", Value::Scalar(share)) => Value::Scalar(100.0 * share),
            (_, value) => value.clone(),
        };
        values.push((name(key), value));
    }
    Record {
        clock: record.clock,
        values,
    }
}

fn name(key: &str) -> String {
    match key {
        "train/loss" => "train/loss_raw".to_owned(),
        LOSS => "train/loss".to_owned(),
        "train/flops" => "total_training_flops".to_owned(),
        TRAINING_TIME => "total_training_time".to_owned(),
        key => match key.strip_prefix("core/") {
            Some(task) => format!("centered_results/{task}"),
            None => key.to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bdh::{Clock, MemorySink};

    fn record(values: &[(&str, f64)]) -> Record {
        let values = values.iter();
        Record {
            clock: Clock::default().after(7),
            values: values
                .map(|(key, value)| ((*key).to_owned(), Value::Scalar(*value)))
                .collect(),
        }
    }

    #[test]
    fn records_arrive_under_nanochats_names() {
        let memory = MemorySink::default();
        let mut sinks = nanochat_names(vec![Box::new(memory.clone())]);
        assert_eq!((sinks.len(), sinks[0].name()), (1, "memory".to_owned()));
        let written = record(&[
            ("train/loss", 6.0),
            ("lr/matrix", 0.02),
            ("train/loss_ema", 6.5),
            ("train/mfu", 0.375),
            ("train/flops", 1e9),
            ("train/training_time", 2.5),
            ("train/lrm", 0.5),
            ("val/bpb", 1.25),
            ("core_metric", 0.25),
            ("core/boolq", -0.5),
        ]);
        sinks[0].write(&written).expect("a sink in memory");
        let expected = record(&[
            ("train/loss_raw", 6.0),
            ("lr/matrix", 0.02),
            ("train/loss", 6.5),
            ("train/mfu", 37.5),
            ("total_training_flops", 1e9),
            ("total_training_time", 2.5),
            ("train/lrm", 0.5),
            ("val/bpb", 1.25),
            ("core_metric", 0.25),
            ("centered_results/boolq", -0.5),
        ]);
        assert_eq!(memory.records(), [expected]);
    }

    #[test]
    fn raw_loss_never_takes_the_name_of_the_average() {
        assert_eq!(
            renamed(&record(&[("train/loss", 6.0)])),
            record(&[("train/loss_raw", 6.0)])
        );
    }

    #[test]
    fn wrapped_sink_obeys_the_rules() {
        bdh::testing::sink_conforms(|_| NanochatNames(Box::new(bdh_callbacks::Console::default())));
        bdh::testing::sink_conforms(|_| {
            NanochatNames(Box::new(bdh_callbacks::TensorBoard::default()))
        });
    }
}
