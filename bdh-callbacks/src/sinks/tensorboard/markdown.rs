//! Texts for TensorBoard, which takes every text for Markdown.

use std::iter::repeat_n;

/// A block that shows `text` as it was written, line by line.
pub(super) fn preformatted(text: &str) -> String {
    // A fence longer than any that is in the text cannot be closed by it.
    let fence = "`".repeat(longest_run(text, '`').max(2) + 1);
    format!("{fence}\n{text}\n{fence}")
}

fn longest_run(text: &str, of: char) -> usize {
    text.split(|char| char != of).map(str::len).max().unwrap_or(0)
}

/// A table; rows that are too short are filled up.
pub(super) fn table(columns: &[String], rows: &[Vec<String>]) -> String {
    let width = rows.iter().map(Vec::len).max().unwrap_or(0).max(columns.len()).max(1);
    let rule = vec!["---".to_owned(); width];
    let lines = [line(columns, width, escaped), line(&rule, width, str::to_owned)];
    let lines = lines.into_iter().chain(rows.iter().map(|row| line(row, width, escaped)));
    lines.collect::<Vec<_>>().join("\n")
}

fn line(cells: &[String], width: usize, show: fn(&str) -> String) -> String {
    let cells = cells.iter().map(|cell| show(cell)).chain(repeat_n(String::new(), width));
    format!("| {} |", cells.take(width).collect::<Vec<_>>().join(" | "))
}

/// Text that means nothing to Markdown and HTML, on one line of source.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\n' => safe.push_str("<br>"),
            '\r' => {}
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '&' | '|' | '!' => {
                safe.push_str(&format!("&#{};", u32::from(char)));
            }
            _ => safe.push(char),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_with_fences_of_its_own_stays_in_its_block() {
        assert_eq!(preformatted("a\n  b"), "```\na\n  b\n```");
        assert_eq!(preformatted("````\n*a*\n````"), "`````\n````\n*a*\n````\n`````");
        assert_eq!(preformatted(""), "```\n\n```");
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
