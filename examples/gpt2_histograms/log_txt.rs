//! build-nanogpt's log: one line for each step on the terminal, and three fields in `log.txt`.

use bdh::{BoxError, Message, Outcome, Record, RunInfo, Sink};
use bdh_callbacks::scientific;
use bdh_examples::page::say;
use std::fs::File;
use std::io::{BufWriter, Write};

/// Sink that prints each step, and writes `{step} train {loss}` and `{step} val {loss}` to `log.txt` in the run
/// directory.
///
/// Steps count completed updates: the first step is 1, and step 0 is the untrained model. build-nanogpt's first step is
/// 0.
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
        let step = record.clock.step;
        let file = self.0.as_mut().ok_or("log.txt is not open")?;
        if let Some(loss) = record.scalar("train/loss") {
            writeln!(file, "{step} train {loss:.6}")?;
            say(step_line(record, loss));
        }
        if let Some(loss) = record.scalar("val/loss") {
            writeln!(file, "{step} val {loss:.4}")?;
            say(format_args!("validation loss: {loss:.4}"));
        }
        Ok(file.flush()?) // so that `tail -f` shows whole steps
    }

    fn message(&mut self, message: &Message) {
        say(message);
    }

    fn close(&mut self, _: &Outcome) -> Result<(), BoxError> {
        if let Some(file) = &self.0 {
            file.get_ref().sync_all()?;
        }
        Ok(())
    }
}

/// Formats a line like `step     1 | loss: 5.545177 | lr 1.5000e-04 | norm: 2.1234 | dt: 12.34ms | tok/sec: 41491.09`.
fn step_line(record: &Record, loss: f64) -> String {
    let mut line = format!("step {:5} | loss: {loss:.6}", record.clock.step);
    if let Some(lr) = record.scalar("lr/decay") {
        line += &format!(" | lr {}", scientific(lr));
    }
    if let Some(norm) = record.scalar("train/grad_norm") {
        line += &format!(" | norm: {norm:.4}");
    }
    if let Some(seconds) = record.scalar("train/step_time") {
        line += &format!(" | dt: {:.2}ms", 1e3 * seconds);
    }
    if let Some(rate) = record.scalar("train/tok_per_sec") {
        line += &format!(" | tok/sec: {rate:.2}");
    }
    line
}
