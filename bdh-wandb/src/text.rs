//! JSON in the form of W&B's client, and names for files and shells.

use serde_json::Value as Json;
use std::fmt::Write as _;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;

/// Returns a number as JSON; NaN and infinities get their Python names, which W&B reads.
pub(super) fn number(value: f64) -> String {
    if value.is_finite() {
        Json::from(value).to_string()
    } else if value.is_nan() {
        "NaN".to_owned()
    } else {
        String::from(if value > 0.0 { "Infinity" } else { "-Infinity" })
    }
}

/// Returns a text as a JSON string, with its quotes.
pub(super) fn quoted(text: &str) -> String {
    Json::from(text).to_string()
}

/// Returns a JSON array of parts that are JSON already.
pub(super) fn array(parts: impl Iterator<Item = String>) -> String {
    let mut text = String::from("[");
    for (index, part) in parts.enumerate() {
        let comma = if index > 0 { "," } else { "" };
        let _ = write!(text, "{comma}{part}"); // writing to a String cannot fail
    }
    text.push(']');
    text
}

/// Returns a JSON object of keys and of values that are JSON already.
pub(super) fn object<'a>(fields: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::from("{");
    for (index, (key, value)) in fields.enumerate() {
        let comma = if index > 0 { "," } else { "" };
        let _ = write!(text, "{comma}{}:{value}", quoted(key)); // writing to a String cannot fail
    }
    text.push('}');
    text
}

/// Returns a part of a file's or an artifact's name: at most 80 characters, all of them safe everywhere.
pub(super) fn safe(name: &str) -> String {
    let mut safe = String::new();
    for char in name.chars().take(80) {
        let is_safe = char.is_ascii_alphanumeric() || matches!(char, '-' | '_');
        safe.push(if is_safe { char } else { '_' });
    }
    safe
}

/// Returns a name of random small letters and digits.
///
/// The randomness is the seed that the standard library gives its hash maps, which needs no further dependency.
pub(super) fn random_name(len: usize) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let digit = |place| DIGITS[(RandomState::new().hash_one(place) % 36) as usize] as char;
    (0..len).map(digit).collect()
}

/// Returns a path quoted for a shell.
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
    fn numbers_are_readable_by_python() {
        let texts = [0.1, 3.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY].map(number);
        assert_eq!(texts, ["0.1", "3.0", "NaN", "Infinity", "-Infinity"]);
    }

    #[test]
    fn names_are_safe_in_files_and_shells() {
        assert_eq!(safe("../a b/ö%\n"), "___a_b____");
        assert_eq!(safe(&"x".repeat(300)).len(), 80);
        let shells = ["runs/a-1", "my runs/it's"].map(|path| shell(Path::new(path)));
        assert_eq!(shells, ["runs/a-1", r"'my runs/it'\''s'"]);
        assert_ne!(random_name(8), random_name(8));
    }
}
