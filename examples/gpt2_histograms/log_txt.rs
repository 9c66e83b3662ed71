//! build-nanogpt's log: one line for each step on the terminal, and three fields in `log.txt`.

mod lines;

use bdh::{BoxError, Message, Outcome, Record, RunInfo, Sink, Value};
use bdh_callbacks::scientific;
use bdh_examples::page::say;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Sink that prints each step, and writes `{step} train {loss}`, `{step} val {loss}` and `{step} hella {accuracy}` to
/// `log.txt` in the run directory.
///
/// Steps begin with 0, as in build-nanogpt: `train` has the index of the update, and `val` and `hella` that of the next
/// update, which is the number of completed ones.
#[derive(Default)]
pub(crate) struct LogTxt(Option<File>);

impl Sink for LogTxt {
    fn name(&self) -> String {
        "log.txt".to_owned()
    }

    fn files(&self) -> Vec<String> {
        vec!["log.txt".to_owned()]
    }

    fn open(&mut self, run: &RunInfo) -> Result<(), BoxError> {
        let dir = run.dir.as_ref().ok_or("log.txt needs a run directory")?;
        let path = dir.join("log.txt");
        self.0 = Some(match run.resumed_at {
            Some(step) => continue_at(&path, step, run.resumed_record.as_ref())?,
            None => File::create(path)?,
        });
        Ok(())
    }

    fn write(&mut self, record: &Record) -> Result<(), BoxError> {
        let file = self.0.as_mut().ok_or("log.txt is not open")?;
        file.write_all(lines::of(record).as_bytes())?; // at once, so that `tail -f` shows whole steps
        if let Some(loss) = record.scalar("train/loss") {
            say(step_line(record, loss));
        }
        if let Some(loss) = record.scalar("val/loss") {
            say(format_args!("validation loss: {loss:.4}"));
        }
        print_samples(record);
        Ok(())
    }

    fn message(&mut self, message: &Message) {
        say(message);
    }

    fn flush(&mut self) -> Result<(), BoxError> {
        if let Some(file) = &self.0 {
            file.sync_data()?;
        }
        Ok(())
    }

    fn close(&mut self, _: &Outcome) -> Result<(), BoxError> {
        self.flush()
    }
}

/// Opens the log of a resumed run, without the lines behind the checkpoint of `step`.
fn continue_at(path: &Path, step: u64, record: Option<&Record>) -> io::Result<File> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        read => read?,
    };
    let kept = lines::until(&text, step, record);
    let scratch = path.with_file_name(".log.txt.tmp");
    let _ = fs::remove_file(&scratch); // it may be left from a process that died, or be a link to another file
    let mut file = File::create_new(&scratch)?;
    file.write_all(kept.as_bytes())?;
    fs::rename(&scratch, path)?;
    Ok(file)
}

/// Formats a line like `step     0 | loss: 5.545177 | lr 1.5000e-04 | norm: 2.1234 | dt: 12.34ms | tok/sec: 41491.09`.
fn step_line(record: &Record, loss: f64) -> String {
    let mut line = format!("step {:5} | loss: {loss:.6}", lines::update(record));
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

/// Prints the texts that `Samples` has recorded.
fn print_samples(record: &Record) {
    for (key, value) in &record.values {
        if let Some(index) = key.strip_prefix("samples/")
            && index.bytes().all(|byte| byte.is_ascii_digit())
            && let Value::Text(text) = value
        {
            say(format_args!("sample {index}: {text}"));
        }
    }
}
