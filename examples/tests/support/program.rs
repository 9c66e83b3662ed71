//! Example programs, run as processes in an empty directory.
#![allow(dead_code, reason = "each test uses its part of it")]

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// Program with the name of its example.
pub(crate) trait Name {
    /// Name of the example.
    const NAME: &'static str;
}

/// Directory to run a program in, with only a text of a few kilobytes.
pub(crate) struct Place<P>(pub(crate) TempDir, PhantomData<P>);

/// Result of a call of the program.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl<P: Name> Place<P> {
    pub(crate) fn new() -> Self {
        let place = Self(
            tempfile::tempdir().expect("a temporary directory"),
            PhantomData,
        );
        let lines: Vec<_> = (0..400)
            .map(|line| format!("line {line} of a text"))
            .collect();
        fs::write(place.at("text.txt"), lines.join("\n")).expect("a text");
        place
    }

    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    pub(crate) fn command(&self, words: &str) -> Command {
        let mut command = Command::new(program(P::NAME));
        command
            .args(words.split_whitespace())
            .current_dir(self.0.path());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, words: &str) -> Ended {
        Ended::from(self.command(words).output().expect("the program starts"))
    }

    /// Runs the program, which must succeed, and returns its output.
    pub(crate) fn succeeds(&self, words: &str) -> String {
        let ended = self.run(words);
        assert_eq!(ended.code, Some(0), "{words}\n{}{}", ended.out, ended.err);
        assert_eq!(ended.err, "", "{words}");
        ended.out
    }

    /// Runs the program, which must fail with code 2 and an error that contains these parts, and write nothing.
    pub(crate) fn refuses(&self, words: &str, parts: &[&str]) {
        let before = self.files();
        let ended = self.run(words);
        assert_eq!(ended.code, Some(2), "{words}\n{}{}", ended.out, ended.err);
        assert_eq!(ended.out, "", "{words}");
        let sentence = ended.err.lines().next().unwrap_or_default();
        assert!(sentence.starts_with("error: "), "{words}: {}", ended.err);
        for part in parts {
            assert!(
                sentence.contains(part),
                "`{part}` is missing for `{words}` in: {sentence}"
            );
        }
        assert_eq!(self.files(), before, "{words} wrote something");
    }

    /// Returns every file and directory with its bytes.
    pub(crate) fn files(&self) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
        let mut files = BTreeMap::new();
        let mut dirs = vec![self.0.path().to_owned()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(&dir).expect("a directory") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    dirs.push(path.clone());
                    files.insert(path, None);
                } else {
                    let bytes = fs::read(&path).expect("a file");
                    files.insert(path, Some(bytes));
                }
            }
        }
        files
    }

    pub(crate) fn json(&self, path: &str) -> Value {
        serde_json::from_slice(&fs::read(self.at(path)).expect(path)).expect(path)
    }

    /// Returns the lines of a run's `metrics.jsonl`.
    pub(crate) fn metrics(&self, run: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.at(run).join("metrics.jsonl")).expect("metrics");
        text.lines()
            .map(|line| serde_json::from_str(line).expect("a whole line"))
            .collect()
    }

    pub(crate) fn steps(&self, run: &str) -> Vec<u64> {
        self.metrics(run)
            .iter()
            .map(|line| line["step"].as_u64().expect("a step"))
            .collect()
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Self {
            code: output.status.code(),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }
}

/// Returns the path of the program, which cargo builds with the tests.
fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    let profile = test
        .ancestors()
        .nth(2)
        .expect("tests are in target/<profile>/deps");
    let program = profile
        .join("examples")
        .join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(
        program.exists(),
        "{} is not built: run `cargo build --examples`",
        program.display()
    );
    program
}

pub(crate) fn contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is missing in:\n{text}");
    }
}
