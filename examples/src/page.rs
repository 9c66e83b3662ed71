//! What a program says, on lines that fit a terminal.

use bdh::{ConfigError, printable, with_causes};
use std::error::Error;
use std::fmt::Display;
use std::io::{self, Write};

/// Columns of the widest line.
const COLUMNS: usize = 100;

/// Prints a line. A pipe that was closed, as by `head`, is no reason to end a run.
pub fn say(line: impl Display) {
    print(io::stdout(), &line.to_string());
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
    print(io::stderr(), &format!("error: {}", with_causes(error)));
    if let Some(ConfigError::Changed { changes, .. }) = error.downcast_ref() {
        let keys: Vec<_> = changes.iter().map(|change| change.key.as_str()).collect();
        if keys.contains(&"parameters") {
            return; // the weights fit no other model, whatever is allowed
        }
        print(io::stderr(), &format!("On the command line: --allow-changed {}", keys.join(",")));
    }
}

/// Prints a warning on stderr, where a quiet run has nothing else to say.
pub fn warn(text: impl Display) {
    print(io::stderr(), &format!("warning: {text}"));
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
