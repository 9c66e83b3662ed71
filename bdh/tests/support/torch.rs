//! PyTorch as a judge: a Python that can import it, if there is one.
//!
//! It is too large to be installed for tests. `BDH_TORCH_VENV` names a virtual environment that has it; otherwise
//! `target/torch-venv`, which `benches/torch/run.sh` makes, and `python3` are tried. `BDH_JUDGES=off` uses none.

#![allow(dead_code, reason = "each test uses its part of it")]

use serde_json::Value;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Python that can import PyTorch.
#[derive(Debug)]
pub(crate) struct Torch(PathBuf);

impl Torch {
    /// Finds a Python with PyTorch, if there is one.
    pub(crate) fn find() -> Option<Self> {
        if std::env::var("BDH_JUDGES").is_ok_and(|wish| wish == "off") {
            return None;
        }
        let mut candidates = candidates().into_iter();
        candidates.find(|python| has_torch(python)).map(Self)
    }

    /// Finds a Python with PyTorch. `None` with a printed line if there is none.
    pub(crate) fn find_or_skip() -> Option<Self> {
        if let Some(found) = Self::find() {
            return Some(found);
        }
        let thread = std::thread::current();
        let test = thread.name().unwrap_or("a test");
        let why = "no PyTorch; BDH_TORCH_VENV names a virtual environment that has it";
        // Past the capture of the test harness, so that a skipped test is visible.
        let _ = writeln!(io::stderr(), "skipped: {test}: {why}");
        None
    }

    /// Runs a script of `tests/judges`. Returns its output as JSON.
    pub(crate) fn json<A: AsRef<OsStr>>(
        &self,
        script: &str,
        args: impl IntoIterator<Item = A>,
    ) -> Value {
        let judges = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/judges");
        let output = Command::new(&self.0)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .arg(judges.join(script))
            .args(args)
            .output()
            .expect("the judge's Python starts");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script} failed: {errors}");
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{script} printed no JSON: {error}\n{errors}"))
    }
}

/// Returns the programs to try, best first.
fn candidates() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let given = std::env::var_os("BDH_TORCH_VENV").map(PathBuf::from);
    let folders = given.into_iter().chain([root.join("target/torch-venv")]);
    let mut programs: Vec<_> = folders.map(|folder| folder.join("bin/python")).collect();
    programs.push("python3".into());
    programs
}

fn has_torch(python: &Path) -> bool {
    let output = Command::new(python).args(["-c", "import torch"]).output();
    output.is_ok_and(|output| output.status.success())
}
