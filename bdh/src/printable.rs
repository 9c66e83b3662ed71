//! Text from elsewhere on a terminal.

use std::borrow::Cow;

/// Shows text from elsewhere so that a terminal only prints it.
///
/// A server's message, a file's name or the last line of another program may hold control characters: they move the
/// cursor, change the window's title, or hide what was printed before. Each is replaced by its escape, `\u{1b}`, and so
/// are the characters that reverse the direction of what follows. Line ends and tabs stay.
///
/// # Examples
///
/// ```
/// assert_eq!(bdh::printable("größe: 3\n"), "größe: 3\n");
/// assert_eq!(bdh::printable("\x1b]0;mine\x07\r"), "\\u{1b}]0;mine\\u{7}\\r");
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
    // Directional marks, embeddings, overrides and isolates; separators of lines and paragraphs.
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
    fn no_control_character_but_line_ends_and_tabs_comes_through() {
        let all: String = ('\0'..='\u{3000}').collect();
        let shown = printable(&all);
        assert!(
            shown
                .chars()
                .all(|c| !c.is_control() || c == '\n' || c == '\t')
        );
        assert!(!shown.contains('\u{202e}') && shown.contains("\\u{202e}") && shown.contains('ö'));
        assert_eq!(printable(&shown), shown, "shown twice, it is the same");
    }
}
