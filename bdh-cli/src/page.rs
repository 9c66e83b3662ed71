//! Lines for a terminal.

use bdh::error::with_causes;
use bdh::lines::printable;
use std::error::Error;
use std::fmt::Display;
use std::io::{self, Write};

/// Widest line of a note or a warning, in columns of the terminal.
const COLUMNS: usize = 100;

/// Prints a line on stdout, with control characters escaped.
///
/// Errors are ignored: a pipe that is closed, as by `head`, should not end a run.
pub fn say(line: impl Display) {
    print(io::stdout(), &line.to_string());
}

/// Prints a line on stderr, with control characters escaped.
pub fn to_stderr(line: impl Display) {
    print(io::stderr(), &line.to_string());
}

fn print(mut to: impl Write, text: &str) {
    // The text may come from a server, a file or another program: escape sequences in it must not reach the terminal.
    drop(writeln!(to, "{}", printable(text)));
}

/// Prints a paragraph of `kind`, such as `note: …` or `warning: …`, wrapped and indented.
pub fn remark(kind: &str, text: impl Display) {
    say(wrapped(&format!("{kind}: {text}")));
}

/// Prints an error and its causes on stderr.
pub fn error(error: &(dyn Error + 'static)) {
    to_stderr(format_args!("error: {}", with_causes(error)));
}

/// Prints a warning on stderr, which a quiet run prints too.
pub fn warn(text: impl Display) {
    to_stderr(format_args!("warning: {text}"));
}

fn wrapped(text: &str) -> String {
    let (mut lines, mut width) = (String::new(), 0);
    for word in text.split(' ') {
        let more = word.chars().count() + 1;
        if width + more > COLUMNS {
            lines.push_str("\n     ");
            width = 5;
        }
        if !lines.is_empty() {
            lines.push(' ');
        }
        lines.push_str(word);
        width += more;
    }
    lines
}
