//! Child processes of tests: the same program, started again.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Variable whose presence marks the child of a test. Its value is the child's directory.
const DIR: &str = "BDH_TEST_CHILD";

/// Returns the directory of a child's work. `None` in the test itself.
pub(crate) fn dir() -> Option<PathBuf> {
    std::env::var_os(DIR).map(PathBuf::from)
}

/// Returns a command that runs the test `name` again, as a child that works in `dir`. `through` is a prefix of the command,
/// such as a shell that sets a limit; the program and its arguments are appended to it.
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

/// Returns a command for a child with the user nobody, if root can change the user here and that user can run the program.
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
        child.env("HOME", dir); // not that of root, whose settings the user cannot read
        child
    })
}

/// Runs a command to its end. Panics with its output unless the test passed.
pub(crate) fn passes(mut command: Command) {
    let output = command.output().expect("a program that starts");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let has_run = text.contains("1 passed"); // a wrong name would run no test
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
