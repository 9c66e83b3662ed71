//! Whose an event file is: the name that each of them begins with.
//!
//! In a run directory all of them are that run's. A directory that was chosen by the user may hold those of other
//! runs; there the name has a key in it, which the run directory keeps for the day the run is resumed.

use bdh::files;
use serde::{Deserialize, Serialize};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::Path;

/// The file in a run directory that holds the key.
pub(super) const FILE: &str = "tensorboard.json";

/// Bytes that such a file has at most.
const MAX_NOTE: u64 = 1 << 20;

/// The writer of files in a run directory, and what every other one's name begins with.
pub(super) const WRITER: &str = "bdh";

#[derive(Serialize, Deserialize)]
struct Note {
    writer: String,
}

/// The writer of a run's files in a directory that may hold those of other runs.
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

/// One that no other run has.
fn new() -> String {
    let random = RandomState::new().hash_one(std::process::id());
    format!("{WRITER} {random:016x}")
}
