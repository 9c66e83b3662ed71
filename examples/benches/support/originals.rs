//! Python packages that our sinks are compared with, in one process for the whole bench.

use crate::judges::Judge;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

/// Process that runs `python_sinks.py` until it is dropped.
pub(crate) struct Originals {
    process: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Originals {
    /// Starts the process. Returns `None`, with a message, if the packages are not available.
    pub(crate) fn start() -> Option<Self> {
        let judge = Judge::originals()?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/python_sinks.py");
        let mut process = Command::new(judge.bin("python"))
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let questions = process.stdin.take().unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap());
        Some(Self {
            process,
            questions,
            answers,
        })
    }

    /// Measures writing `count` items of a kind to `dir`.
    pub(crate) fn time(&mut self, kind: &str, count: u64, dir: &Path) -> Duration {
        writeln!(self.questions, "{kind} {count} {}", dir.display()).unwrap();
        loop {
            let mut line = String::new();
            let read = self.answers.read_line(&mut line).unwrap();
            assert!(read > 0, "python_sinks.py has ended");
            if let Some(seconds) = line.strip_prefix("took ") {
                return Duration::from_secs_f64(seconds.trim().parse().unwrap());
            }
        }
    }
}

impl Drop for Originals {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
