//! What a run has recorded so far, read while it grows.

use bdh::{Jsonl, files, number};
use serde_json::Value;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Follows one metric in a run's `metrics.jsonl`.
///
/// A resumed run cuts the file and records some steps again, and a run that is started anew has another file. Both are
/// noticed at the next look, also when the file has grown beyond its old length by then, and everything is read anew.
#[derive(Debug)]
pub(crate) struct Follower {
    run_dir: PathBuf,
    key: String,
    read: Option<Reading>,
    /// The last step that was recorded.
    pub(crate) step: u64,
    /// Each value of the metric, with its step.
    pub(crate) history: Vec<(u64, f64)>,
}

/// How much of which file has been read.
#[derive(Debug)]
struct Reading {
    file: Identity,
    /// Where the last whole line begins.
    last_at: u64,
    /// That line. A line has its time in it: one that was recorded again is another.
    last: Vec<u8>,
}

impl Follower {
    pub(crate) fn new(run_dir: &Path, key: &str) -> Self {
        let (run_dir, key) = (run_dir.to_owned(), key.to_owned());
        Self {
            run_dir,
            key,
            read: None,
            step: 0,
            history: Vec::new(),
        }
    }

    /// The metric as last recorded.
    pub(crate) fn last(&self) -> Option<f64> {
        self.history.last().map(|(_, value)| *value)
    }

    /// Reads what is new. A file that is gone has nothing.
    ///
    /// # Errors
    ///
    /// If the file is there and cannot be read; what was read before is kept.
    pub(crate) fn look(&mut self) -> io::Result<()> {
        match self.new_lines() {
            Ok(text) => self.take(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.forget(),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Reads the whole file: at the end of a run, when its value is decided.
    pub(crate) fn read_anew(&mut self) {
        let mut anew = Self::new(&self.run_dir, &self.key);
        // A file that is there and cannot be read now keeps what was read of it before.
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

    /// The text behind the last line that was read, or all of it if that line is no longer there.
    fn new_lines(&mut self) -> io::Result<Vec<u8>> {
        let mut file = self.open()?;
        let identity = Identity::of(&file)?;
        let mut text = Vec::new();
        if let Some(reading) = self
            .read
            .as_ref()
            .filter(|reading| reading.file == identity)
        {
            // In one read with what is new, so that the file cannot be cut in between.
            file.seek(SeekFrom::Start(reading.last_at))?;
            file.read_to_end(&mut text)?;
            if text.starts_with(&reading.last) {
                return Ok(text.split_off(reading.last.len()));
            }
            text.clear();
        }
        file.seek(SeekFrom::Start(0))?;
        file.read_to_end(&mut text)?;
        self.forget(); // only now: a read that fails costs nothing
        self.read = Some(Reading {
            file: identity,
            last_at: 0,
            last: Vec::new(),
        });
        Ok(text)
    }

    /// Takes the values of whole lines.
    fn take(&mut self, text: &[u8]) {
        for line in text
            .split_inclusive(|byte| *byte == b'\n')
            .filter(|line| line.ends_with(b"\n"))
        {
            if let Some(reading) = &mut self.read {
                reading.last_at += reading.last.len() as u64;
                line.clone_into(&mut reading.last);
            }
            let parsed: Option<Value> = serde_json::from_slice(line).ok();
            let Some(record) = parsed else { continue };
            let Some(step) = record.get("step").and_then(Value::as_u64) else {
                continue;
            };
            self.step = step;
            if let Some(value) = record.get(&self.key).and_then(number::from_json) {
                self.history.push((step, value));
            }
        }
    }
}

/// Which file it is, whatever its name; nothing where the system does not say.
///
/// The file is not kept open for this: a sweep follows as many runs as it has trials.
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

    /// Records of some steps, one a second.
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
        /// A run of 19 steps, which has been read.
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

        /// The last step, the number of values, the last of them.
        fn look(&mut self) -> (u64, usize, Option<f64>) {
            self.follower.look().expect("it can be read");
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
    fn a_file_that_was_cut_and_grew_beyond_its_old_length_is_read_anew() {
        let mut place = Place::new();
        // As a resume at step 15 does it: in place. The clock ran on, so the lines have other lengths.
        place.write(&(lines(1..=15, 0.0) + &lines(16..=20, 100.25)));
        assert_eq!(place.look(), (20, 20, Some(-10.0)));

        // Recorded again to the same length.
        place.write(&(lines(1..=15, 0.0) + &lines(16..=20, 200.25)));
        assert_eq!(place.look(), (20, 20, Some(-10.0)));
        place.write(&(lines(1..=15, 0.0) + &line(16, 7.5, 0.5)));
        assert_eq!(place.look(), (16, 16, Some(7.5)), "shorter than before");
    }

    #[test]
    fn another_file_under_the_name_is_read_anew() {
        let mut place = Place::new();
        // As `sed -i` does it: the last line is as before, an earlier one is not.
        let other = place.dir.path().join("other");
        fs::write(&other, lines(1..=19, 0.0).replacen(":9,", ":8,", 1)).expect("a file");
        fs::rename(other, place.path()).expect("a rename");
        place.look();
        if cfg!(unix) {
            assert_eq!(place.follower.history[0], (1, 8.0));
        }
        fs::remove_file(place.path()).expect("the file");
        assert_eq!(
            place.look(),
            (0, 0, None),
            "a run that was removed has recorded nothing"
        );
        place.write(&lines(1..=2, 0.0));
        assert_eq!(place.look(), (2, 2, Some(8.0)));
    }

    #[test]
    fn a_file_that_cannot_be_read_now_keeps_what_was_read_of_it() {
        let mut place = Place::new();
        fs::remove_file(place.path()).expect("the file");
        fs::create_dir(place.path()).expect("a folder in its place");
        place.follower.look().expect_err("it is no file");
        place.follower.read_anew();
        assert_eq!(
            (place.follower.step, place.follower.last()),
            (19, Some(-9.0))
        );

        fs::remove_dir(place.path()).expect("the folder");
        place.follower.read_anew();
        assert_eq!(
            (place.follower.step, place.follower.last()),
            (0, None),
            "it is gone"
        );
    }

    #[test]
    fn at_the_end_the_whole_file_counts() {
        let mut place = Place::new();
        // No clock in the lines: only the whole file shows that the middle is another.
        let text = lines(1..=19, 0.0);
        place.write(&text.replacen(":5,", ":6,", 1));
        assert_eq!(place.look().1, 19);
        place.follower.read_anew();
        assert_eq!(place.follower.history[4], (5, 6.0));
    }
}
