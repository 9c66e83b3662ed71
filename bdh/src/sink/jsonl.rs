//! `metrics.jsonl`: the authoritative records of a run, one line a step, readable while it grows.

use super::Sink;
use crate::failure::BoxError;
use crate::feedback::Feedback;
use crate::files;
use crate::outcome::{Outcome, Problem};
use crate::record::{CLOCK, Record};
use crate::run::RunInfo;
use same_file::Handle;
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Bytes of lines that wait to be written; with more the sink gives up.
const BACKLOG: usize = 16 << 20;

/// Bytes of written lines that are kept, for a file that is put in the place of ours and lacks them.
const RECENT: usize = 1 << 20;

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
        let dir = run.dir.as_ref().ok_or("metrics.jsonl needs a run directory")?;
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
        let Some(log) = &mut self.0 else { return Ok(()) };
        let flushed = log.catch_up().and_then(|()| log.file.sync_data());
        flushed.or_else(|error| log.bear(&error))
    }

    fn close(&mut self, _outcome: &Outcome) -> Result<(), BoxError> {
        let Some(log) = &mut self.0 else { return Ok(()) };
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
            let has_name = has_name(&self.file)?;
            if is_home && (named.is_some() || !has_name) {
                return self.replace();
            }
            if !has_name {
                let what = format!("`{}` has been deleted", self.path().display());
                return Err(io::Error::new(io::ErrorKind::NotFound, what));
            }
        }
        self.rejoin_if_changed()
    }

    /// Looks into the file if another program has written to it: an editor may put back an older text in place, too.
    fn rejoin_if_changed(&mut self) -> io::Result<()> {
        if self.file.metadata()?.len() == self.len { Ok(()) } else { self.rejoin() }
    }

    fn replace(&mut self) -> io::Result<()> {
        let file = OpenOptions::new().read(true).append(true).create(true).open(self.path())?;
        let identity = Handle::from_file(file.try_clone()?)?;
        let named = Handle::from_file(files::open(&self.dir, Jsonl::FILE)?)?;
        if identity != named {
            return Err(io::Error::other(format!("`{}` is being replaced", self.path().display())));
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
            let since = whole.step.map_or("the start".to_owned(), |step| format!("step {step}"));
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
            self.tell(step, error.to_string(), "it is tried again with each record");
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

/// The newest lines, in order: those that are written, then those that wait.
#[derive(Debug, Default)]
struct Lines {
    all: VecDeque<(u64, Vec<u8>)>,
    num_written: usize,
    num_written_bytes: usize,
    num_waiting_bytes: usize,
    /// The last step of which the line is no longer kept, or was written before a resume.
    gone: Option<u64>,
}

impl Lines {
    fn push(&mut self, step: u64, line: Vec<u8>) {
        self.num_waiting_bytes += line.len();
        self.all.push_back((step, line));
    }

    /// The first line that waits.
    fn next(&self) -> Option<&[u8]> {
        self.all.get(self.num_written).map(|(_, line)| line.as_slice())
    }

    /// Moves on to the next line, and lets old ones go.
    fn is_written(&mut self) {
        let bytes = self.next().map_or(0, <[u8]>::len);
        self.num_waiting_bytes -= bytes;
        self.num_written_bytes += bytes;
        self.num_written += 1;
        while self.num_written_bytes > RECENT
            && let Some((step, line)) = self.all.pop_front()
        {
            self.num_written_bytes -= line.len();
            self.num_written -= 1;
            self.gone = Some(step);
        }
    }

    /// Lets all lines of steps after `last` wait. Gives the last step of those among them that are gone.
    fn rewind(&mut self, last: Option<u64>) -> Option<u64> {
        self.num_written = self.all.partition_point(|(step, _)| Some(*step) <= last);
        let bytes = |lines: Range<usize>| self.all.range(lines).map(|(_, line)| line.len()).sum();
        self.num_written_bytes = bytes(0..self.num_written);
        self.num_waiting_bytes = bytes(self.num_written..self.all.len());
        self.gone.filter(|gone| Some(*gone) > last)
    }

    /// The first and the last step of which the lines wait.
    fn waiting(&self) -> Option<(u64, u64)> {
        let (first, _) = self.all.get(self.num_written)?;
        Some((*first, self.last_step()?))
    }

    fn last_step(&self) -> Option<u64> {
        self.all.back().map(|(step, _)| *step)
    }
}

/// Opens a new file. One that stands there already is another run's, unless nothing ever came of that.
fn begin(path: &Path) -> Result<File, BoxError> {
    let file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
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
fn continue_after(
    path: &Path,
    step: u64,
    record: Option<&Record>,
) -> Result<(File, Option<u64>), BoxError> {
    if path.is_symlink() {
        let what = "is a link, and a resume cuts its file; put the file itself there";
        return Err(format!("`{}` {what}", path.display()).into());
    }
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let whole = Whole::of(&text, step);
    file.set_len(whole.bytes)?;
    if whole.step != Some(step) {
        let Some(record) = record else { return Ok((file, whole.step)) };
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

fn line(record: &Record) -> Result<Vec<u8>, BoxError> {
    let mut line = serde_json::to_vec(&record.to_json())?;
    line.push(b'\n');
    Ok(line)
}

/// The part of a file that can be kept.
#[derive(Debug, PartialEq)]
struct Whole {
    bytes: u64,
    /// Where its last line begins.
    last_line: u64,
    /// The step of that.
    step: Option<u64>,
}

impl Whole {
    /// Finds the records up to that of `last`. Lines that cannot be read are kept if a record follows them.
    fn of(text: &[u8], last: u64) -> Self {
        let (mut read, mut whole) = (0, Self { bytes: 0, last_line: 0, step: None });
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            let last_line = read;
            read += line.len() as u64;
            let parsed: Option<serde_json::Value> = serde_json::from_slice(line).ok();
            match parsed.and_then(|line| line.get("step")?.as_u64()) {
                Some(step) if step > last => break,
                Some(step) if line.ends_with(b"\n") => {
                    whole = Self { bytes: read, last_line, step: Some(step) };
                }
                _ => {}
            }
        }
        whole
    }
}

/// Whether an open file can still be found: one without a name is gone with the process.
fn has_name(file: &File) -> io::Result<bool> {
    #[cfg(unix)]
    return Ok(std::os::unix::fs::MetadataExt::nlink(&file.metadata()?) > 0);
    #[cfg(not(unix))]
    Ok(file.metadata().is_ok()) // an open file cannot be deleted there
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::feedback::Said;
    use crate::record::Value;
    use std::fs;
    use std::sync::mpsc::Receiver;

    fn record(step: u64, loss: f64) -> Record {
        let clock = Clock { step, ..Clock::default() };
        Record { clock, values: vec![("train/loss".to_owned(), Value::Scalar(loss))] }
    }

    /// A sink with a new file in `dir`, and the end at which its problems arrive.
    fn begun(dir: &Path) -> (Jsonl, Receiver<Said>) {
        let (run, said) = Feedback::channel();
        let file = begin(&dir.join(Jsonl::FILE)).expect("a new file");
        (Jsonl(Some(Log::new(dir, file, &run).expect("a file"))), said)
    }

    fn write(sink: &mut Jsonl, steps: std::ops::RangeInclusive<u64>) {
        for step in steps {
            sink.write(&record(step, 1.0)).expect("a line");
        }
    }

    fn steps(path: &Path) -> Vec<u64> {
        let text = fs::read_to_string(path).expect("the lines");
        let step = |line| -> Option<u64> {
            serde_json::from_str::<serde_json::Value>(line).expect("JSON")["step"].as_u64()
        };
        text.lines().map(|line| step(line).expect("a step")).collect()
    }

    fn told(said: &Receiver<Said>) -> Vec<String> {
        let text = |said| match said {
            Said::Problem(problem) => problem.to_string(),
            said => format!("{said:?}"),
        };
        said.try_iter().map(text).collect()
    }

    #[test]
    fn a_resumed_file_loses_later_steps_and_a_torn_last_line() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join(Jsonl::FILE);
        write(&mut begun(dir.path()).0, 1..=4);
        let text = fs::read_to_string(&path).expect("the lines");
        fs::write(&path, &text[..text.len() - 5]).expect("a torn last line");

        let third = record(3, 9.0);
        drop(continue_after(&path, 3, Some(&third)).expect("a file to go on with"));
        let expected: String = text.split_inclusive('\n').take(3).collect();
        assert_eq!(fs::read_to_string(&path).expect("the lines"), expected);
    }

    #[test]
    fn a_resumed_file_gets_the_record_that_never_reached_it_and_no_empty_one() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join(Jsonl::FILE);
        drop(continue_after(&path, 7, None).expect("a file"));
        assert_eq!(fs::read_to_string(&path).expect("the lines"), "");

        let third = record(3, f64::NAN);
        drop(continue_after(&path, 3, Some(&third)).expect("a file"));
        drop(continue_after(&path, 3, Some(&third)).expect("a file"));
        let line = format!("{}\n", third.to_json());
        assert_eq!(fs::read_to_string(&path).expect("the lines"), line);
    }

    #[test]
    fn a_file_that_is_replaced_deleted_or_cut_gets_each_record_once() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join(Jsonl::FILE);
        let (mut sink, said) = begun(dir.path());
        write(&mut sink, 1..=3);
        let old = fs::read(&path).expect("the lines");
        write(&mut sink, 4..=5);
        let copy = dir.path().join("sedAbCdEf");
        fs::write(&copy, &old).expect("what an editor has read a little earlier");
        fs::rename(&copy, &path).expect("a replaced file");
        write(&mut sink, 6..=6);
        assert_eq!(steps(&path), [1, 2, 3, 4, 5, 6]);

        fs::remove_file(&path).expect("a deleted file");
        write(&mut sink, 7..=7);
        assert_eq!(steps(&path), [1, 2, 3, 4, 5, 6, 7]);

        fs::write(&path, [&old[..], b"{\"torn"].concat()).expect("an older text, in place");
        sink.flush().expect("durable lines");
        assert_eq!(steps(&path), [1, 2, 3, 4, 5, 6, 7]);

        fs::write(&path, "").expect("a cleared file");
        sink.close(&Outcome::Completed).expect("a closed file");
        assert_eq!(steps(&path), [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(told(&said), Vec::<String>::new());
    }

    #[test]
    fn records_that_a_new_file_lacks_and_that_are_kept_no_more_are_named() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join(Jsonl::FILE);
        let (mut sink, said) = begun(dir.path());
        write(&mut sink, 1..=2);
        let long = Value::Text("x".repeat(RECENT));
        sink.write(&Record { values: vec![("a".to_owned(), long)], ..record(3, 0.0) })
            .expect("a line");
        write(&mut sink, 4..=4);
        fs::remove_file(&path).expect("a deleted file");
        write(&mut sink, 5..=5);
        assert_eq!(steps(&path), [4, 5]);
        let told = told(&said);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("lacks records since the start, up to step 3"), "{told:?}");
    }

    #[test]
    fn records_of_before_a_resume_that_a_new_file_lacks_are_named() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join(Jsonl::FILE);
        write(&mut begun(dir.path()).0, 1..=3);
        let (run, said) = Feedback::channel();
        let (file, last) = continue_after(&path, 3, Some(&record(3, 1.0))).expect("a file");
        assert_eq!(last, Some(3));
        let mut log = Log::new(dir.path(), file, &run).expect("a file");
        log.lines.gone = last;
        let mut sink = Jsonl(Some(log));
        write(&mut sink, 4..=4);
        fs::remove_file(&path).expect("a deleted file");
        write(&mut sink, 5..=5);
        assert_eq!(steps(&path), [4, 5]);
        let told = told(&said);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("lacks records since the start, up to step 3"), "{told:?}");
    }

    #[test]
    #[cfg(unix)]
    fn a_link_in_the_place_of_the_file_is_not_followed_and_the_lines_wait() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join(Jsonl::FILE);
        let elsewhere = dir.path().join("elsewhere");
        fs::write(&elsewhere, "").expect("another file");
        let (mut sink, said) = begun(dir.path());
        write(&mut sink, 1..=1);
        fs::remove_file(&path).expect("a deleted file");
        std::os::unix::fs::symlink(&elsewhere, &path).expect("a link");
        write(&mut sink, 2..=3);
        assert_eq!(fs::read(&elsewhere).expect("another file"), b"");
        let told = told(&said);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].ends_with("a link; it is tried again with each record"), "{told:?}");
        let error = sink.close(&Outcome::Completed).expect_err("lines are missing").to_string();
        assert!(error.ends_with("the records from step 2 to step 3 are missing"), "{error}");
        fs::remove_file(&path).expect("a deleted link");
        write(&mut sink, 4..=4);
        assert_eq!(steps(&path), [1, 2, 3, 4]);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn lines_without_room_wait_for_it_up_to_a_bound() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join(Jsonl::FILE);
        let (mut sink, said) = begun(dir.path());
        write(&mut sink, 1..=1);
        let log = sink.0.as_mut().expect("it is open");
        // Read-only: each write fails, as on a disk that has trouble.
        let file = std::mem::replace(&mut log.file, File::open(&path).expect("the file"));
        write(&mut sink, 2..=3);
        assert_eq!(told(&said).len(), 1);
        sink.0.as_mut().expect("it is open").file = file;
        write(&mut sink, 4..=4);
        assert_eq!(steps(&path), [1, 2, 3, 4]);

        sink.0.as_mut().expect("it is open").file = File::open(&path).expect("the file");
        let quarter = Value::Text("x".repeat(BACKLOG / 4));
        let large =
            |step| Record { values: vec![("a".to_owned(), quarter.clone())], ..record(step, 0.0) };
        for step in 5..8 {
            sink.write(&large(step)).expect("room in memory");
        }
        let error = sink.write(&large(8)).expect_err("too much").to_string();
        assert!(error.ends_with("the records from step 5 to step 8 are missing"), "{error}");
        assert_eq!(steps(&path), [1, 2, 3, 4], "whole lines");
        assert_eq!(told(&said).len(), 1, "the second outage is reported once, too");
    }

    #[test]
    #[cfg(unix)]
    fn a_file_moved_with_its_directory_goes_on_there_and_the_next_run_is_left_alone() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (home, moved) = (dir.path().join("run"), dir.path().join("moved"));
        fs::create_dir(&home).expect("a directory");
        let (mut sink, _said) = begun(&home);
        write(&mut sink, 1..=1);
        fs::rename(home.join(Jsonl::FILE), home.join("other name")).expect("a moved file");
        write(&mut sink, 2..=2);
        assert!(!home.join(Jsonl::FILE).exists());
        fs::rename(home.join("other name"), home.join(Jsonl::FILE)).expect("a moved file");

        fs::rename(&home, &moved).expect("a moved directory");
        fs::create_dir(&home).expect("the directory of another run");
        write(&mut begun(&home).0, 1..=1);
        write(&mut sink, 3..=3);
        assert_eq!(steps(&moved.join(Jsonl::FILE)), [1, 2, 3]);
        assert_eq!(steps(&home.join(Jsonl::FILE)), [1]);

        fs::remove_dir_all(moved).expect("a deleted directory");
        let error = sink.write(&record(4, 1.0)).expect_err("it can be found nowhere").to_string();
        assert!(error.ends_with("metrics.jsonl` has been deleted"), "{error}");
        assert_eq!(steps(&home.join(Jsonl::FILE)), [1]);
    }
}
