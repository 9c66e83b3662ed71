//! `metrics.jsonl`: the truth of a run, one line a step, readable while it grows.

use super::Sink;
use crate::outcome::Outcome;
use crate::{BoxError, Record, RunInfo};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Appends one JSON object a record to `metrics.jsonl` in the run directory.
///
/// Each line is one `write(2)`, so a killed process leaves whole lines, and so does a full disk (and a torn
/// last line, after the machine itself died, is cut off on resume). The form of a line is that of
/// [`Record::to_json`]; images are left to the sinks that show them.
#[derive(Debug, Default)]
pub struct Jsonl {
    file: Option<File>,
    path: PathBuf,
}

impl Jsonl {
    /// The file's name in the run directory.
    pub const FILE: &str = "metrics.jsonl";
}

impl Sink for Jsonl {
    fn name(&self) -> String {
        "jsonl".to_owned()
    }

    fn files(&self) -> Vec<String> {
        vec![Self::FILE.to_owned()]
    }

    fn open(&mut self, run: &RunInfo) -> Result<(), BoxError> {
        let dir = run.dir.as_ref().ok_or("metrics.jsonl needs a run directory")?;
        let path = dir.join(Self::FILE);
        self.file = Some(match run.resumed_at {
            Some(step) => continue_after(&path, step, run.resumed_record.as_ref())?,
            None => begin(&path)?,
        });
        self.path = path;
        Ok(())
    }

    fn write(&mut self, record: &Record) -> Result<(), BoxError> {
        let file = self.file.as_mut().ok_or("metrics.jsonl is not open")?;
        write_line(file, record)
    }

    fn flush(&mut self) -> Result<(), BoxError> {
        let Some(file) = &self.file else { return Ok(()) };
        if is_deleted(file, &self.path)? {
            return Err(format!("`{}` has been deleted", self.path.display()).into());
        }
        Ok(file.sync_data()?)
    }

    fn close(&mut self, _outcome: &Outcome) -> Result<(), BoxError> {
        self.flush()
    }
}

/// Opens a new file. One that stands there already is another run's, unless nothing ever came of that.
fn begin(path: &Path) -> Result<File, BoxError> {
    let file = OpenOptions::new().append(true).create(true).open(path)?;
    if file.metadata()?.len() > 0 {
        return Err(format!("`{}` holds another run's records", path.display()).into());
    }
    Ok(file)
}

/// Opens `path` for appending after the record of `step`, and cuts off whatever came later.
///
/// That record itself is added if it never got there: a checkpoint appears before its step is recorded.
fn continue_after(path: &Path, step: u64, record: Option<&Record>) -> Result<File, BoxError> {
    if path.is_symlink() {
        let what = "is a link, and a resume cuts its file; put the file itself there";
        return Err(format!("`{}` {what}", path.display()).into());
    }
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let (mut read, mut keep, mut last) = (0, 0, None);
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        read += line.len() as u64;
        let parsed: Option<serde_json::Value> = serde_json::from_slice(line).ok();
        match parsed.and_then(|line| line.get("step")?.as_u64()) {
            Some(recorded) if recorded > step => break,
            Some(recorded) if line.ends_with(b"\n") => (keep, last) = (read, Some(recorded)),
            _ => {} // unreadable: kept if a record follows that is
        }
    }
    file.set_len(keep)?;
    file.seek(SeekFrom::End(0))?;
    if let Some(record) = record.filter(|_| last != Some(step)) {
        write_line(&mut file, record)?;
    }
    Ok(file)
}

/// Appends a line, or nothing: what got there of one that has no room is taken back.
fn write_line(file: &mut File, record: &Record) -> Result<(), BoxError> {
    let mut bytes = serde_json::to_vec(&record.to_json())?;
    bytes.push(b'\n');
    let whole = file.metadata()?.len();
    if let Err(error) = file.write_all(&bytes) {
        let _ = file.set_len(whole); // the first error is the one to tell
        return Err(error.into());
    }
    Ok(())
}

/// Whether nobody will ever see what is written: a file without a name is gone with the process.
fn is_deleted(file: &File, path: &Path) -> io::Result<bool> {
    #[cfg(unix)]
    let has_no_name = std::os::unix::fs::MetadataExt::nlink(&file.metadata()?) == 0;
    #[cfg(not(unix))]
    let has_no_name = file.metadata().is_err(); // an open file cannot be deleted there
    Ok(has_no_name && !path.exists()) // there are file systems that count no names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Clock, Value};

    fn record(step: u64, loss: f64) -> Record {
        let clock = Clock { step, ..Clock::default() };
        Record { clock, values: vec![("train/loss".to_owned(), Value::Scalar(loss))] }
    }

    #[test]
    fn a_resumed_file_loses_later_steps_and_a_torn_last_line() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join(Jsonl::FILE);
        let mut sink =
            Jsonl { file: Some(File::create(&path).expect("a new file")), path: path.clone() };
        for step in 1..=4 {
            sink.write(&record(step, 1.0)).expect("a line");
        }
        drop(sink);
        let text = std::fs::read_to_string(&path).expect("the lines");
        std::fs::write(&path, &text[..text.len() - 5]).expect("a torn last line");

        let third = record(3, 9.0);
        let file = continue_after(&path, 3, Some(&third)).expect("a file to go on with");
        Jsonl { file: Some(file), ..Jsonl::default() }.write(&record(4, 2.0)).expect("a line");
        let lines = std::fs::read_to_string(&path).expect("the lines");
        let steps: Vec<_> = lines
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"))
            .map(|line| (line["step"].as_u64(), line["train/loss"].as_f64()))
            .collect();
        let expected = [1.0, 1.0, 1.0, 2.0].map(Some);
        assert_eq!(steps, (1..=4).map(Some).zip(expected).collect::<Vec<_>>());
    }

    #[test]
    #[cfg(unix)]
    fn a_file_that_was_deleted_is_told_and_one_that_was_moved_is_not() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join(Jsonl::FILE);
        let mut sink = Jsonl { file: Some(begin(&path).expect("a new file")), path: path.clone() };
        let moved = dir.path().join("moved");
        std::fs::rename(&path, &moved).expect("a moved file");
        sink.write(&record(1, 1.0)).expect("a line");
        sink.flush().expect("a durable line");
        std::fs::remove_file(moved).expect("a deleted file");
        let error = sink.flush().expect_err("nobody will see it").to_string();
        assert!(error.ends_with("metrics.jsonl` has been deleted"), "{error}");
    }

    #[test]
    fn a_resumed_file_gets_the_record_that_never_reached_it_and_no_empty_one() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join(Jsonl::FILE);
        drop(continue_after(&path, 7, None).expect("a file"));
        assert_eq!(std::fs::read_to_string(&path).expect("the lines"), "");

        let third = record(3, f64::NAN);
        drop(continue_after(&path, 3, Some(&third)).expect("a file"));
        drop(continue_after(&path, 3, Some(&third)).expect("a file"));
        let line = format!("{}\n", third.to_json());
        assert_eq!(std::fs::read_to_string(&path).expect("the lines"), line);
    }
}
