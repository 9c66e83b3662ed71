//! Python's tiktoken, in one process for the whole bench.

use crate::judges::Judge;
use bdh_data::Tokenizer;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// Process that runs `tiktoken_worker.py` until it is dropped.
pub(crate) struct Tiktoken {
    process: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// Directory of the tokenizer and the text.
    _dir: TempDir,
}

impl Tiktoken {
    /// Starts the process with a tokenizer and a text. Returns `None`, with a message, if tiktoken is not available.
    pub(crate) fn start(tokenizer: &Tokenizer, text: &str) -> Option<Self> {
        let judge = Judge::tiktoken()?;
        let dir = tempfile::tempdir().unwrap();
        let saved = tokenizer.save(dir.path()).unwrap();
        let file = dir.path().join("text");
        fs::write(&file, text).unwrap();
        let script =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/support/tiktoken_worker.py");
        let mut process = Command::new(judge.bin("python"))
            .args([script, saved, file])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Some(Self {
            questions: process.stdin.take().unwrap(),
            answers: BufReader::new(process.stdout.take().unwrap()),
            process,
            _dir: dir,
        })
    }

    /// Encodes the text once. Returns the time and the number of ids.
    pub(crate) fn time(&mut self) -> (Duration, usize) {
        writeln!(self.questions, "encode").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        let mut words = line.split_whitespace().skip(1);
        let seconds = words.next().expect("tiktoken_worker.py has ended");
        let ids = words.next().unwrap().parse().unwrap();
        (Duration::from_secs_f64(seconds.parse().unwrap()), ids)
    }
}

impl Drop for Tiktoken {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
