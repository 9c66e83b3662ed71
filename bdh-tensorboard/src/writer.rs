//! Event files for programs without a trainer.

use crate::event_file::EventFile;
use crate::layout::Layout;
use crate::proto::Event;
use crate::shown::Shown;
use crate::summary::Summaries;
use std::fs;
use std::io;
use std::path::Path;

/// Name of the writer in the file.
const NAME: &str = "bdh-tensorboard";

/// Writer of an event file, for programs without a trainer.
///
/// Each call of [`write`](Self::write) is one `write(2)` without a buffer, so that a killed process leaves whole steps.
/// `tensorboard --logdir` shows all event files of a directory as one run.
///
/// # Examples
///
/// ```
/// use bdh_tensorboard::{EventWriter, Shown};
///
/// # let dir = std::env::temp_dir().join(format!("bdh-tensorboard-{}", std::process::id()));
/// let mut events = EventWriter::create(&dir)?;
/// for step in 1..=3 {
///     let loss = Shown::Scalar(1.0 / step as f64);
///     events.write(step, [("loss", loss), ("note", Shown::Text("a step".into()))])?;
/// }
/// events.sync()?;
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct EventWriter {
    file: EventFile,
    summaries: Summaries,
}

impl EventWriter {
    /// Creates a file in `dir`, and `dir` if it is missing; files of other writers stay as they are.
    ///
    /// # Errors
    ///
    /// If the directory or the file cannot be created.
    pub fn create(dir: impl AsRef<Path>) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        let mut file = EventFile::create(dir.as_ref())?;
        file.write(&[Event::version(NAME), Event::session_start(0)])?;
        Ok(Self {
            file,
            summaries: Summaries::default(),
        })
    }

    /// Returns the path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// Arranges scalars into charts on the page Custom Scalars, which is empty otherwise.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn layout(&mut self, layout: &Layout) -> io::Result<()> {
        self.file.write(&[Event::values(0, vec![layout.value()])])
    }

    /// Writes the values of a step.
    ///
    /// A value whose kind differs from the first of its key is left out, since no reader would show it.
    ///
    /// # Errors
    ///
    /// If the file cannot be written; the values are then written with those of the next step.
    pub fn write<'a>(
        &mut self,
        step: u64,
        values: impl IntoIterator<Item = (&'a str, Shown<'a>)>,
    ) -> io::Result<()> {
        let values = self.summaries.of(values);
        if values.is_empty() {
            return Ok(());
        }
        self.file.write(&[Event::values(step, values)])
    }

    /// Waits until everything is on the disk.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn sync(&mut self) -> io::Result<()> {
        self.file.sync()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_file::{Events, event_files};
    use std::fs::File;

    #[test]
    fn values_are_read_back_from_the_file() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut writer = EventWriter::create(dir.path().join("run")).expect("a new file");
        let layout = Layout::default().lines("loss", "both", ["loss", "val"]);
        writer.layout(&layout).expect("space");
        let histogram = Shown::Histogram {
            edges: &[0.0, 1.0, 2.0],
            counts: &[3, 4],
            non_finite: 5,
        };
        writer
            .write(1, [("loss", Shown::Scalar(2.5)), ("h", histogram)])
            .expect("space");
        writer
            .write(2, [("loss", Shown::Text("another kind".into()))])
            .expect("space");
        writer
            .write(3, [("loss", Shown::Scalar(f64::NAN))])
            .expect("space");
        writer.sync().expect("a disk");

        let files = event_files(&dir.path().join("run")).expect("a directory");
        assert_eq!(files, [writer.path()]);
        let events = Events::of(File::open(writer.path()).expect("a file")).expect("a file");
        let tags = |event: Event| {
            let values = event.summary.into_iter().flat_map(|summary| summary.value);
            (
                event.step,
                values.map(|value| value.tag).collect::<Vec<_>>().join(" "),
            )
        };
        let all: Vec<_> = events.map(|(_, event)| tags(event)).collect();
        let expected = [
            (0, ""),
            (0, ""),
            (0, "custom_scalars__config__"),
            (1, "loss h h/nonfinite"),
            (3, "loss"),
        ];
        assert_eq!(all, expected.map(|(step, tags)| (step, tags.to_owned())));
    }
}
