//! Texts for TensorBoard, which treats every text as Markdown.

/// Returns markup that shows `text` as it was written, with long lines wrapped.
///
/// A fenced block would not wrap long lines, which samples of a language model have.
pub(crate) fn plain(text: &str) -> String {
    format!("<code>{}</code>", escaped(text))
}

/// Returns a Markdown table; rows that are too short get empty cells.
pub(crate) fn table(columns: &[String], rows: &[Vec<String>]) -> String {
    let mut width = columns.len().max(1);
    for row in rows {
        width = width.max(row.len());
    }
    let rule = vec!["---".to_owned(); width];
    let mut lines = vec![
        line(columns, width, escaped),
        line(&rule, width, str::to_owned),
    ];
    for row in rows {
        lines.push(line(row, width, escaped));
    }
    lines.join("\n")
}

fn line(cells: &[String], width: usize, show: fn(&str) -> String) -> String {
    let mut shown: Vec<_> = cells.iter().map(|cell| show(cell)).collect();
    shown.resize(width, String::new());
    format!("| {} |", shown.join(" | "))
}

/// Escapes text for Markdown and HTML, on one line of source, with every space kept.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len() + text.len() / 4);
    let mut before = '\n';
    for char in text.chars().filter(|char| *char != '\r') {
        match char {
            '\n' => safe.push_str("<br>"),
            '\t' => safe.push_str("&#160;&#160;&#160; "),
            // HTML shows only the first of several spaces.
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
    fn text_keeps_its_lines_and_spaces_without_markup() {
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
    fn table_rows_have_equal_length_and_no_markup() {
        let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        let rows = [texts(&["1|2", "a\nb", "<b>"]), texts(&[])];
        let expected =
            "| x | y |  |\n| --- | --- | --- |\n| 1&#124;2 | a<br>b | &#60;b&#62; |\n|  |  |  |";
        assert_eq!(table(&texts(&["x", "y"]), &rows), expected);
        assert_eq!(table(&[], &[]), "|  |\n| --- |");
    }
}
