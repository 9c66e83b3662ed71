//! Old event files of a run that is resumed.

use super::hparams;
use crate::event_file::{Events, event_files};
use crate::layout;
use crate::proto::Event;
use bdh::files;
use std::fs::OpenOptions;
use std::io;
use std::path::Path;

/// Takes out of the files in `dir` what they hold of steps after `step`, and says which one is now the last.
///
/// TensorBoard drops most of it by itself once those steps come again, but not a key that does not come
/// again, and of two ends of a run it shows the first. Files of other writers, be they runs or programs, stay as
/// they are.
pub(super) fn to(dir: &Path, writer: &str, step: u64) -> io::Result<Option<u64>> {
    let mut last = None;
    for path in event_files(dir)? {
        last = last.max(cut(&path, writer, step)?);
    }
    Ok(last)
}

fn cut(path: &Path, writer: &str, step: u64) -> io::Result<Option<u64>> {
    let mut events = match open(path) {
        // A link, a FIFO or a device: none of ours.
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

/// The events of a file that is no link.
pub(super) fn open(path: &Path) -> io::Result<Events> {
    let dir = path.parent().unwrap_or(Path::new("."));
    Events::of(files::open(dir, path.file_name().unwrap_or_default())?)
}

impl Event {
    /// Whether a file that begins with this one is of a writer.
    pub(super) fn is_of(&self, writer: &str) -> bool {
        self.source_metadata
            .as_ref()
            .is_some_and(|source| source.writer == writer)
    }

    /// Whether it tells how the run ended.
    pub(super) fn is_end(&self) -> bool {
        self.tags().any(|tag| tag == hparams::END)
    }

    /// The step, if it holds what was logged on one.
    pub(super) fn logged_step(&self) -> Option<u64> {
        let about_run = [hparams::START, hparams::END, layout::TAG];
        self.tags()
            .any(|tag| !about_run.contains(&tag))
            .then_some(self.step as u64)
    }

    fn tags(&self) -> impl Iterator<Item = &str> {
        self.summary
            .iter()
            .flat_map(|summary| &summary.value)
            .map(|value| value.tag.as_str())
    }
}
