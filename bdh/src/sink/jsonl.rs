//! `metrics.jsonl`: the authoritative records of a run, one line a step, readable while it grows.

mod lines;
mod start;

use super::Sink;
use crate::failure::BoxError;
use crate::feedback::Feedback;
use crate::files::{self, BACKLOG, has_no_name};
use crate::outcome::{Outcome, Problem};
use crate::record::Record;
use crate::run::RunInfo;
use lines::Lines;
use same_file::Handle;
use start::{Whole, begin, continue_after};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// Appends one JSON object a record to `metrics.jsonl` in the run directory.
///
/// Each line is one `write(2)`, so a killed process leaves whole lines, and so does a full disk (and a torn
/// last line, after the machine itself died, is cut off on resume). The form of a line is that of
/// [`Record::to_json`]; images are left to the sinks that show them.
///
/// A line that cannot be written is kept and tried again with each later one, up to 16 MiB of them. A file that is
/// replaced, as editors, `sed -i` and `rsync` do, or deleted, is followed by its name: the new one gets the lines that it
/// lacks, of the newest MiB. One that is moved, alone or with its directory, is written on where it is.
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
        let written = log.catch_up();
        written.or_else(|error| log.bear(&error))
    }

    fn flush(&mut self) -> Result<(), BoxError> {
        let Some(log) = &mut self.0 else {
            return Ok(());
        };
        let flushed = log.catch_up().and_then(|()| log.file.sync_data());
        flushed.or_else(|error| log.bear(&error))
    }

    fn close(&mut self, _outcome: &Outcome) -> Result<(), BoxError> {
        let Some(log) = &mut self.0 else {
            return Ok(());
        };
        let flushed = log.catch_up().and_then(|()| log.file.sync_data());
        flushed.map_err(|error| log.lost(&error).into())
    }
}

/// The open file, and the lines that it may still need.
#[derive(Debug)]
struct Log {
    dir: PathBuf,
    /// The directory itself: another one under its name is another run's.
    home: Handle,
    file: File,
    /// The file itself: another one under its name has replaced it.
    identity: Handle,
    /// Bytes of whole lines in the file.
    len: u64,
    lines: Lines,
    run: Feedback,
    has_told: bool,
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
            has_told: false,
        })
    }

    /// Writes the lines that wait, each whole or not at all.
    fn catch_up(&mut self) -> io::Result<()> {
        self.follow()?;
        while let Some(line) = self.lines.next() {
            if let Err(error) = self.file.write_all(line) {
                let _ = self.file.set_len(self.len); // the first error is the one to report
                return Err(error);
            }
            self.len += line.len() as u64;
            self.lines.is_written();
        }
        self.has_told = false; // the next outage is another one
        Ok(())
    }

    /// Takes the file that has the name now, if ours was replaced or deleted, and makes up for what it lacks.
    fn follow(&mut self) -> io::Result<()> {
        let named = match files::open(&self.dir, Jsonl::FILE) {
            Ok(file) => Some(Handle::from_file(file)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Err(error), // a link
            Err(_) => return self.rejoin_if_changed(), // not seen, but the open file may be fine
        };
        if named.as_ref() != Some(&self.identity) {
            let is_home = Handle::from_path(&self.dir).is_ok_and(|dir| dir == self.home);
            let is_deleted = has_no_name(&self.file)?;
            if is_home && (named.is_some() || is_deleted) {
                return self.replace();
            }
            if is_deleted {
                let what = format!("`{}` has been deleted", self.path().display());
                return Err(io::Error::new(io::ErrorKind::NotFound, what));
            }
        }
        self.rejoin_if_changed()
    }

    /// Looks into the file if another program has written to it: an editor may put back an older text in place, too.
    fn rejoin_if_changed(&mut self) -> io::Result<()> {
        if self.file.metadata()?.len() == self.len {
            Ok(())
        } else {
            self.rejoin()
        }
    }

    fn replace(&mut self) -> io::Result<()> {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(self.path())?;
        let identity = Handle::from_file(file.try_clone()?)?;
        let named = Handle::from_file(files::open(&self.dir, Jsonl::FILE)?)?;
        if identity != named {
            return Err(io::Error::other(format!(
                "`{}` is being replaced",
                self.path().display()
            )));
        }
        (self.file, self.identity) = (file, identity);
        self.rejoin()
    }

    /// Finds out what the file holds, and lets the lines of later steps wait again.
    fn rejoin(&mut self) -> io::Result<()> {
        let mut text = Vec::new();
        self.file.rewind()?; // for reading; lines are always appended
        self.file.read_to_end(&mut text)?;
        let whole = Whole::of(&text, u64::MAX);
        self.file.set_len(whole.bytes)?;
        self.len = whole.bytes;
        if let Some(gone) = self.lines.rewind(whole.step) {
            let since = whole
                .step
                .map_or("the start".to_owned(), |step| format!("step {step}"));
            let path = self.path();
            let what = format!(
                "`{}` was replaced and lacks records since {since}, up to step {gone}",
                path.display()
            );
            self.tell(gone, what, "later records are in it");
        }
        Ok(())
    }

    /// Keeps what could not be written for the next try, as long as there is hope and room.
    fn bear(&mut self, error: &io::Error) -> Result<(), BoxError> {
        if error.kind() == io::ErrorKind::NotFound || self.lines.num_waiting_bytes > BACKLOG {
            return Err(self.lost(error).into());
        }
        if !std::mem::replace(&mut self.has_told, true) {
            let step = self.lines.last_step().unwrap_or(0);
            self.tell(
                step,
                error.to_string(),
                "it is tried again with each record",
            );
        }
        Ok(())
    }

    /// The error, and which records it costs.
    fn lost(&self, error: &io::Error) -> String {
        match self.lines.waiting() {
            Some((first, last)) if error.kind() != io::ErrorKind::NotFound => {
                format!("{error}; the records from step {first} to step {last} are missing")
            }
            _ => error.to_string(),
        }
    }

    fn tell(&self, step: u64, error: String, consequence: &str) {
        self.run.tell(Problem {
            who: "jsonl".to_owned(),
            during: "write".to_owned(),
            step,
            error,
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
