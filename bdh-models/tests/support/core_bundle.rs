//! Bundles of synthetic items, and the real bundle if it is available.

#![allow(dead_code, reason = "each test uses a part of it")]

use bdh_models::core_eval::{CoreTask, Kind, TASKS};
use serde_json::{Value, json};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Number of items of each synthetic task.
pub(crate) const ITEMS: usize = 24;

/// Writes the tasks that `is_there` selects, in the layout of nanochat's `eval_data`.
pub(crate) fn write(dir: &Path, is_there: impl Fn(&CoreTask) -> bool) {
    for task in TASKS.iter().filter(|task| is_there(task)) {
        let lines: Vec<_> = (0..ITEMS)
            .map(|item| line(task.kind, item).to_string())
            .collect();
        write_task(dir, task, &(lines.join("\n") + "\n"));
    }
}

/// Writes the file of one task.
pub(crate) fn write_task(dir: &Path, task: &CoreTask, text: &str) {
    let path = dir.join(task.file);
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    fs::write(path, text).expect("a file");
}

/// Returns a synthetic item. Some are edge cases: white space at the ends, empty text, equal or similar choices.
fn line(kind: Kind, item: usize) -> Value {
    let thing = ["stone", "größe", "\u{a0}lamp ", "数", "a b", "", "river\n"][item % 7];
    let other = ["tree", "größer", "lamp", "数学", "a b c", "x", "river"][item % 7];
    match kind {
        Kind::MultipleChoice => {
            let choices = [
                json!(["it falls", "it falls down", "it flies"]), // the first begins the second
                json!([thing, other]),
                json!([other, other]),
                json!(["A", "B", "C", "D"]),
            ];
            let choices = &choices[item % 4];
            let gold = item % choices.as_array().expect("a list").len();
            json!({ "query": format!("Question {item}: what of {thing}?"), "choices": choices, "gold": gold })
        }
        Kind::Schema => json!({
            "context_options": [format!("The {thing} met the {other}, and {thing}"),
                                format!("The {thing} met the {other}, and {other}")],
            "continuation": format!("went home {item}."),
            "gold": item % 2,
        }),
        Kind::LanguageModeling => {
            let continuation = ["yes", " so", "é", "b\n"][item % 4];
            let context = format!(" \u{1f}{other} {item} {thing}\t");
            json!({ "context": context, "continuation": continuation, "category": "made up" })
        }
    }
}

/// Unpacks the real tasks if their archive exists: `../shared/data/core.tgz`, next to the workspace.
pub(crate) fn real() -> Option<(TempDir, PathBuf)> {
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/core.tgz");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let unpack = || {
        let mut tar = Command::new("tar");
        tar.arg("xzf")
            .arg(&archive)
            .arg("-C")
            .arg(dir.path())
            .status()
            .is_ok_and(|s| s.success())
    };
    if !archive.exists() || !unpack() {
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        // Directly to stderr, because the test harness captures output and a skipped test must be visible.
        let _ = writeln!(
            io::stderr(),
            "skipped: {test}: no {} to unpack",
            archive.display()
        );
        return None;
    }
    let core = dir.path().join("core");
    Some((dir, core))
}
