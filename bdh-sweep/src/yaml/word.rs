//! An unquoted word as PyYAML reads it, by YAML 1.1.

use serde_json::Value;

/// Why a word cannot stand in a sweep file: it means something else to W&B than here, or nothing that a trial can have.
pub(super) fn why_not(word: &str) -> Option<String> {
    let theirs = Meaning::of(word)?;
    let (what, value) = match theirs {
        Meaning::Merge => {
            return Some("`<<` merges keys in W&B only: write them out".to_owned());
        }
        Meaning::Broken(why) => {
            return Some(format!(
                "`{word}` is {why}: write \"{word}\" in quotes if it is a text"
            ));
        }
        Meaning::Float(float) if !float.is_finite() => {
            return Some(format!(
                "`{word}` is no finite number, and no trial can have it"
            ));
        }
        _ if theirs.is(&ours(word)) => return None,
        Meaning::Text => ("a text".to_owned(), spelled(&ours(word))),
        _ => (theirs.spelled(), theirs.spelled()),
    };
    let ours = match ours(word) {
        Value::String(text) => format!("the text \"{text}\""),
        value => spelled(&value),
    };
    Some(format!(
        "`{word}` is {what} to W&B, which reads YAML 1.1, and {ours} here: write {value}, or \"{word}\" in quotes for the text"
    ))
}

/// The word as the reader here takes it.
fn ours(word: &str) -> Value {
    serde_norway::from_str(word).unwrap_or_else(|_| word.into())
}

fn spelled(value: &Value) -> String {
    match value {
        Value::Number(number) if number.is_f64() => float(number.as_f64().unwrap_or(f64::NAN)),
        value => value.to_string(),
    }
}

/// A number that YAML 1.1 takes for one, too: with a dot, and with a sign in its exponent.
fn float(x: f64) -> String {
    let text = format!("{x:?}");
    let Some((digits, exponent)) = text.split_once('e') else {
        return text;
    };
    let dot = if digits.contains('.') { "" } else { ".0" };
    let sign = if exponent.starts_with('-') { "" } else { "+" };
    format!("{digits}{dot}e{sign}{exponent}")
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Meaning {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text,
    /// `<<`.
    Merge,
    /// It has no place in JSON, in which W&B keeps a sweep.
    Broken(&'static str),
}

impl Meaning {
    /// `None` for a word that is a text to everybody.
    fn of(word: &str) -> Option<Self> {
        let first = word.bytes().next()?;
        Some(match word {
            "~" | "null" | "Null" | "NULL" => Self::Null,
            "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "true" | "True" | "TRUE" => {
                Self::Bool(true)
            }
            "no" | "No" | "NO" | "off" | "Off" | "OFF" | "false" | "False" | "FALSE" => {
                Self::Bool(false)
            }
            ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Self::Float(f64::INFINITY),
            "-.inf" | "-.Inf" | "-.INF" => Self::Float(f64::NEG_INFINITY),
            ".nan" | ".NaN" | ".NAN" => Self::Float(f64::NAN),
            "<<" => Self::Merge,
            "=" => Self::Broken("nothing that W&B can read"),
            _ if first.is_ascii_digit() || b"+-.".contains(&first) => Self::of_number(word),
            _ => return None,
        })
    }

    fn of_number(word: &str) -> Self {
        if is_date(word) {
            return Self::Broken("a date to W&B");
        }
        let (sign, digits) = match word.as_bytes()[0] {
            b'-' => (-1, &word[1..]),
            b'+' => (1, &word[1..]),
            _ => (1, word),
        };
        if let Some((radix, digits)) = whole(digits) {
            let value = digits.split(':').try_fold(0_i128, |value, part| {
                let part = i128::from_str_radix(part, radix).ok()?;
                value.checked_mul(60)?.checked_add(part)
            });
            let too_long = Self::Broken("no whole number that fits in 127 bits");
            return value.map_or(too_long, |value| Self::Int(sign * value));
        }
        let is_signed = digits.len() < word.len();
        match fraction(digits).filter(|_| !(is_signed && digits.starts_with('.'))) {
            Some(value) => Self::Float(sign as f64 * value),
            None => Self::Text,
        }
    }

    /// Whether the reader here takes it for the same.
    fn is(self, ours: &Value) -> bool {
        match (self, ours) {
            (Self::Null, Value::Null) | (Self::Text, Value::String(_)) => true,
            (Self::Bool(theirs), Value::Bool(ours)) => theirs == *ours,
            (Self::Int(theirs), Value::Number(ours)) => {
                let ours = ours
                    .as_i64()
                    .map(i128::from)
                    .or(ours.as_u64().map(i128::from));
                ours == Some(theirs)
            }
            (Self::Float(theirs), Value::Number(ours)) => {
                ours.is_f64() && ours.as_f64() == Some(theirs)
            }
            _ => false,
        }
    }

    fn spelled(self) -> String {
        match self {
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::Float(value) => float(value),
            Self::Null | Self::Text | Self::Merge | Self::Broken(_) => "null".to_owned(),
        }
    }
}

/// The radix and the digits of a whole number, those of `190:20:30` to the base 60; without its sign.
fn whole(word: &str) -> Option<(u32, String)> {
    let all = |digits: &str, of: &str| {
        !digits.is_empty() && digits.chars().all(|c| of.contains(c) || c == '_')
    };
    let plain = |digits: &str| digits.replace('_', "");
    if let Some(bits) = word.strip_prefix("0b") {
        return all(bits, "01").then(|| (2, plain(bits)));
    }
    if let Some(digits) = word.strip_prefix("0x") {
        return all(&digits.to_lowercase(), "0123456789abcdef").then(|| (16, plain(digits)));
    }
    if let Some(digits) = word.strip_prefix('0') {
        // `0_` is 0.
        let octal = || (8, format!("0{}", plain(digits)));
        return (digits.is_empty() || all(digits, "01234567")).then(octal);
    }
    let (first, rest) = word.split_once(':').unwrap_or((word, "0"));
    let is_decimal = first.starts_with(|c: char| c.is_ascii_digit()) && all(first, "0123456789");
    (is_decimal && rest.split(':').all(is_sixtieth)).then(|| (10, plain(word)))
}

/// Whether it is a digit of the base 60.
fn is_sixtieth(digits: &str) -> bool {
    match digits.as_bytes() {
        [ones] => ones.is_ascii_digit(),
        [tens, ones] => (b'0'..=b'5').contains(tens) && ones.is_ascii_digit(),
        _ => false,
    }
}

/// A number with a dot; without its sign.
fn fraction(word: &str) -> Option<f64> {
    let plain = word.replace('_', "");
    let (before, after) = word.split_once('.')?;
    if before.contains(':') {
        return sixtieths(before, after);
    }
    let (digits, exponent) = match after.split_once(['e', 'E']) {
        Some((digits, exponent)) => (digits, Some(exponent)),
        None => (after, None),
    };
    let is_exponent = |exponent: &str| {
        let digits = exponent.strip_prefix(['-', '+']).unwrap_or_default();
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    let is_digits = |digits: &str| {
        digits
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'_')
    };
    let begins = if before.is_empty() { digits } else { before };
    let begins = begins.starts_with(|c: char| c.is_ascii_digit());
    let is_number =
        begins && is_digits(before) && is_digits(digits) && exponent.is_none_or(is_exponent);
    is_number.then(|| plain.parse().ok()).flatten()
}

/// `190:20:30.15`, to the base 60.
fn sixtieths(before: &str, after: &str) -> Option<f64> {
    let (first, rest) = before.split_once(':')?;
    let is_digits = |digits: &str| {
        digits
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'_')
    };
    let is_number = first.starts_with(|c: char| c.is_ascii_digit()) && is_digits(first);
    if !(is_number && rest.split(':').all(is_sixtieth) && is_digits(after)) {
        return None;
    }
    let text = format!("{before}.{after}").replace('_', "");
    text.split(':').try_fold(0.0, |value, part| {
        Some(value * 60.0 + part.parse::<f64>().ok()?)
    })
}

/// Whether it begins as `2026-11-30` does, and is nothing but date and time.
fn is_date(word: &str) -> bool {
    let mut parts = word.splitn(3, '-');
    let (Some(year), Some(month), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (day, time) = rest.split_at(end);
    let is_day = year.len() == 4
        && month.len() <= 2
        && day.len() <= 2
        && [year, month, day].into_iter().all(digits);
    let is_time = time.contains(':')
        && time
            .bytes()
            .all(|byte| b"0123456789:.+- \tTtZz".contains(&byte));
    is_day && ((time.is_empty() && month.len() == 2 && day.len() == 2) || is_time)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What PyYAML 6.0 makes of words; `None` for a text.
    const WORDS: [(&str, Option<Meaning>); 62] = [
        ("yes", Some(Meaning::Bool(true))),
        ("Off", Some(Meaning::Bool(false))),
        ("ON", Some(Meaning::Bool(true))),
        ("oN", None),
        ("y", None),
        ("n", None),
        ("~", Some(Meaning::Null)),
        ("NULL", Some(Meaning::Null)),
        ("nULL", None),
        ("0", Some(Meaning::Int(0))),
        ("-0", Some(Meaning::Int(0))),
        ("+7", Some(Meaning::Int(7))),
        ("010", Some(Meaning::Int(8))),
        ("-010", Some(Meaning::Int(-8))),
        ("00", Some(Meaning::Int(0))),
        ("0_7", Some(Meaning::Int(7))),
        ("08", None),
        ("0o10", None),
        ("0x_fF", Some(Meaning::Int(255))),
        ("-0x10", Some(Meaning::Int(-16))),
        ("0xg", None),
        ("0X10", None),
        ("0b1_1", Some(Meaning::Int(3))),
        ("0b2", None),
        ("524_288", Some(Meaning::Int(524_288))),
        ("1_", Some(Meaning::Int(1))),
        ("_1", None),
        ("12:30", Some(Meaning::Int(750))),
        ("-190:20:30", Some(Meaning::Int(-685_230))),
        ("12:60", None),
        ("12:5", Some(Meaning::Int(725))),
        ("0:30", None),
        ("1:2:", None),
        (
            "9223372036854775808",
            Some(Meaning::Int(9_223_372_036_854_775_808)),
        ),
        ("1.", Some(Meaning::Float(1.0))),
        ("0.5", Some(Meaning::Float(0.5))),
        (".5", Some(Meaning::Float(0.5))),
        ("-.5", None),
        ("+.5", None),
        ("-0.5", Some(Meaning::Float(-0.5))),
        ("._5", None),
        ("1_0.5_0", Some(Meaning::Float(10.5))),
        ("1e-3", None),
        ("1E5", None),
        ("1.0e-3", Some(Meaning::Float(0.001))),
        ("1.e+3", Some(Meaning::Float(1000.0))),
        ("1.0e3", None),
        ("1.0E+3", Some(Meaning::Float(1000.0))),
        (".1e+2", Some(Meaning::Float(10.0))),
        ("1.0e+", None),
        ("190:20:30.5", Some(Meaning::Float(685_230.5))),
        ("0:30.5", Some(Meaning::Float(30.5))),
        ("1.2.3", None),
        ("1.5x", None),
        (".", None),
        ("-", None),
        ("+", None),
        ("inf", None),
        ("nan", None),
        ("-.INF", Some(Meaning::Float(f64::NEG_INFINITY))),
        ("2026-11-30x", None),
        ("1-2-3", None),
    ];

    #[test]
    fn words_mean_what_they_mean_to_pyyaml() {
        for (word, expected) in WORDS {
            let meaning = Meaning::of(word).filter(|meaning| *meaning != Meaning::Text);
            assert_eq!(meaning, expected, "{word}");
        }
        for date in [
            "2026-11-30",
            "2026-1-3T4:05:06",
            "2026-11-30 12:00:00.5 +1:00",
        ] {
            assert!(
                matches!(Meaning::of(date), Some(Meaning::Broken(_))),
                "{date}"
            );
        }
    }

    #[test]
    fn a_word_that_means_the_same_everywhere_is_no_trouble() {
        for word in [
            "true", "False", "null", "~", "8", "-3", "0x10", "0.001", "1.0e-7", ".5", "-1.5",
            "adam", "08", "1.2.3", "-x", "y",
        ] {
            assert_eq!(why_not(word), None, "{word}");
        }
    }

    #[test]
    fn another_is_refused_with_what_it_means_and_what_would_work() {
        for (word, parts) in [
            (
                "off",
                &[
                    "is false to W&B",
                    "the text \"off\" here",
                    "write false, or \"off\" in quotes",
                ][..],
            ),
            ("010", &["is 8 to W&B", "write 8"]),
            ("524_288", &["is 524288 to W&B", "write 524288"]),
            (
                "1e-3",
                &["is a text to W&B", "and 0.001 here", "write 0.001"],
            ),
            ("1e-7", &["write 1.0e-7"]),
            ("2.5e20", &["write 2.5e+20"]),
            ("0o17", &["is a text to W&B", "write 15"]),
            ("12:30", &["is 750 to W&B"]),
            (".inf", &["no finite number"]),
            ("1.0e+999", &["no finite number"]),
            (".nan", &["no finite number"]),
            ("<<", &["merges keys"]),
            ("2026-11-30", &["a date to W&B", "in quotes"]),
            (
                "999999999999999999999999999999999999999999",
                &["whole number"],
            ),
            ("99999999999999999999", &["W&B"]),
        ] {
            let why = why_not(word).unwrap_or_else(|| panic!("{word} is accepted"));
            for part in parts {
                assert!(
                    why.contains(part),
                    "`{part}` is missing for {word} in: {why}"
                );
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn no_word_is_too_odd(word in "[-+.0-9:_eExob~é<=T]{0,14}") {
            why_not(&word);
        }
    }
}
