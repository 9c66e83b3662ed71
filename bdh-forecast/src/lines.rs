//! Numbers and lines of the report for the terminal.

use std::fmt;

/// Columns of a line.
pub(super) const WIDTH: usize = 100;

/// Formats a number with three significant digits, but at most four decimals.
pub(super) fn short(value: f64) -> String {
    let digits = value.abs().log10().floor();
    match digits {
        _ if value == 0.0 => "0".to_owned(),
        -3.0..5.0 => format!("{value:.*}", (2.0 - digits).clamp(0.0, 4.0) as usize),
        _ => format!("{value:.1e}"),
    }
}

/// Formats a correlation with two decimals and no leading zero, or as `1.0`.
pub(super) fn correlation(value: f64) -> String {
    if value.abs() >= 0.995 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}").replacen("0.", ".", 1)
    }
}

/// Writes a line with all items; nothing if there are none.
pub(super) fn list(f: &mut fmt::Formatter<'_>, what: &str, items: &[String]) -> fmt::Result {
    if items.is_empty() {
        return Ok(());
    }
    wrapped(f, "", &format!("{what}: {}", items.join(", ")))
}

/// Writes a text, wrapped to [`WIDTH`], with all lines but the first indented.
pub(super) fn wrapped(f: &mut fmt::Formatter<'_>, before: &str, text: &str) -> fmt::Result {
    let mut line = before.to_owned();
    let mut is_empty = true;
    for word in text.split(' ') {
        if !is_empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            writeln!(f, "{line}")?;
            "    ".clone_into(&mut line);
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    writeln!(f, "{line}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits() {
        let texts = [
            0.067, 2.812, 0.00231, 0.000_231, 553.4, 12_345.6, 0.0, -0.5, 1e9,
        ]
        .map(short);
        let right = [
            "0.0670", "2.81", "0.0023", "2.3e-4", "553", "12346", "0", "-0.500", "1.0e9",
        ];
        assert_eq!(texts, right);
        let texts = [0.974, -0.974, 1.0, 0.999, 0.0].map(correlation);
        assert_eq!(texts, [".97", "-.97", "1.0", "1.0", ".00"]);
    }
}
