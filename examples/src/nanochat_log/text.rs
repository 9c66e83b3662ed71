//! Numbers as Python formats them.

/// Formats a count with commas between groups of three digits: Python's `{:,}`.
pub(super) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats a number in scientific notation: Python's `{:e}`.
pub(super) fn scientific(value: f64) -> String {
    let text = format!("{value:.6e}");
    let Some((digits, exponent)) = text.split_once('e') else {
        return lower(&text);
    };
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ('-', exponent),
        None => ('+', exponent),
    };
    format!("{digits}e{sign}{exponent:0>2}")
}

/// Formats a number with decimals: Python's `{:.6f}`, with `nan` in lower case.
pub(super) fn fixed(value: f64, decimals: usize) -> String {
    lower(&format!("{value:.decimals$}"))
}

/// Python prints `nan`, Rust `NaN`.
fn lower(text: &str) -> String {
    text.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected texts: output of Python 3.11.
    #[test]
    fn numbers_are_the_same_as_in_python() {
        let counts = [0, 999, 1_000, 196_662, 1_234_567_890];
        assert_eq!(
            counts.map(grouped),
            ["0", "999", "1,000", "196,662", "1,234,567,890"]
        );
        let values = [885_024.0, 9.062_646e9, 1.0, 0.000_25, 1e100, 0.0, f64::NAN];
        assert_eq!(
            values.map(scientific),
            [
                "8.850240e+05",
                "9.062646e+09",
                "1.000000e+00",
                "2.500000e-04",
                "1.000000e+100",
                "0.000000e+00",
                "nan"
            ]
        );
        assert_eq!(fixed(4.309_922_7, 6), "4.309923");
        assert_eq!(
            [f64::NAN, f64::INFINITY].map(|value| fixed(value, 2)),
            ["nan", "inf"]
        );
    }
}
