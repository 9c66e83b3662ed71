//! The compiler reports mistakes in a callback at the user's own token.
//!
//! Each file in `ui/` is compiled against the library that this test was linked with. A comment such as `//   ^
//! message` gives the beginning of the error expected in the line above it, at the column of the `^`. Any other error
//! fails the test.

use serde_json::Value;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// An error: line, column, and the first line of its message.
type Diagnostic = (u64, u64, String);

#[test]
fn each_mistake_is_reported_at_its_place() {
    let Some(library) = library() else {
        eprintln!(
            "skipped: there is no libbdh-*.rlib beside the test program, where cargo leaves it"
        );
        return;
    };
    let found = |case: &Path| errors(case, &library);
    let control = found(&folder().join("compiles.rs"));
    assert_eq!(control, [], "correct code does not compile");
    for case in fs::read_dir(folder()).expect("a folder of cases") {
        let case = case.expect("a case").path();
        let (found, expected) = (found(&case), expected(&case));
        let is_told = |((line, column, message), (at, from, begin)): (&Diagnostic, &Diagnostic)| {
            (line, column) == (at, from) && message.starts_with(begin)
        };
        let is_right = found.len() == expected.len() && found.iter().zip(&expected).all(is_told);
        assert!(
            is_right,
            "{}: found {found:#?}, expected {expected:#?}",
            case.display()
        );
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ui")
}

/// The newest build of `bdh`: the one of this test cannot be distinguished from others.
fn library() -> Option<PathBuf> {
    let program = env::current_exe().ok()?;
    let beside = fs::read_dir(program.parent()?)
        .ok()?
        .flatten()
        .map(|entry| entry.path());
    let is_bdh = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("libbdh-") && name.ends_with(".rlib")
    };
    beside.filter(is_bdh).max_by_key(|path| built(path))
}

fn built(path: &Path) -> Option<SystemTime> {
    path.metadata().ok()?.modified().ok()
}

/// The errors that the compiler finds in a file.
fn errors(case: &Path, library: &Path) -> Vec<Diagnostic> {
    let out = tempfile::tempdir().expect("a temporary directory");
    let dependencies = library.parent().expect("a library is in a directory");
    let compiler = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(compiler)
        .args([
            "--edition=2024",
            "--crate-type=lib",
            "--emit=metadata",
            "--error-format=json",
        ])
        .arg("--out-dir")
        .arg(out.path())
        .arg("--extern")
        .arg(format!("bdh={}", library.display()))
        .arg("-L")
        .arg(format!("dependency={}", dependencies.display()))
        .arg(case)
        .output()
        .expect("the compiler can be started");
    let lines = String::from_utf8(output.stderr).expect("the compiler speaks UTF-8");
    let diagnostics = lines
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    diagnostics
        .filter_map(|diagnostic| error(&diagnostic))
        .collect()
}

/// Parses an error with a place. The last one, which counts the others, has none.
fn error(diagnostic: &Value) -> Option<Diagnostic> {
    let is_error = diagnostic["level"] == "error";
    let spans = diagnostic["spans"].as_array().filter(|_| is_error)?;
    let message = diagnostic["message"].as_str()?.lines().next()?;
    if message.starts_with("aborting due to") {
        return None;
    }
    let place = spans.iter().find(|span| span["is_primary"] == true);
    let number = |what| place.and_then(|place| place[what].as_u64()).unwrap_or(0);
    Some((
        number("line_start"),
        number("column_start"),
        message.to_owned(),
    ))
}

/// The errors that the comments of a file expect.
fn expected(case: &Path) -> Vec<Diagnostic> {
    let text = fs::read_to_string(case).expect("a case is text");
    let lines = (0..).zip(text.lines()); // the number of the line above
    let marker = |(above, line): (u64, &str)| {
        let column = line.find('^').filter(|_| line.starts_with("//"))?;
        line[2..column].trim().is_empty().then(|| {
            let message = line[column + 1..].trim().to_owned();
            (above, column as u64 + 1, message)
        })
    };
    lines.filter_map(marker).collect()
}
