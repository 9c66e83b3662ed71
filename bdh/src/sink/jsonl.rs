//! `metrics.jsonl`: the authoritative records of a run, one line for each step, readable during the run.

mod lines;
mod start;

use super::Sink;
use crate::failure::BoxError;
use crate::feedback::Feedback;
use crate::files::{self, BACKLOG, has_no_name};
use crate::outcome::{Outcome, Warning};
use crate::record::Record;
use crate::run::RunInfo;
use lines::Lines;
use same_file::Handle;
use start::{Kept, begin, continue_after};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// A sink that appends one JSON object for each record to `metrics.jsonl` in the run directory.
///
/// Each line is one `write(2)`, so a killed process or a full disk leaves whole lines. A torn last line, after the
/// machine itself died, is cut off on resume. The format of a line is that of [`Record::to_json`]; images are not
/// written.
///
/// A line that cannot be written is kept and tried again with each later one, up to 16 MiB of lines. If the file is
/// deleted, or replaced as editors, `sed -i` and `rsync` do, the sink opens the file of that name again and adds the
/// lines that it lacks, from the newest 1 MiB. If the file is moved, alone or with its directory, the sink continues to
/// write to it.
#[derive(Debug, Default)]
pub struct Jsonl(Option<Log>);

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
        let dir = run
            .dir
            .as_ref()
            .ok_or("metrics.jsonl needs a run directory")?;
        let path = dir.join(Self::FILE);
        let (file, last) = match run.resumed_at {
            Some(step) => continue_after(&path, step, run.resumed_record.as_ref())?,
            None => (begin(&path)?, None),
        };
        let mut log = Log::new(dir, file, &run.feedback)?;
        log.lines.gone = last;
        self.0 = Some(log);
        Ok(())
    }

    fn write(&mut self, record: &Record) -> Result<(), BoxError> {
        let log = self.0.as_mut().ok_or("metrics.jsonl is not open")?;
        log.lines.push(record.clock.step, line(record)?);
        let written = log.write_waiting();
        written.or_else(|error| log.keep_for_retry(&error))
    }

    fn flush(&mut self) -> Result<(), BoxError> {
        let Some(log) = &mut self.0 else {
            return Ok(());
        };
        let flushed = log.write_waiting().and_then(|()| log.file.sync_data());
        flushed.or_else(|error| log.keep_for_retry(&error))
    }

    fn close(&mut self, _outcome: &Outcome) -> Result<(), BoxError> {
        let Some(log) = &mut self.0 else {
            return Ok(());
        };
        let flushed = log.write_waiting().and_then(|()| log.file.sync_data());
        flushed.map_err(|error| log.lost(&error).into())
    }
}

/// The open file, and the lines that it may still need.
#[derive(Debug)]
struct Log {
    dir: PathBuf,
    /// Identity of the directory: another directory at its path belongs to another run.
    home: Handle,
    file: File,
    /// Identity of the file: another file at its path has replaced it.
    identity: Handle,
    /// Bytes of whole lines in the file.
    len: u64,
    lines: Lines,
    run: Feedback,
    /// Whether the present outage has been reported.
    has_warned: bool,
}

impl Log {
    fn new(dir: &Path, file: File, run: &Feedback) -> io::Result<Self> {
        Ok(Self {
            dir: dir.to_owned(),
            home: Handle::from_path(dir)?,
            identity: Handle::from_file(file.try_clone()?)?,
            len: file.metadata()?.len(),
            file,
            lines: Lines::default(),
            run: run.clone(),
            has_warned: false,
        })
    }

    /// Writes the waiting lines, each completely or not at all.
    fn write_waiting(&mut self) -> io::Result<()> {
        self.reopen_if_replaced()?;
        while let Some(line) = self.lines.next() {
            if let Err(error) = self.file.write_all(line) {
                let _ = self.file.set_len(self.len); // removes a part of the line; the write error is the one to report
                return Err(error);
            }
            self.len += line.len() as u64;
            self.lines.is_written();
        }
        self.has_warned = false; // a later outage is reported again
        Ok(())
    }

    /// Opens the file that has the name now, if ours was replaced or deleted, and queues the lines that it lacks.
    fn reopen_if_replaced(&mut self) -> io::Result<()> {
        let named = match files::open(&self.dir, Jsonl::FILE) {
            Ok(file) => Some(Handle::from_file(file)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Err(error), // a link
            Err(_) => return self.resync_if_changed(), // the path cannot be read, but the open file may work
        };
        if named.as_ref() == Some(&self.identity) {
            return self.resync_if_changed();
        }
        let is_deleted = has_no_name(&self.file)?;
        if self.is_home() && (named.is_some() || is_deleted) {
            return self.replace();
        }
        if is_deleted {
            let what = format!("`{}` has been deleted", self.path().display());
            return Err(io::Error::new(io::ErrorKind::NotFound, what));
        }
        self.resync_if_changed() // moved, alone or with its directory
    }

    /// Whether the directory at the path is still the run's own.
    fn is_home(&self) -> bool {
        Handle::from_path(&self.dir).is_ok_and(|dir| dir == self.home)
    }

    /// Reads the file again if another program has changed its length: an editor may write an older text in place.
    fn resync_if_changed(&mut self) -> io::Result<()> {
        if self.file.metadata()?.len() == self.len {
            Ok(())
        } else {
            self.resync()
        }
    }

    /// Opens the file of that name, and creates it if it is missing.
    fn replace(&mut self) -> io::Result<()> {
        let file = start::open(&self.path())?;
        let identity = Handle::from_file(file.try_clone()?)?;
        let named = Handle::from_file(files::open(&self.dir, Jsonl::FILE)?)?;
        if identity != named {
            return Err(io::Error::other(format!(
                "`{}` is being replaced",
                self.path().display()
            )));
        }
        (self.file, self.identity) = (file, identity);
        self.resync()
    }

    /// Reads the last step in the file, and queues the lines of later steps again.
    fn resync(&mut self) -> io::Result<()> {
        let mut text = Vec::new();
        self.file.rewind()?; // for reading; lines are always appended
        self.file.read_to_end(&mut text)?;
        let kept = Kept::of(&text, u64::MAX);
        self.file.set_len(kept.bytes)?;
        self.len = kept.bytes;
        if let Some(gone) = self.lines.rewind(kept.step) {
            self.warn_of_gap(kept.step, gone);
        }
        Ok(())
    }

    /// Warns that the file lacks the records after the step `last`, up to the step `gone`.
    fn warn_of_gap(&self, last: Option<u64>, gone: u64) {
        let since = match last {
            Some(step) => format!("step {step}"),
            None => "the start".to_owned(),
        };
        let path = self.path();
        let what = format!(
            "`{}` was replaced and lacks records since {since}, up to step {gone}",
            path.display()
        );
        self.warn(gone, what, "the file has all later records");
    }

    /// Keeps unwritten lines for the next try. Fails if the file is deleted for good, or more than 16 MiB are waiting.
    fn keep_for_retry(&mut self, error: &io::Error) -> Result<(), BoxError> {
        if error.kind() == io::ErrorKind::NotFound || self.lines.num_waiting_bytes > BACKLOG {
            return Err(self.lost(error).into());
        }
        if !std::mem::replace(&mut self.has_warned, true) {
            let step = self.lines.last_step().unwrap_or(0);
            self.warn(
                step,
                error.to_string(),
                "it is tried again with each record",
            );
        }
        Ok(())
    }

    /// Returns the text of a final error, with the steps whose records are missing.
    fn lost(&self, error: &io::Error) -> String {
        match self.lines.waiting() {
            Some((first, last)) if error.kind() != io::ErrorKind::NotFound => {
                format!("{error}; the records from step {first} to step {last} are missing")
            }
            _ => error.to_string(),
        }
    }

    fn warn(&self, step: u64, error: String, consequence: &str) {
        self.run.warn(Warning {
            source: "jsonl".to_owned(),
            phase: "write".to_owned(),
            step,
            cause: error,
            consequence: consequence.to_owned(),
        });
    }

    fn path(&self) -> PathBuf {
        self.dir.join(Jsonl::FILE)
    }
}

fn line(record: &Record) -> Result<Vec<u8>, BoxError> {
    let mut line = serde_json::to_vec(&record.to_json())?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests;
