//! A test that does a part of its work in a process of its own: the same program, started again.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Tells a process that it is the child of a test, and in which directory it works.
const DIR: &str = "BDH_TEST_CHILD";

/// The directory of a child's work; `None` in the test itself.
pub(crate) fn dir() -> Option<PathBuf> {
    std::env::var_os(DIR).map(PathBuf::from)
}

/// A command that runs the one test `name` again, as a child that works in `dir`. `through` stands before it, such as
/// a shell that sets a limit; it gets the program and its arguments appended.
pub(crate) fn command(name: &str, dir: &Path, through: &[&str]) -> Command {
    let program = std::env::current_exe()
        .expect("the test program")
        .into_os_string();
    let args = ["--exact", name, "--nocapture", "--test-threads=1"].map(OsString::from);
    let mut words = through
        .iter()
        .map(OsString::from)
        .chain([program])
        .chain(args);
    let mut command = Command::new(words.next().expect("a program"));
    command.args(words).env(DIR, dir).stdin(Stdio::null());
    command
}

/// The same as somebody who is not root, if root may become somebody else here and they may run the program.
pub(crate) fn command_as_nobody(name: &str, dir: &Path) -> Option<Command> {
    let nobody = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ];
    let program = std::env::current_exe()
        .expect("the test program")
        .display()
        .to_string();
    works(&[&nobody[..], &[&program, "--list"]].concat()).then(|| {
        let mut child = command(name, dir, &nobody);
        child.env("HOME", dir); // and not root's, with settings that they may not read
        child
    })
}

/// Runs it to its end and panics with what it wrote unless it passed.
pub(crate) fn passes(mut command: Command) {
    let output = command.output().expect("a program that starts");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let has_run = text.contains("1 passed"); // and not none, for a name that is wrong
    assert!(output.status.success() && has_run, "{text}");
}

/// Whether a command works here.
pub(crate) fn works(words: &[&str]) -> bool {
    let mut command = Command::new(words[0]);
    command
        .args(&words[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
