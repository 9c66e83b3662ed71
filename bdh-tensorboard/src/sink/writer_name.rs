//! Name of the run that wrote an event file, stored in the file's first event.
//!
//! In a run directory all event files belong to that run. A directory chosen by the user may hold those of other runs;
//! there the name contains a random key, which the run directory keeps so that a resumed run finds its files.

use bdh::files;
use serde::{Deserialize, Serialize};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::Path;

/// File in a run directory that contains the key.
pub(super) const FILE: &str = "tensorboard.json";

/// Largest size of that file that is read, in bytes.
const MAX_NOTE: u64 = 1 << 20;

/// Writer of files in a run directory, and prefix of the other writers' names.
pub(super) const WRITER: &str = "bdh";

#[derive(Serialize, Deserialize)]
struct Note {
    writer: String,
}

/// Returns the writer of a run's files in a directory that may hold those of other runs.
pub(super) fn of_run(run: Option<&Path>) -> io::Result<String> {
    let Some(run) = run else { return Ok(new()) };
    if let Some(writer) = kept(run) {
        return Ok(writer);
    }
    let note = Note { writer: new() };
    files::write_atomically(&run.join(FILE), &serde_json::to_vec(&note)?)?;
    Ok(note.writer)
}

fn kept(run: &Path) -> Option<String> {
    let note: Note = serde_json::from_slice(&files::read(run, FILE, MAX_NOTE).ok()?).ok()?;
    Some(note.writer)
}

/// Returns a writer that no other run has.
fn new() -> String {
    let random = RandomState::new().hash_one(std::process::id());
    format!("{WRITER} {random:016x}")
}
