//! The reason why a trial failed, taken from its output.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// Bytes at the end of a log that are searched; a long backtrace may follow the error message.
const LAST: u64 = 64 << 10;

/// Largest number of characters of a reason.
const MOST: usize = 500;

/// Returns the error message after the first `from` bytes of a log; without one, the last line.
///
/// The last line alone is often advice: "For more information, try '--help'." after a misspelt flag, or the note on
/// backtraces after a panic.
pub(crate) fn reason(log: &Path, from: u64) -> Option<String> {
    let tail = tail(log, from).ok()?;
    let text = without_controls(&String::from_utf8_lossy(&tail));
    let mut lines: Vec<&str> = text.lines().collect();
    lines.retain(|line| !line.trim().is_empty());
    let Some(first) = lines.iter().rposition(|line| begins_message(line)) else {
        return Some(shortened(lines.last()?.trim()));
    };
    Some(shortened(&message(&lines[first..])?))
}

/// Joins the lines of the message that begins with the first line; `None` without lines.
fn message(lines: &[&str]) -> Option<String> {
    let (first, rest) = lines.split_first()?;
    let mut message = first.trim().to_owned();
    for line in rest {
        if !message.ends_with(':') && !continues_message(line) {
            break;
        }
        let has_separator = message.ends_with([':', ',', ';']);
        message.push_str(if has_separator { " " } else { "; " });
        message.push_str(line.trim());
    }
    Some(message)
}

fn tail(log: &Path, from: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(log)?;
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(from.max(len.saturating_sub(LAST))))?;
    let mut tail = Vec::new();
    // The trial's own children may still write, so the length is limited again.
    file.take(LAST).read_to_end(&mut tail)?;
    Ok(tail)
}

/// Whether a line begins an error message: of clap, anyhow, rustc, argparse, a panic or a Python exception.
fn begins_message(line: &str) -> bool {
    let line = line.trim_start();
    let lower = line.to_lowercase();
    for kind in ["error", "fatal"] {
        if let Some(rest) = lower.strip_prefix(kind)
            && rest.starts_with([':', '['])
        {
            return true;
        }
    }
    let is_panic = line.starts_with("thread '") && line.contains(" panicked at ");
    is_panic || lower.contains(": error: ") || is_python_exception(line)
}

/// Whether a line begins with a name such as `torch.OutOfMemoryError`.
fn is_python_exception(line: &str) -> bool {
    let name = line.split(':').next().unwrap_or_default();
    let is_name = name
        .chars()
        .all(|c| c.is_alphanumeric() || c == '_' || c == '.');
    is_name && (name.ends_with("Error") || name.ends_with("Exception"))
}

/// Whether a line belongs to the message above it: clap's tips, anyhow's causes, the two sides of an assertion.
fn continues_message(line: &str) -> bool {
    line.starts_with(' ') || line.starts_with("Caused by")
}

/// Removes colors and other control sequences, and starts a new line at each carriage return of a progress bar.
fn without_controls(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match char {
            '\u{1b}' => skip_sequence(&mut chars),
            '\n' | '\r' => plain.push('\n'),
            '\t' => plain.push(' '),
            char if char.is_control() => {}
            char => plain.push(char),
        }
    }
    plain
}

/// Skips the rest of an escape sequence: `[31m`, or a title up to its bell.
fn skip_sequence(chars: &mut std::str::Chars<'_>) {
    match chars.next() {
        Some('[') => drop(chars.find(|char| ('@'..='~').contains(char))),
        Some(']') => drop(chars.find(|char| matches!(char, '\u{7}' | '\u{1b}' | '\n'))),
        _ => {}
    }
}

fn shortened(message: &str) -> String {
    match message.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn of(text: &str, from: u64) -> Option<String> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let log = dir.path().join("0001.log");
        fs::write(&log, text).expect("a log");
        reason(&log, from)
    }

    #[test]
    fn error_message_is_the_reason() {
        for (log, expected) in [
            (
                "step 1\nerror: unexpected argument '--detph' found\n\n  tip: a similar argument exists: '--depth'\n\n\
                 Usage: nanochat_sweep --depth <LAYERS>\n\nFor more information, try '--help'.\n",
                "error: unexpected argument '--detph' found; tip: a similar argument exists: '--depth'",
            ),
            (
                "error: the following required arguments were not provided:\n  --a <A>\n  --b <B>\n\nUsage: x --a <A>\n",
                "error: the following required arguments were not provided: --a <A>; --b <B>",
            ),
            (
                "\nthread 'main' (17) panicked at src/main.rs:2:5:\nindex out of bounds: the len is 3\n\
                 note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n",
                "thread 'main' (17) panicked at src/main.rs:2:5: index out of bounds: the len is 3",
            ),
            (
                "thread 'main' panicked at a.rs:1:1:\nassertion `left == right` failed\n  left: 1\n right: 2\nnote: run\n",
                "thread 'main' panicked at a.rs:1:1: assertion `left == right` failed; left: 1; right: 2",
            ),
            (
                "Error: the file is no model\n\nCaused by:\n    0: it ends early\n    1: at byte 7\nbye\n",
                "Error: the file is no model; Caused by: 0: it ends early; 1: at byte 7",
            ),
            (
                "Traceback (most recent call last):\n  File \"t.py\", line 1, in <module>\n    f()\n\
                 torch.OutOfMemoryError: CUDA out of memory\nwandb: View run at\nwandb: Synced 4 files\n",
                "torch.OutOfMemoryError: CUDA out of memory",
            ),
            (
                "usage: train.py [-h]\ntrain.py: error: unrecognized arguments: --lrr=1\n",
                "train.py: error: unrecognized arguments: --lrr=1",
            ),
            ("error: first\nstep 9\nerror: second\n", "error: second"),
            (
                "step 1\nsh: 1: trian: not found\n\n",
                "sh: 1: trian: not found",
            ),
        ] {
            assert_eq!(of(log, 0).as_deref(), Some(expected));
        }
    }

    #[test]
    fn reason_is_plain_short_and_of_this_process() {
        assert_eq!(of("error: before\nstep 3\n", 14).as_deref(), Some("step 3"));
        assert_eq!(
            of("error: before\n", 14),
            None,
            "the process printed nothing"
        );
        assert_eq!(of("", 99), None);
        let colored = "10%\r20%\r\u{1b}[1;31merror\u{1b}[0m:\u{7} no\u{1b}]0;title\u{7} data\n";
        assert_eq!(of(colored, 0).as_deref(), Some("error: no data"));
        let long = of(&format!("error: {}\n", "ä".repeat(100_000)), 0).expect("a reason");
        assert_eq!(long.chars().count(), MOST + 1);
    }
}
