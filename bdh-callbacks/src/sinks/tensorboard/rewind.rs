//! Old event files of a run that is resumed.

use super::event_file::{Events, event_files};
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
    let mut events = match Events::open(path) {
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
