//! JSON as W&B's programs write it, and names.

use serde_json::Value as Json;
use std::fmt::Write as _;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;

/// A number as JSON; Python's names for those that JSON does not have, which W&B reads.
pub(super) fn number(value: f64) -> String {
    if value.is_finite() {
        Json::from(value).to_string()
    } else if value.is_nan() {
        "NaN".to_owned()
    } else {
        String::from(if value > 0.0 { "Infinity" } else { "-Infinity" })
    }
}

/// A text as JSON, with its quotes.
pub(super) fn quoted(text: &str) -> String {
    Json::from(text).to_string()
}

/// A JSON array of parts that are JSON already.
pub(super) fn array(parts: impl Iterator<Item = String>) -> String {
    let mut text = String::from("[");
    for (index, part) in parts.enumerate() {
        let comma = if index > 0 { "," } else { "" };
        let _ = write!(text, "{comma}{part}"); // a String takes everything
    }
    text.push(']');
    text
}

/// A JSON object of keys and of values that are JSON already.
pub(super) fn object<'a>(fields: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::from("{");
    for (index, (key, value)) in fields.enumerate() {
        let comma = if index > 0 { "," } else { "" };
        let _ = write!(text, "{comma}{}:{value}", quoted(key)); // a String takes everything
    }
    text.push('}');
    text
}

/// A part of a file name or of an artifact's: of at most 80 characters that are safe everywhere.
pub(super) fn safe(name: &str) -> String {
    let is_safe = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    name.chars()
        .map(|c| if is_safe(c) { c } else { '_' })
        .take(80)
        .collect()
}

/// A name of random small letters and digits, from the randomness that the standard library seeds its maps with.
pub(super) fn random_name(len: usize) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let digit = |place| DIGITS[(RandomState::new().hash_one(place) % 36) as usize] as char;
    (0..len).map(digit).collect()
}

/// A path as a shell takes it.
pub(super) fn shell(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+=:,@".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_so_that_python_reads_them() {
        let texts = [0.1, 3.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY].map(number);
        assert_eq!(texts, ["0.1", "3.0", "NaN", "Infinity", "-Infinity"]);
    }

    #[test]
    fn names_are_safe_in_files_and_paths_in_shells() {
        assert_eq!(safe("../a b/ö%\n"), "___a_b____");
        assert_eq!(safe(&"x".repeat(300)).len(), 80);
        let shells = ["runs/a-1", "my runs/it's"].map(|path| shell(Path::new(path)));
        assert_eq!(shells, ["runs/a-1", r"'my runs/it'\''s'"]);
        assert_ne!(random_name(8), random_name(8));
    }
}
