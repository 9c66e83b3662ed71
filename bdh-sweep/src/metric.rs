//! The records of a run, read while it writes them.

use bdh::{Jsonl, files, number};
use serde_json::Value;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Follows one metric in a run's `metrics.jsonl`.
///
/// A resumed run truncates the file and records some steps again, and a restarted run has another file. Each look
/// detects both, even if the file has grown beyond its old length by then, and reads everything again.
#[derive(Debug)]
pub(crate) struct Follower {
    run_dir: PathBuf,
    key: String,
    read: Option<Reading>,
    /// Last recorded step.
    pub(crate) step: u64,
    /// Each value of the metric, with its step.
    pub(crate) history: Vec<(u64, f64)>,
}

/// Position in the file that is being read.
#[derive(Debug)]
struct Reading {
    file: Identity,
    /// Offset of the last whole line.
    last_at: u64,
    /// The last whole line. A line includes its time, so a step that is recorded again has another line.
    last: Vec<u8>,
}

impl Follower {
    pub(crate) fn new(run_dir: &Path, key: &str) -> Self {
        Self {
            run_dir: run_dir.to_owned(),
            key: key.to_owned(),
            read: None,
            step: 0,
            history: Vec::new(),
        }
    }

    /// Last recorded value of the metric.
    pub(crate) fn last(&self) -> Option<f64> {
        self.history.last().map(|(_, value)| *value)
    }

    /// Reads new lines. A file that is gone counts as empty.
    ///
    /// # Errors
    ///
    /// If the file exists and cannot be read; earlier values are kept.
    pub(crate) fn look(&mut self) -> io::Result<()> {
        match self.new_lines() {
            Ok(text) => self.take(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.forget(),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Reads the whole file again, at the end of a run, when its value is decided.
    pub(crate) fn reread(&mut self) {
        let mut anew = Self::new(&self.run_dir, &self.key);
        // If the file exists and cannot be read now, the earlier values are kept.
        if anew.look().is_ok() {
            *self = anew;
        }
    }

    fn open(&self) -> io::Result<File> {
        files::open(&self.run_dir, Jsonl::FILE)
    }

    fn forget(&mut self) {
        (self.read, self.step) = (None, 0);
        self.history.clear();
    }

    /// Returns the text after the last line read, or the whole text if that line is no longer there.
    fn new_lines(&mut self) -> io::Result<Vec<u8>> {
        let mut file = self.open()?;
        let identity = Identity::of(&file)?;
        let mut text = Vec::new();
        if let Some(reading) = &self.read
            && reading.file == identity
        {
            // One read gets that line and the new ones, so that the file cannot be truncated in between.
            file.seek(SeekFrom::Start(reading.last_at))?;
            file.read_to_end(&mut text)?;
            if text.starts_with(&reading.last) {
                return Ok(text.split_off(reading.last.len()));
            }
            text.clear();
        }
        file.seek(SeekFrom::Start(0))?;
        file.read_to_end(&mut text)?;
        self.forget(); // after the read, so that a failed read loses nothing
        self.read = Some(Reading {
            file: identity,
            last_at: 0,
            last: Vec::new(),
        });
        Ok(text)
    }

    /// Takes the values of whole lines; a last line without its end is still being written.
    fn take(&mut self, text: &[u8]) {
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            if !line.ends_with(b"\n") {
                break;
            }
            if let Some(reading) = &mut self.read {
                reading.last_at += reading.last.len() as u64;
                line.clone_into(&mut reading.last);
            }
            self.take_line(line);
        }
    }

    /// Takes the step and the value of one line; a line without a step is skipped.
    fn take_line(&mut self, line: &[u8]) {
        let Ok(record) = serde_json::from_slice::<Value>(line) else {
            return;
        };
        let Some(step) = record.get("step").and_then(Value::as_u64) else {
            return;
        };
        self.step = step;
        if let Some(value) = record.get(&self.key).and_then(number::from_json) {
            self.history.push((step, value));
        }
    }
}

/// Identity of a file regardless of its name; all files are equal where the system does not report one.
///
/// The file is not kept open for this, because a sweep follows the runs of all its trials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity(#[cfg(unix)] [u64; 2]);

impl Identity {
    #[cfg(unix)]
    fn of(file: &File) -> io::Result<Self> {
        use std::os::unix::fs::MetadataExt;
        let data = file.metadata()?;
        Ok(Self([data.dev(), data.ino()]))
    }

    #[cfg(not(unix))]
    fn of(_: &File) -> io::Result<Self> {
        Ok(Self())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn line(step: u64, loss: f64, elapsed: f64) -> String {
        format!("{{\"loss\":{loss},\"step\":{step},\"elapsed\":{elapsed}}}\n")
    }

    /// Returns the records of some steps, one a second.
    fn lines(steps: std::ops::RangeInclusive<u64>, began: f64) -> String {
        steps
            .map(|step| line(step, 10.0 - step as f64, began + step as f64))
            .collect()
    }

    struct Place {
        dir: tempfile::TempDir,
        follower: Follower,
    }

    impl Place {
        /// Creates a run of 19 steps and reads it.
        fn new() -> Self {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let follower = Follower::new(dir.path(), "loss");
            let mut place = Self { dir, follower };
            place.write(&lines(1..=19, 0.0));
            assert_eq!(place.look(), (19, 19, Some(-9.0)));
            place
        }

        fn path(&self) -> PathBuf {
            self.dir.path().join("metrics.jsonl")
        }

        fn write(&self, text: &str) {
            fs::write(self.path(), text).expect("a file");
        }

        /// Returns the last step, the number of values, and the last value.
        fn look(&mut self) -> (u64, usize, Option<f64>) {
            self.follower.look().expect("the file can be read");
            (
                self.follower.step,
                self.follower.history.len(),
                self.follower.last(),
            )
        }
    }

    #[test]
    fn lines_are_read_once_and_whole() {
        let mut place = Place::new();
        let text = lines(1..=20, 0.0);
        place.write(&text[..text.len() - 3]);
        assert_eq!(place.look(), (19, 19, Some(-9.0)), "the last line is torn");
        place.write(&text);
        assert_eq!(place.look(), (20, 20, Some(-10.0)));
        assert_eq!(place.look(), (20, 20, Some(-10.0)));
    }

    #[test]
    fn file_truncated_and_grown_again_is_reread() {
        let mut place = Place::new();
        // A resume at step 15 truncates in place. Its times are later, so the lines have other lengths.
        place.write(&(lines(1..=15, 0.0) + &lines(16..=20, 100.25)));
        assert_eq!(place.look(), (20, 20, Some(-10.0)));

        // The same steps again, with lines of the same length.
        place.write(&(lines(1..=15, 0.0) + &lines(16..=20, 200.25)));
        assert_eq!(place.look(), (20, 20, Some(-10.0)));
        place.write(&(lines(1..=15, 0.0) + &line(16, 7.5, 0.5)));
        assert_eq!(place.look(), (16, 16, Some(7.5)), "shorter than before");
    }

    #[test]
    fn replaced_file_is_reread() {
        let mut place = Place::new();
        // `sed -i` replaces the file: the last line is as before, an earlier one is not.
        let other = place.dir.path().join("other");
        fs::write(&other, lines(1..=19, 0.0).replacen(":9,", ":8,", 1)).expect("a file");
        fs::rename(other, place.path()).expect("a rename");
        place.look();
        if cfg!(unix) {
            assert_eq!(place.follower.history[0], (1, 8.0));
        }
        fs::remove_file(place.path()).expect("the file");
        assert_eq!(place.look(), (0, 0, None), "a removed run has no records");
        place.write(&lines(1..=2, 0.0));
        assert_eq!(place.look(), (2, 2, Some(8.0)));
    }

    #[test]
    fn unreadable_file_keeps_earlier_values() {
        let mut place = Place::new();
        fs::remove_file(place.path()).expect("the file");
        fs::create_dir(place.path()).expect("a folder in its place");
        place.follower.look().expect_err("a folder is not a file");
        place.follower.reread();
        assert_eq!(
            (place.follower.step, place.follower.last()),
            (19, Some(-9.0))
        );

        fs::remove_dir(place.path()).expect("the folder");
        place.follower.reread();
        assert_eq!(
            (place.follower.step, place.follower.last()),
            (0, None),
            "the file is gone"
        );
    }

    #[test]
    fn whole_file_counts_at_the_end() {
        let mut place = Place::new();
        // The last line is the same: only the whole file shows that the middle has changed.
        let text = lines(1..=19, 0.0);
        place.write(&text.replacen(":5,", ":6,", 1));
        assert_eq!(place.look().1, 19);
        place.follower.reread();
        assert_eq!(place.follower.history[4], (5, 6.0));
    }
}
