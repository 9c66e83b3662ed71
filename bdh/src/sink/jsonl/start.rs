//! The file of a run that begins, or continues after a step.

use super::line;
use crate::failure::BoxError;
use crate::record::{CLOCK, Record};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;

/// Opens a new file. One that stands there already is another run's, unless nothing ever came of that.
pub(super) fn begin(path: &Path) -> Result<File, BoxError> {
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .open(path)?;
    if file.metadata()?.len() > 0 {
        return Err(format!("`{}` holds another run's records", path.display()).into());
    }
    Ok(file)
}

/// Opens `path` for appending after the record of `step`, and cuts off whatever came later.
///
/// That record itself is added if it never got there: a checkpoint appears before its step is recorded. If it has a loss that
/// the checkpoint's does not have, for the sake of a run that was stopped there, that is taken back.
///
/// Returns the last step in the file as well, if it has one.
pub(super) fn continue_after(
    path: &Path,
    step: u64,
    record: Option<&Record>,
) -> Result<(File, Option<u64>), BoxError> {
    if path.is_symlink() {
        let what = "is a link, and a resume cuts its file; put the file itself there";
        return Err(format!("`{}` {what}", path.display()).into());
    }
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .open(path)?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let whole = Whole::of(&text, step);
    file.set_len(whole.bytes)?;
    if whole.step != Some(step) {
        let Some(record) = record else {
            return Ok((file, whole.step));
        };
        file.write_all(&line(record)?)?;
        return Ok((file, Some(step)));
    }
    let (before, last) = text[..whole.bytes as usize].split_at(whole.last_line as usize);
    if let Some(line) = without_end(last, record)? {
        file.set_len(whole.last_line)?;
        file.write_all(&line)?;
        if line.is_empty() {
            return Ok((file, Whole::of(before, step).step));
        }
    }
    Ok((file, Some(step)))
}

/// The line of a step on which a run was stopped, as a run that goes on has it, if that is another one.
fn without_end(line: &[u8], record: Option<&Record>) -> serde_json::Result<Option<Vec<u8>>> {
    const LOSS: &str = "train/loss";
    let mut line: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(line)?;
    let has_loss = record.is_some_and(|record| record.scalar(LOSS).is_some());
    if has_loss || !line.contains_key(LOSS) {
        return Ok(None);
    }
    let is_own = |key: &str| [LOSS, "train/skipped", "lr"].contains(&key) || key.starts_with("lr/");
    line.retain(|key, _| !is_own(key));
    if line.keys().all(|key| CLOCK.contains(&key.as_str())) {
        return Ok(Some(Vec::new()));
    }
    let mut line = serde_json::to_vec(&line)?;
    line.push(b'\n');
    Ok(Some(line))
}

/// The part of a file that can be kept.
#[derive(Debug, PartialEq)]
pub(super) struct Whole {
    pub(super) bytes: u64,
    /// Where its last line begins.
    last_line: u64,
    /// The step of that.
    pub(super) step: Option<u64>,
}

impl Whole {
    /// Finds the records up to that of `last`. Lines that cannot be read are kept if a record follows them.
    pub(super) fn of(text: &[u8], last: u64) -> Self {
        let (mut read, mut whole) = (
            0,
            Self {
                bytes: 0,
                last_line: 0,
                step: None,
            },
        );
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            let last_line = read;
            read += line.len() as u64;
            let parsed: Option<serde_json::Value> = serde_json::from_slice(line).ok();
            match parsed.and_then(|line| line.get("step")?.as_u64()) {
                Some(step) if step > last => break,
                Some(step) if line.ends_with(b"\n") => {
                    whole = Self {
                        bytes: read,
                        last_line,
                        step: Some(step),
                    };
                }
                _ => {}
            }
        }
        whole
    }
}
