//! Lines that fit a terminal.

use bdh::{printable, with_causes};
use std::error::Error;
use std::fmt::Display;
use std::io::{self, Write};

/// Columns of the widest line.
const COLUMNS: usize = 100;

/// Prints a line. A pipe that was closed, as by `head`, is no reason to end a run.
pub fn say(line: impl Display) {
    print(io::stdout(), &line.to_string());
}

/// Prints a line on stderr, which may hold text from elsewhere.
pub fn to_stderr(line: impl Display) {
    print(io::stderr(), &line.to_string());
}

/// Prints text that may hold what a server, a file or another program said.
fn print(mut to: impl Write, text: &str) {
    drop(writeln!(to, "{}", printable(text)));
}

/// Prints `note: …` or `warning: …`, with the lines after the first indented.
pub fn remark(kind: &str, text: impl Display) {
    say(wrapped(&format!("{kind}: {text}")));
}

/// Prints an error and its causes on stderr.
pub fn error(error: &(dyn Error + 'static)) {
    to_stderr(format_args!("error: {}", with_causes(error)));
}

/// Prints a warning on stderr, where a quiet run has nothing else to say.
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
