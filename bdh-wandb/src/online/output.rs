//! The run's output: lines for the server, and the file `output.log`.

use crate::folder;
use crate::proto::Output;
use jiff::Timestamp;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// The file's name among the run's files.
pub(super) const FILE: &str = "output.log";

/// What has been read of the output so far.
#[derive(Debug)]
pub(super) struct OutputLog {
    /// The run's folder.
    run: PathBuf,
    /// Written from the first line on; without a file where there is none, or no place for it.
    file: Option<BufWriter<File>>,
    /// A line whose end has not come yet.
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

    /// Takes an entry; gives back the lines that it completes, as the server takes them.
    pub(super) fn take(&mut self, entry: &Output) -> Vec<String> {
        if std::mem::take(&mut self.is_empty) {
            self.file = self.create().map(BufWriter::new).ok();
        }
        if let Some(file) = &mut self.file {
            let _ = file.write_all(entry.line.as_bytes()); // the log has it, the file is a convenience
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

    /// The file, if there is one, with all that came.
    pub(super) fn finish(&mut self) -> Option<&'static str> {
        let file = self.file.take();
        file.and_then(|mut file| file.flush().ok()).map(|()| FILE)
    }
}

/// `2026-11-21T08:00:17.945189 text`; of what went to standard error `ERROR` comes first.
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
    fn lines_are_stamped_when_they_end_and_the_file_has_them_as_they_came() {
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
