//! Opening `metrics.jsonl`, for a new run or to continue after a step.

use super::line;
use crate::failure::BoxError;
use crate::record::{CLOCK, Record};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

const LOSS: &str = "train/loss";

/// Opens a new file. An existing file belongs to another run, unless it is empty.
pub(super) fn begin(path: &Path) -> Result<File, BoxError> {
    let file = open(path)?;
    if file.metadata()?.len() > 0 {
        return Err(format!("`{}` holds another run's records", path.display()).into());
    }
    Ok(file)
}

/// Opens `path` for appending after the record of `step`, and cuts off all later records.
///
/// If the record of `step` is missing, it is added: a checkpoint appears before its step is recorded. If the line has a
/// loss that the checkpoint's record lacks, because the run was stopped there, the loss is removed.
///
/// Returns the file, and the last step in it.
pub(super) fn continue_after(
    path: &Path,
    step: u64,
    record: Option<&Record>,
) -> Result<(File, Option<u64>), BoxError> {
    if path.is_symlink() {
        return Err(format!(
            "`{}` is a link, and a resume would cut the file behind it; put the file itself there",
            path.display()
        )
        .into());
    }
    let mut file = open(path)?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let kept = Kept::of(&text, step);
    file.set_len(kept.bytes)?;
    let last = if kept.step == Some(step) {
        rewrite_last_line(&mut file, &text, &kept, record)?
    } else if let Some(record) = record {
        file.write_all(&line(record)?)?;
        Some(step)
    } else {
        kept.step
    };
    Ok((file, last))
}

/// Removes the trainer's own values from the last line, if the record lacks them. Returns the last step in the file.
fn rewrite_last_line(
    file: &mut File,
    text: &[u8],
    kept: &Kept,
    record: Option<&Record>,
) -> Result<Option<u64>, BoxError> {
    let (before, last) = text[..kept.bytes as usize].split_at(kept.last_line as usize);
    let Some(line) = without_own_values(last, record)? else {
        return Ok(kept.step);
    };
    file.set_len(kept.last_line)?;
    file.write_all(&line)?;
    if line.is_empty() {
        return Ok(Kept::of(before, u64::MAX).step); // no line before the last kept one has a later step
    }
    Ok(kept.step)
}

/// Opens a file for reading and appending, and creates it if it is missing.
pub(super) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .open(path)
}

/// Returns the line of a stopped run's last step without the trainer's own values, if the line has them and the record
/// does not. The line is empty if it has no other values.
fn without_own_values(line: &[u8], record: Option<&Record>) -> serde_json::Result<Option<Vec<u8>>> {
    let mut values: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(line)?;
    let has_loss = record.is_some_and(|record| record.scalar(LOSS).is_some());
    if has_loss || !values.contains_key(LOSS) {
        return Ok(None);
    }
    values.retain(|key, _| !is_trainers_own(key));
    if values.keys().all(|key| CLOCK.contains(&key.as_str())) {
        return Ok(Some(Vec::new()));
    }
    let mut rest = serde_json::to_vec(&values)?;
    rest.push(b'\n');
    Ok(Some(rest))
}

fn is_trainers_own(key: &str) -> bool {
    [LOSS, "train/skipped", "lr"].contains(&key) || key.starts_with("lr/")
}

/// The part of a file to keep.
#[derive(Debug, PartialEq)]
pub(super) struct Kept {
    pub(super) bytes: u64,
    /// Offset of its last line.
    last_line: u64,
    /// Step of its last line.
    pub(super) step: Option<u64>,
}

impl Kept {
    /// Finds the records up to the one of step `last`. Unreadable lines are kept if a record follows them.
    pub(super) fn of(text: &[u8], last: u64) -> Self {
        let mut read = 0;
        let mut kept = Self {
            bytes: 0,
            last_line: 0,
            step: None,
        };
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            let last_line = read;
            read += line.len() as u64;
            let parsed: Option<serde_json::Value> = serde_json::from_slice(line).ok();
            match parsed.and_then(|line| line.get("step")?.as_u64()) {
                Some(step) if step > last => break,
                Some(step) if line.ends_with(b"\n") => {
                    kept = Self {
                        bytes: read,
                        last_line,
                        step: Some(step),
                    };
                }
                _ => {}
            }
        }
        kept
    }
}
