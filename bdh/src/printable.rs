//! Escaping of untrusted text for terminals.

use std::borrow::Cow;

/// Escapes control characters in untrusted text, so a terminal only prints it.
///
/// A server's message, a file name or the output of another program may contain control characters that move the cursor,
/// change the window's title, or hide earlier lines. Each is replaced by its escape, such as `\u{1b}`, and so are
/// characters that change the direction of text. Line ends and tabs stay.
///
/// # Examples
///
/// ```
/// assert_eq!(bdh::lines::printable("größe: 3\n"), "größe: 3\n");
/// assert_eq!(bdh::lines::printable("\x1b]0;mine\x07\r"), "\\u{1b}]0;mine\\u{7}\\r");
/// ```
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_harmful(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

fn is_harmful(c: char) -> bool {
    // Unicode's directional marks, embeddings, overrides and isolates; separators of lines and paragraphs.
    let is_of_direction = matches!(
        c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    (c.is_control() && c != '\n' && c != '\t') || is_of_direction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        let all: String = ('\0'..='\u{3000}').collect();
        let shown = printable(&all);
        assert!(
            shown
                .chars()
                .all(|c| !c.is_control() || c == '\n' || c == '\t')
        );
        assert!(!shown.contains('\u{202e}') && shown.contains("\\u{202e}") && shown.contains('ö'));
        assert_eq!(printable(&shown), shown, "escaping twice changes nothing");
    }
}
