//! Output of the run, as lines for the server and as the file `output.log`.

use crate::folder;
use crate::proto::Output;
use jiff::Timestamp;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Name of the file among the run's files.
pub(super) const FILE: &str = "output.log";

/// Output that has been read.
#[derive(Debug)]
pub(super) struct OutputLog {
    /// Folder of the run.
    run: PathBuf,
    /// File with the output; `None` before the first line, or if it cannot be created.
    file: Option<BufWriter<File>>,
    /// Line whose end has not been read.
    rest: String,
    is_empty: bool,
}

impl OutputLog {
    pub(super) fn new(run: &Path) -> Self {
        Self {
            run: run.to_owned(),
            file: None,
            rest: String::new(),
            is_empty: true,
        }
    }

    /// Adds an entry, and returns the lines that it completes, in the server's form.
    pub(super) fn take(&mut self, entry: &Output) -> Vec<String> {
        if std::mem::take(&mut self.is_empty) {
            self.file = self.create().map(BufWriter::new).ok();
        }
        if let Some(file) = &mut self.file {
            let _ = file.write_all(entry.line.as_bytes()); // a convenience: the log contains the output
        }
        self.rest.push_str(&entry.line);
        let Some(end) = self.rest.rfind('\n') else {
            return Vec::new();
        };
        let whole: String = self.rest.drain(..=end).collect();
        whole.lines().map(|line| stamped(entry, line)).collect()
    }

    fn create(&self) -> io::Result<File> {
        folder::create(&folder::make(&self.run, "files")?.join(FILE))
    }

    /// Writes the rest of the file, and returns its name; `None` if there is no file.
    pub(super) fn finish(&mut self) -> Option<&'static str> {
        self.file.take()?.flush().ok()?;
        Some(FILE)
    }
}

/// Returns a line as `2026-11-21T08:00:17.945189 text`, after `ERROR` if it is from standard error.
fn stamped(entry: &Output, line: &str) -> String {
    let time = entry.timestamp.unwrap_or_default();
    let time = Timestamp::new(time.seconds, time.nanos).unwrap_or(Timestamp::UNIX_EPOCH);
    let error = if entry.stream == 1 { "" } else { "ERROR " };
    format!("{error}{} {line}", time.strftime("%Y-%m-%dT%H:%M:%S.%6f"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Time;

    #[test]
    fn complete_lines_get_a_time_and_the_file_has_them_unchanged() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut log = OutputLog::new(dir.path());
        let timestamp = Some(Time {
            seconds: 1_795_248_017,
            nanos: 945_189_999,
        });
        let mut take = |stream, line: &str| {
            log.take(&Output {
                stream,
                timestamp,
                line: line.to_owned(),
            })
        };
        assert_eq!(take(1, "half "), [""; 0]);
        assert_eq!(
            take(1, "a line\nand one\n"),
            [
                "2026-11-21T08:00:17.945189 half a line",
                "2026-11-21T08:00:17.945189 and one"
            ]
        );
        assert_eq!(take(0, "oh\n"), ["ERROR 2026-11-21T08:00:17.945189 oh"]);
        assert_eq!(log.finish(), Some("output.log"));
        let text = std::fs::read_to_string(dir.path().join("files").join(FILE)).expect("the file");
        assert_eq!(text, "half a line\nand one\noh\n");
        assert_eq!(OutputLog::new(dir.path()).finish(), None);
    }
}
