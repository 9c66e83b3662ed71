//! Texts for TensorBoard, which takes every text for Markdown.

use std::iter::repeat_n;

/// Markup that shows `text` as it was written, long lines wrapped.
///
/// A fenced block would not wrap them, and samples of a language model are long lines.
pub(crate) fn plain(text: &str) -> String {
    format!("<code>{}</code>", escaped(text))
}

/// A table; rows that are too short are filled up.
pub(crate) fn table(columns: &[String], rows: &[Vec<String>]) -> String {
    let width = rows
        .iter()
        .map(Vec::len)
        .max()
        .unwrap_or(0)
        .max(columns.len())
        .max(1);
    let rule = vec!["---".to_owned(); width];
    let lines = [
        line(columns, width, escaped),
        line(&rule, width, str::to_owned),
    ];
    let lines = lines
        .into_iter()
        .chain(rows.iter().map(|row| line(row, width, escaped)));
    lines.collect::<Vec<_>>().join("\n")
}

fn line(cells: &[String], width: usize, show: fn(&str) -> String) -> String {
    let cells = cells
        .iter()
        .map(|cell| show(cell))
        .chain(repeat_n(String::new(), width));
    format!("| {} |", cells.take(width).collect::<Vec<_>>().join(" | "))
}

/// Text that means nothing to Markdown and HTML, on one line of source, every space kept.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len() + text.len() / 4);
    let mut before = '\n';
    for char in text.chars().filter(|char| *char != '\r') {
        match char {
            '\n' => safe.push_str("<br>"),
            '\t' => safe.push_str("&#160;&#160;&#160; "),
            // HTML shows the first of several spaces only.
            ' ' if matches!(before, ' ' | '\t' | '\n') => safe.push_str("&#160;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '&' | '|' | '!' => {
                safe.push_str(&format!("&#{};", u32::from(char)));
            }
            _ => safe.push(char),
        }
        before = char;
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_keeps_its_lines_and_spaces_and_is_no_markup() {
        assert_eq!(
            plain("a\r\n  b   c\td"),
            "<code>a<br>&#160;&#160;b &#160;&#160;c&#160;&#160;&#160; d</code>"
        );
        assert_eq!(
            plain("# <b>*x*</b>"),
            "<code># &#60;b&#62;&#42;x&#42;&#60;/b&#62;</code>"
        );
    }

    #[test]
    fn a_table_has_as_many_cells_in_every_row_and_no_markup_in_them() {
        let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        let rows = [texts(&["1|2", "a\nb", "<b>"]), texts(&[])];
        let expected =
            "| x | y |  |\n| --- | --- | --- |\n| 1&#124;2 | a<br>b | &#60;b&#62; |\n|  |  |  |";
        assert_eq!(table(&texts(&["x", "y"]), &rows), expected);
        assert_eq!(table(&[], &[]), "|  |\n| --- |");
    }
}
