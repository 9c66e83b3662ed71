//! Readers of a run's files that share no code with the writers.

#![allow(dead_code, reason = "each test takes what it needs")]

use serde_json::Value as Json;
use std::fs;
use std::path::{Path, PathBuf};

/// Step and its `train/loss`.
pub(crate) type Row = (u64, f64);

/// Reads the complete lines of `metrics.jsonl`. Panics at a line that is not JSON.
pub(crate) fn jsonl(dir: &Path) -> Vec<Row> {
    let text = fs::read_to_string(dir.join("metrics.jsonl")).expect("metrics.jsonl");
    let whole = text
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'));
    let row = |line: &str| -> Option<Row> {
        let line: Json =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        Some((line["step"].as_u64()?, line["train/loss"].as_f64()?))
    };
    whole.filter_map(row).collect()
}

/// Whether the last line of `metrics.jsonl` is complete.
pub(crate) fn jsonl_is_whole(dir: &Path) -> bool {
    fs::read(dir.join("metrics.jsonl"))
        .expect("metrics.jsonl")
        .ends_with(b"\n")
}

/// Whether `metrics.jsonl` has complete lines, or is empty or missing.
pub(crate) fn jsonl_is_whole_or_empty(dir: &Path) -> bool {
    let text = fs::read(dir.join("metrics.jsonl")).unwrap_or_default();
    text.is_empty() || text.ends_with(b"\n")
}

/// Returns the path of a run directory's W&B log.
pub(crate) fn wandb_log(dir: &Path) -> PathBuf {
    let pointer = fs::read(dir.join("wandb.json")).expect("wandb.json");
    let pointer: Json = serde_json::from_slice(&pointer).expect("JSON");
    let text = |key: &str| pointer[key].as_str().expect("a text").to_owned();
    dir.join(text("folder"))
        .join(format!("run-{}.wandb", text("run_id")))
}

/// Reads the rows of a W&B log, up to its end or to an incomplete entry.
pub(crate) fn wandb(log: &Path) -> Vec<Row> {
    let bytes = fs::read(log).expect("the log");
    let entries = wandb_entries(&bytes);
    entries
        .iter()
        .filter_map(|entry| wandb_row(entry))
        .collect()
}

/// Reads the entries of a W&B log, which are framed as in a `LevelDB` log, in blocks of 32 KiB from the file's first byte on.
fn wandb_entries(bytes: &[u8]) -> Vec<Vec<u8>> {
    let (mut at, mut entries, mut entry) = (7, Vec::new(), Vec::new());
    assert_eq!(bytes[..4], *b":W&B");
    loop {
        let left = 32_768 - at % 32_768;
        at += if left < 7 { left } else { 0 };
        let Some(head) = bytes.get(at..at + 7) else {
            return entries;
        };
        let length = usize::from(u16::from_le_bytes([head[4], head[5]]));
        let Some(content) = bytes.get(at + 7..at + 7 + length) else {
            return entries;
        };
        entry.extend(content);
        at += 7 + length;
        if matches!(head[6], 1 | 4) {
            entries.push(std::mem::take(&mut entry));
        }
    }
}

fn wandb_row(entry: &[u8]) -> Option<Row> {
    let history = message(entry, 2)?;
    let text = |key: &str| {
        let item = fields(history)
            .filter(|(number, _)| *number == 1)
            .find_map(|(_, item)| {
                (message(item.bytes()?, 1)? == key.as_bytes())
                    .then(|| message(item.bytes()?, 16))?
            });
        Some(str::from_utf8(item?).expect("JSON is Unicode"))
    };
    Some((
        text("step")?.parse().ok()?,
        text("train/loss")?.parse().ok()?,
    ))
}

/// Reads the rows of all event files of a directory, each up to its end or to an incomplete event.
pub(crate) fn events(dir: &Path) -> Vec<Row> {
    let rows = |path: &PathBuf| event_file(&fs::read(path).expect("the file"));
    event_paths(dir).iter().flat_map(rows).collect()
}

/// Whether all event files of a directory end with a complete event.
pub(crate) fn events_are_whole(dir: &Path) -> bool {
    let paths = event_paths(dir);
    assert!(!paths.is_empty());
    paths.iter().all(|path| {
        let mut rest = &fs::read(path).expect("the file")[..];
        while let Some((length, _)) = rest.split_first_chunk() {
            let Some((_, after)) = rest.split_at_checked(16 + u64::from_le_bytes(*length) as usize)
            else {
                return false;
            };
            rest = after;
        }
        rest.is_empty()
    })
}

fn event_paths(dir: &Path) -> Vec<PathBuf> {
    let names = fs::read_dir(dir)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path());
    let is_ours = |path: &PathBuf| path.display().to_string().contains("/events.out.tfevents.");
    let mut paths: Vec<_> = names.filter(is_ours).collect();
    paths.sort();
    paths
}

fn event_file(bytes: &[u8]) -> Vec<Row> {
    let (mut at, mut rows) = (0, Vec::new());
    while let Some(length) = bytes.get(at..at + 8) {
        let length = u64::from_le_bytes(length.try_into().expect("8 bytes")) as usize;
        let Some(event) = bytes.get(at + 12..at + 12 + length) else {
            break;
        };
        if bytes.len() < at + 16 + length {
            break; // the checksum is missing
        }
        rows.extend(event_row(event));
        at += 16 + length;
    }
    rows
}

fn event_row(event: &[u8]) -> Option<Row> {
    let step = fields(event).find_map(|(number, field)| (number == 2).then(|| field.number())?);
    let values = fields(message(event, 5)?).filter(|(number, _)| *number == 1);
    let loss = values
        .filter_map(|(_, value)| value.bytes())
        .find_map(|value| {
            let floats = message(message(value, 8)?, 5)?;
            let is_loss = message(value, 1)? == b"train/loss";
            is_loss.then(|| f32::from_le_bytes(floats.try_into().expect("one float")))
        });
    Some((step?, loss?.into()))
}

/// Field of a protobuf message.
#[derive(Clone, Copy)]
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Field<'a> {
    fn number(self) -> Option<u64> {
        if let Self::Number(number) = self {
            Some(number)
        } else {
            None
        }
    }

    fn bytes(self) -> Option<&'a [u8]> {
        if let Self::Bytes(bytes) = self {
            Some(bytes)
        } else {
            None
        }
    }
}

/// Returns the first field of this number, which has a length.
fn message(bytes: &[u8], number: u64) -> Option<&[u8]> {
    fields(bytes).find_map(|(found, field)| (found == number).then(|| field.bytes())?)
}

/// Iterates over the fields of a protobuf message, with their numbers.
fn fields(mut rest: &[u8]) -> impl Iterator<Item = (u64, Field<'_>)> {
    std::iter::from_fn(move || {
        let tag = varint(&mut rest)?;
        let mut take = |count: usize| rest.split_off(..count).expect("a whole message");
        let field = match tag & 7 {
            0 => Field::Number(varint(&mut rest)?),
            1 => Field::Number(u64::from_le_bytes(take(8).try_into().ok()?)),
            5 => Field::Number(u32::from_le_bytes(take(4).try_into().ok()?).into()),
            2 => {
                let count = varint(&mut rest)? as usize;
                Field::Bytes(rest.split_off(..count).expect("a whole message"))
            }
            wire => panic!("unknown wire type {wire}"),
        };
        Some((tag >> 3, field))
    })
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = rest.split_off_first()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    panic!("a number of more than 64 bits")
}
