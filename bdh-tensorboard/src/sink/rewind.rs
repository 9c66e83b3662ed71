//! Earlier event files of a resumed run.

use super::hparams;
use crate::event_file::{Events, event_files};
use crate::layout;
use crate::proto::Event;
use bdh::files;
use std::fs::OpenOptions;
use std::io;
use std::path::Path;

/// Removes steps after `step` from the writer's files in `dir`, and returns the last step that is left.
///
/// TensorBoard replaces most of them itself when those steps are written again. It would still show a key that is not
/// written again, and the first of two outcomes. Files of other writers, be they runs or programs, stay as they are.
pub(super) fn to(dir: &Path, writer: &str, step: u64) -> io::Result<Option<u64>> {
    let mut last = None;
    for path in event_files(dir)? {
        last = last.max(cut(&path, writer, step)?);
    }
    Ok(last)
}

fn cut(path: &Path, writer: &str, step: u64) -> io::Result<Option<u64>> {
    let mut events = match open(path) {
        // A link, a FIFO or a device was not written by this sink.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Ok(None),
        events => events?,
    };
    if !events.next().is_some_and(|(_, first)| first.is_of(writer)) {
        return Ok(None);
    }
    let mut last = None;
    for (place, event) in events {
        let logged = event.logged_step();
        if event.is_end() || logged > Some(step) {
            OpenOptions::new().write(true).open(path)?.set_len(place)?;
            break;
        }
        last = last.max(logged);
    }
    Ok(last)
}

/// Opens a file for reading its events.
///
/// # Errors
///
/// `InvalidInput` for a link, a FIFO or a device.
pub(super) fn open(path: &Path) -> io::Result<Events> {
    let dir = path.parent().unwrap_or(Path::new("."));
    Events::of(files::open(dir, path.file_name().unwrap_or_default())?)
}

impl Event {
    /// Whether a file that begins with this event was written by `writer`.
    pub(super) fn is_of(&self, writer: &str) -> bool {
        self.source_metadata
            .as_ref()
            .is_some_and(|source| source.writer == writer)
    }

    /// Whether the event contains the outcome of the run.
    pub(super) fn is_end(&self) -> bool {
        self.tags().any(|tag| tag == hparams::END)
    }

    /// Returns the event's step; `None` if it describes the whole run.
    pub(super) fn logged_step(&self) -> Option<u64> {
        let about_run = [hparams::START, hparams::END, layout::TAG];
        let is_logged = self.tags().any(|tag| !about_run.contains(&tag));
        is_logged.then_some(self.step as u64)
    }

    fn tags(&self) -> impl Iterator<Item = &str> {
        self.summary
            .iter()
            .flat_map(|summary| &summary.value)
            .map(|value| value.tag.as_str())
    }
}
