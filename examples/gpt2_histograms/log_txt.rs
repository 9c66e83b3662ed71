//! build-nanogpt's log: a line for each step on the terminal, and three fields in `log.txt`.

use bdh::{BoxError, Outcome, Problem, Record, RunInfo, Sink};
use bdh_callbacks::scientific;
use bdh_examples::page::say;
use std::fs::File;
use std::io::{BufWriter, Write};

/// Prints each step, and writes `{step} train {loss}` and `{step} val {loss}` to `log.txt` in the run directory.
///
/// A step's number counts completed updates: build-nanogpt's first is 0, ours is 1, and 0 is the untrained model.
#[derive(Default)]
pub(crate) struct LogTxt(Option<BufWriter<File>>);

impl Sink for LogTxt {
    fn name(&self) -> String {
        "log.txt".to_owned()
    }

    fn files(&self) -> Vec<String> {
        vec!["log.txt".to_owned()]
    }

    fn open(&mut self, run: &RunInfo) -> Result<(), BoxError> {
        let dir = run.dir.as_ref().ok_or("log.txt needs a run directory")?;
        self.0 = Some(BufWriter::new(File::create(dir.join("log.txt"))?));
        Ok(())
    }

    fn write(&mut self, record: &Record) -> Result<(), BoxError> {
        let (step, file) = (
            record.clock.step,
            self.0.as_mut().ok_or("log.txt is not open")?,
        );
        if let Some(loss) = record.scalar("train/loss") {
            writeln!(file, "{step} train {loss:.6}")?;
            say(step_line(record, loss));
        }
        if let Some(loss) = record.scalar("val/loss") {
            writeln!(file, "{step} val {loss:.4}")?;
            say(format_args!("validation loss: {loss:.4}"));
        }
        Ok(file.flush()?) // whoever follows the file sees whole steps
    }

    fn remark(&mut self, text: &str) {
        say(text);
    }

    fn problem(&mut self, problem: &Problem) {
        say(format_args!("warning: {problem}"));
    }

    fn close(&mut self, _: &Outcome) -> Result<(), BoxError> {
        Ok(self
            .0
            .as_ref()
            .map_or(Ok(()), |file| file.get_ref().sync_all())?)
    }
}

/// `step     1 | loss: 5.545177 | lr 1.5000e-04 | norm: 2.1234 | dt: 12.34ms | tok/sec: 41491.09`.
fn step_line(record: &Record, loss: f64) -> String {
    let scalar = |key| record.scalar(key);
    let parts = [
        scalar("lr/decay").map(|lr| format!("lr {}", scientific(lr))),
        scalar("train/grad_norm").map(|norm| format!("norm: {norm:.4}")),
        scalar("train/step_time").map(|seconds| format!("dt: {:.2}ms", 1e3 * seconds)),
        scalar("train/tok_per_sec").map(|rate| format!("tok/sec: {rate:.2}")),
    ];
    let parts = parts.into_iter().flatten().map(|part| format!(" | {part}"));
    format!("step {:5} | loss: {loss:.6}", record.clock.step) + &parts.collect::<String>()
}
