//! Home directories of nanochat among the test data, with what the original makes of them.
#![allow(dead_code, reason = "each test uses its part of it")]

use crate::programs::{Ended, Name, Place};
use serde_json::Value;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Home directory of nanochat.
pub(crate) struct Home {
    pub(crate) dir: PathBuf,
    /// Contents of `expected.json`.
    pub(crate) expected: Value,
}

/// Returns the homes below `BDH_FIXTURES`, or below `../shared/fixtures` next to the workspace; none with a message if
/// there are none.
pub(crate) fn homes() -> Vec<Home> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/fixtures");
    let root = env::var_os("BDH_FIXTURES").map_or_else(|| beside.into(), PathBuf::from);
    let mut homes = Vec::new();
    for entry in fs::read_dir(&root).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("nanochat_home") {
            homes.push(Home::open(&entry.path()));
        }
    }
    if homes.is_empty() {
        let root = root.display();
        eprintln!("skipped: no nanochat_home in {root}; set BDH_FIXTURES to its folder");
    }
    homes
}

impl Home {
    fn open(dir: &Path) -> Self {
        let dir = dir.canonicalize().expect("an absolute path");
        let expected = json(&dir.join("expected.json"));
        Self { dir, expected }
    }

    /// Returns the flags of nanochat's training run.
    pub(crate) fn flags(&self) -> Vec<String> {
        let flags = self.expected["flags"].as_array().expect("flags");
        let flags = flags.iter().map(|flag| flag.as_str().expect("a flag"));
        flags.map(str::to_owned).collect()
    }

    /// Returns the name of nanochat's training run.
    pub(crate) fn tag(&self) -> String {
        let flags = self.flags();
        let mut flags = flags.iter();
        let tag = flags.find_map(|flag| flag.strip_prefix("--model-tag="));
        tag.expect("a tag").to_owned()
    }

    /// Returns the directory of the run's checkpoints.
    pub(crate) fn checkpoints(&self) -> PathBuf {
        self.dir.join("base_checkpoints").join(self.tag())
    }

    /// Returns the descriptions of the checkpoints, in the order of their steps.
    pub(crate) fn metas(&self) -> Vec<Value> {
        let mut metas = Vec::new();
        for entry in fs::read_dir(self.checkpoints()).expect("checkpoints") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|ending| ending == "json") {
                metas.push(json(&path));
            }
        }
        metas.sort_by_key(|meta| meta["step"].as_u64());
        metas
    }

    /// Returns the newest checkpoint's description.
    pub(crate) fn last(&self) -> Value {
        self.metas().pop().expect("a checkpoint")
    }

    /// Returns a command of the program that finds this home, with a cache of its own.
    pub(crate) fn command<P: Name>(&self, place: &Place<P>, words: &str) -> Command {
        let mut command = place.command(words);
        command
            .env("NANOCHAT_BASE_DIR", &self.dir)
            .env("XDG_CACHE_HOME", place.at("cache"));
        command
    }

    /// Runs the program, which must succeed, and returns its output.
    pub(crate) fn succeeds<P: Name>(&self, place: &Place<P>, words: &str) -> String {
        succeeds(self.command(place, words))
    }
}

/// Runs a command, which must succeed, and returns its output.
pub(crate) fn succeeds(mut command: Command) -> String {
    let ended = Ended::from(command.output().expect("the program starts"));
    assert_eq!(
        (ended.code, &*ended.err),
        (Some(0), ""),
        "{command:?}\n{}",
        ended.out
    );
    ended.out
}

/// Returns the number after a word at the beginning of a line.
pub(crate) fn number_after(text: &str, word: &str) -> f64 {
    let mut lines = text.lines();
    let line = lines.find_map(|line| line.strip_prefix(word)?.split_whitespace().next());
    let number = line.unwrap_or_else(|| panic!("no line begins with `{word}`:\n{text}"));
    number.parse().expect("a number")
}

pub(crate) fn json(path: &Path) -> Value {
    let text = fs::read(path).expect("a file");
    serde_json::from_slice(&text).expect("JSON")
}
