//! Sink that writes the records of a run as event files.
//!
//! | value | page of TensorBoard |
//! |---|---|
//! | scalar | Scalars, in single precision, NaN and infinities included |
//! | histogram | Histograms, Distributions; the number of non-finite values as scalar `<key>/nonfinite`, unless 0 |
//! | text | Text, as it was written and not as Markdown |
//! | table | Text |
//! | image | Images; bytes that are not a PNG are skipped |
//! | file | Text: its kind, path and aliases |
//! | HTML | none: TensorBoard cannot show it |

mod hparams;
mod rewind;
mod run_file;
#[cfg(test)]
mod tests;
mod writer_name;

use crate::events::now;
use crate::layout::Layout;
use crate::proto::Event;
use crate::shown::Shown;
use crate::summary::Summaries;
use bdh::sink::Feedback;

use bdh::{BoxError, Outcome, Record, RunInfo, Sink, Value, Warning};
use run_file::RunFile;
use std::fs;
use std::path::{Path, PathBuf};

/// Sink that writes event files for TensorBoard into the run directory.
///
/// `tensorboard --logdir runs` shows each run under the name of its directory.
///
/// Each record is one `write(2)` without a buffer, so that a killed process leaves whole steps. A resumed run begins a
/// new file and removes later steps from the older ones. The HParams page shows the user's configuration, or the
/// trainer's settings if there is none, with the seed, the last value of each scalar, and the outcome of the run.
///
/// # Examples
///
/// ```
/// use bdh_tensorboard::{Layout, TensorBoard};
///
/// let losses = Layout::default().lines("loss", "both", ["train/loss", "val/loss"]);
/// let sink = TensorBoard::default().layout(losses); // … `.sink(sink)`
/// ```
#[derive(Debug, Default)]
pub struct TensorBoard {
    dir: Option<PathBuf>,
    layout: Option<Layout>,
    writer: Option<Writer>,
}

#[derive(Debug)]
struct Writer {
    file: RunFile,
    summaries: Summaries,
    /// Step of the last record.
    step: u64,
    feedback: Feedback,
}

impl TensorBoard {
    /// Writes into `dir` instead of the run directory.
    ///
    /// Runs should not share a directory: TensorBoard shows all files of a directory as one run. If they do, each run
    /// still has its own files, and `tensorboard.json` in the run directory identifies them.
    #[must_use]
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: Some(dir.into()),
            ..Self::default()
        }
    }

    /// Arranges scalars into charts on the page Custom Scalars, which is empty otherwise.
    #[must_use]
    pub fn layout(self, layout: Layout) -> Self {
        Self {
            layout: Some(layout),
            ..self
        }
    }
}

impl Sink for TensorBoard {
    fn name(&self) -> String {
        "tensorboard".to_owned()
    }

    fn files(&self) -> Vec<String> {
        let name = if self.dir.is_some() {
            writer_name::FILE
        } else {
            "events.out.tfevents.*"
        };
        vec![name.to_owned()]
    }

    fn open(&mut self, run: &RunInfo) -> Result<(), BoxError> {
        let dir = self.event_dir(run)?;
        fs::create_dir_all(dir)?;
        let writer = match self.dir {
            Some(_) => writer_name::of_run(run.dir.as_deref())?,
            None => writer_name::WRITER.to_owned(),
        };
        let last = match run.resumed_at {
            Some(step) => rewind::to(dir, &writer, step)?,
            None => None,
        };
        let missing = missing_record(run, last);
        let mut file = RunFile::create(dir)?;
        file.write(&self.head(run, &writer, first_step(run, missing)))?;
        self.writer = Some(Writer::new(file, run));
        match missing {
            Some(record) => self.write(record),
            None => Ok(()),
        }
    }

    fn write(&mut self, record: &Record) -> Result<(), BoxError> {
        match &mut self.writer {
            Some(writer) => writer.write(record),
            None => Err("the event file is not open".into()),
        }
    }

    fn flush(&mut self) -> Result<(), BoxError> {
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };
        writer.file.flush()?;
        writer.report_fault();
        Ok(())
    }

    fn close(&mut self, outcome: &Outcome) -> Result<(), BoxError> {
        let Some(mut writer) = self.writer.take() else {
            return Ok(());
        };
        let end = vec![hparams::end(outcome, now())];
        writer.file.write(&[Event::values(writer.step, end)])?;
        Ok(writer.file.sync()?)
    }
}

impl TensorBoard {
    /// Returns the directory of the event files.
    fn event_dir<'a>(&'a self, run: &'a RunInfo) -> Result<&'a Path, BoxError> {
        match self.dir.as_ref().or(run.dir.as_ref()) {
            Some(dir) => Ok(dir),
            None => Err(
                "the run has no directory for event files: name one with `TensorBoard::at(…)`"
                    .into(),
            ),
        }
    }

    /// Returns the events at the beginning of a file whose first step is `first`.
    fn head(&self, run: &RunInfo, writer: &str, first: u64) -> [Event; 3] {
        let mut about = vec![hparams::start(run)];
        about.extend(self.layout.as_ref().map(Layout::value));
        [
            Event::version(writer),
            Event::session_start(first),
            Event::values(0, about),
        ]
    }
}

/// Returns the record of the checkpoint from which a run resumes, if the files end before it.
///
/// A checkpoint appears before its step is recorded, so a run killed in between lacks that record.
fn missing_record(run: &RunInfo, last: Option<u64>) -> Option<&Record> {
    if last < run.resumed_at {
        run.resumed_record.as_ref()
    } else {
        None
    }
}

/// Returns the first step of a new file.
fn first_step(run: &RunInfo, missing: Option<&Record>) -> u64 {
    match (missing, run.resumed_at) {
        (Some(record), _) => record.clock.step,
        (None, Some(step)) => step + 1,
        (None, None) => 0,
    }
}

impl Writer {
    fn new(file: RunFile, run: &RunInfo) -> Self {
        Self {
            file,
            summaries: Summaries::default(),
            step: 0,
            feedback: run.feedback.clone(),
        }
    }

    fn write(&mut self, record: &Record) -> Result<(), BoxError> {
        self.step = record.clock.step;
        let values = self.summaries.of(shown(record));
        if values.is_empty() {
            return Ok(()); // TensorBoard shows none of these kinds
        }
        self.file.write(&[Event::values(self.step, values)])?;
        self.report_fault();
        Ok(())
    }

    /// Sends a warning for the first disk fault after which the file can still be written.
    fn report_fault(&mut self) {
        let Some(error) = self.file.faults.unreported() else {
            return;
        };
        self.feedback.warn(Warning {
            source: "tensorboard".to_owned(),
            phase: "write".to_owned(),
            step: self.step,
            cause: error,
            consequence: "the write is retried with each record".to_owned(),
        });
    }
}

/// Returns the values of a record that TensorBoard can show, with their keys.
fn shown(record: &Record) -> Vec<(&str, Shown<'_>)> {
    let mut all = Vec::with_capacity(record.values.len());
    for (key, value) in &record.values {
        if let Some(value) = form(value) {
            all.push((key.as_str(), value));
        }
    }
    all
}

/// Returns the form in which TensorBoard shows a value; `None` if it cannot.
fn form(value: &Value) -> Option<Shown<'_>> {
    Some(match value {
        Value::Scalar(value) => Shown::Scalar(*value),
        Value::Histogram(histogram) => Shown::Histogram {
            edges: &histogram.edges,
            counts: &histogram.counts,
            non_finite: histogram.non_finite,
        },
        Value::Text(text) => Shown::Text(text.into()),
        Value::Table { columns, rows } => Shown::Table { columns, rows },
        Value::Image(png) => Shown::Image(png),
        Value::File {
            path,
            kind,
            aliases,
        } => Shown::Text(file_line(path, kind, aliases).into()),
        _ => return None,
    })
}

fn file_line(path: &Path, kind: &str, aliases: &[String]) -> String {
    let mut line = format!("{kind}: {}", path.display());
    for alias in aliases {
        line.push(' ');
        line.push_str(alias);
    }
    line
}
