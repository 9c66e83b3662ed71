//! The records of a run, as event files.
//!
//! | value | page of TensorBoard |
//! |---|---|
//! | scalar | Scalars; NaN and the infinities too, all in single precision |
//! | histogram | Histograms, Distributions; the number of non-finite values as scalar `<key>/nonfinite`, unless 0 |
//! | text | Text, as it was written: not as Markdown |
//! | table | Text |
//! | image | Images; bytes that are no PNG are passed over |
//! | file | Text: its kind, path and aliases |
//! | HTML | none: TensorBoard shows none |

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
use bdh::{BoxError, Feedback, Histogram, Outcome, Problem, Record, RunInfo, Sink, Value};
use run_file::RunFile;
use std::fs;
use std::path::PathBuf;

/// Writes event files for TensorBoard, into the run directory: `tensorboard --logdir runs` shows each run
/// under the name of its directory.
///
/// A record is one `write(2)` and nothing is kept back, so that a killed process leaves whole steps. A
/// resumed run begins a new file, and takes out of the older ones what they hold of later steps. The user's
/// configuration is in the table of the HParams page, or the trainer's settings if there is none; so are the
/// seed, the last value of each scalar, and how the run ended.
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
    /// The last one written.
    step: u64,
    run: Feedback,
}

impl TensorBoard {
    /// Writes into `dir` instead of the run directory.
    ///
    /// Runs should not share one: TensorBoard shows all files of a directory as one run. If they do, each still
    /// keeps its own, and `tensorboard.json` in the run directory says which these are.
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
        let needs = "TensorBoard needs a run directory, or one of its own: `TensorBoard::at(…)`";
        let dir = self.dir.as_ref().or(run.dir.as_ref()).ok_or(needs)?;
        fs::create_dir_all(dir)?;
        let writer = match self.dir {
            Some(_) => writer_name::of_run(run.dir.as_deref())?,
            None => writer_name::WRITER.to_owned(),
        };
        let rewind = |step| rewind::to(dir, &writer, step);
        let last = run.resumed_at.map(rewind).transpose()?.flatten();
        // A checkpoint appears before its step is recorded; who was killed in between lacks the record.
        let missing = run
            .resumed_record
            .as_ref()
            .filter(|_| last < run.resumed_at);
        let first = missing.map_or(run.resumed_at.map_or(0, |step| step + 1), |r| r.clock.step);

        let mut about = vec![hparams::start(run)];
        about.extend(self.layout.as_ref().map(Layout::value));
        let mut file = RunFile::create(dir)?;
        file.write(&[
            Event::version(&writer),
            Event::session_start(first),
            Event::values(0, about),
        ])?;
        let writer = Writer {
            file,
            summaries: Summaries::default(),
            step: 0,
            run: run.feedback.clone(),
        };
        let writer = self.writer.insert(writer);
        missing.map_or(Ok(()), |record| writer.write(record))
    }

    fn write(&mut self, record: &Record) -> Result<(), BoxError> {
        self.writer
            .as_mut()
            .ok_or("TensorBoard is not open")?
            .write(record)
    }

    fn flush(&mut self) -> Result<(), BoxError> {
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };
        writer.file.flush()?;
        writer.tell();
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

impl Writer {
    fn write(&mut self, record: &Record) -> Result<(), BoxError> {
        self.step = record.clock.step;
        let values = self.summaries.of(shown(record));
        if values.is_empty() {
            return Ok(()); // nothing of a kind that TensorBoard shows
        }
        self.file.write(&[Event::values(self.step, values)])?;
        self.tell();
        Ok(())
    }

    /// Reports the first fault of the disk that ended nothing.
    fn tell(&mut self) {
        let Some(error) = self.file.faults.untold() else {
            return;
        };
        self.run.tell(Problem {
            who: "tensorboard".to_owned(),
            during: "write".to_owned(),
            step: self.step,
            error,
            consequence: "it is tried again with each record".to_owned(),
        });
    }
}

/// What TensorBoard can show of a record.
fn shown(record: &Record) -> impl Iterator<Item = (&str, Shown<'_>)> {
    record.values.iter().filter_map(|(key, value)| {
        let shown = match value {
            Value::Scalar(value) => Shown::Scalar(*value),
            Value::Histogram(Histogram {
                edges,
                counts,
                non_finite,
            }) => Shown::Histogram {
                edges,
                counts,
                non_finite: *non_finite,
            },
            Value::Text(text) => Shown::Text(text.into()),
            Value::Table { columns, rows } => Shown::Table { columns, rows },
            Value::Image(png) => Shown::Image(png),
            Value::File {
                path,
                kind,
                aliases,
            } => {
                let words = std::iter::once(format!("{kind}: {}", path.display()));
                let line = words
                    .chain(aliases.iter().cloned())
                    .collect::<Vec<_>>()
                    .join(" ");
                Shown::Text(line.into())
            }
            _ => return None,
        };
        Some((key.as_str(), shown))
    })
}
